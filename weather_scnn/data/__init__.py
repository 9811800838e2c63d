"""Old names of modules that configurations written before 0.2 import; they go in 0.3."""
