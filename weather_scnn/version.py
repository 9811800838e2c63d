"""The package's version, written into every derived file."""

__version__ = "0.1.0"
