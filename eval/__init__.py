"""Scores of forecasts: metrics, baselines, regions, the scoring job, the report."""
