"""The layers on other problems than weather; each example is run from a checkout, `python -m examples.NAME`."""
