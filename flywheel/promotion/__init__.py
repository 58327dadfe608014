"""The gate, the ledger and the champion."""
