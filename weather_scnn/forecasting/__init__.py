"""Rollout of a trained model into a forecast store."""
