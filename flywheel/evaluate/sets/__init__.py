"""Evaluation sets: their rows, the registry of their versions, and what leaks out of them."""
