"""Experiments: one module each, with get_config()."""
