"""Intervals, tests that may be looked at early, ratings: what numbers allow to be said."""
