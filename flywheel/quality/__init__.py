"""Great Expectations suites per kind, run on every batch."""
