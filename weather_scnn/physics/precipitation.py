"""Precipitation: what counts as dry."""

#: Metres below which a total over so many hours counts as dry, in SEEPS (Rodwell et al. 2010) as WeatherBench 2 has it.
DRY_METRES = {6: 0.1e-3, 24: 0.25e-3}
