"""The sample world of `make run`: a refund desk, its writers, simulated annotators, hidden gold."""
