"""Held-out prompts, graders, intervals, reports."""
