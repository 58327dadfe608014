"""Which candidates to judge next."""
