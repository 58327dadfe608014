"""The gate, the ledger and the champion."""

from flywheel.promotion.alerts import alert
from flywheel.promotion.gate import Decision, GateSettings, decide
from flywheel.promotion.ledger import Entry, Ledger
from flywheel.promotion.succession import (
    approve,
    challenger_number,
    champion,
    decide_and_record,
    history,
    latest_decision,
    reject,
    rollback,
    title_holder,
)
from flywheel.promotion.title import Champion

__all__ = [
    "Champion",
    "Decision",
    "Entry",
    "GateSettings",
    "Ledger",
    "alert",
    "approve",
    "challenger_number",
    "champion",
    "decide",
    "decide_and_record",
    "history",
    "latest_decision",
    "reject",
    "rollback",
    "title_holder",
]
