"""Measurements, never tests: `make bench [BENCH=group]`, as ratios to a peer of the same run."""
