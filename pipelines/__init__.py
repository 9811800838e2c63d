"""Beam jobs that prepare data, and the idealised nature run."""
