"""Frozen training data: manifests, and a conversation rendered into tokens and loss spans."""
