"""The report: curves, maps, an animation and a scorecard in one HTML page that works offline."""
