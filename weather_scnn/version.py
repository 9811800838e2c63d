"""The package's version, written into every derived file."""

__version__ = "0.2.0"
