"""What variables are: their names in every kind of source, units, kinds and plausible ranges."""
