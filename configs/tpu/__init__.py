"""Experiments for slices of TPUs; docs/tpu.md says how to run them."""
