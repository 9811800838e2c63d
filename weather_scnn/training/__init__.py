"""Rollout training: loss, optimiser, sharding, checkpoints, the loop."""
