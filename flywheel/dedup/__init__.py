"""Exact and near duplicates, prompt groups, overlap with evaluation prompts."""
