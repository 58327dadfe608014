"""Parquet folders: append a batch, publish atomically, read."""
