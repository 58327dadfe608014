"""The gate, the ledger, the champion and the stages before that."""

from flywheel.promotion.alerts import alert
from flywheel.promotion.evidence import evidence_of
from flywheel.promotion.gate import Decision, GateSettings, decide
from flywheel.promotion.ledger import Entry, Ledger
from flywheel.promotion.permission import Forbidden
from flywheel.promotion.stages import STAGES, advance, standing, stop
from flywheel.promotion.succession import (
    champion,
    decide_and_record,
    history,
    latest_decision,
    title_given,
    title_holder,
)
from flywheel.promotion.title import Champion
from flywheel.promotion.verdicts import approve, reject, rollback

__all__ = [
    "STAGES",
    "Champion",
    "Decision",
    "Entry",
    "Forbidden",
    "GateSettings",
    "Ledger",
    "advance",
    "alert",
    "approve",
    "champion",
    "decide",
    "decide_and_record",
    "evidence_of",
    "history",
    "latest_decision",
    "reject",
    "rollback",
    "standing",
    "stop",
    "title_given",
    "title_holder",
]
