"""Foreign formats to records: one module a format; batches, quarantine, nothing lost."""
