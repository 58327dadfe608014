"""Why a step failed, in words for people: what our own error says, or what a check found."""

import re
from collections.abc import Sequence

import dagster as dg
from dagster import DagsterEvent, DagsterEventType

OWN = re.compile(r"\bflywheel\.errors\.\w+: ")  # what Python puts before a message of ours


def reason_of(failure: DagsterEvent, events: Sequence[DagsterEvent], checks: dg.Definitions) -> str:
    """What the step of `failure` died of.

    Args:
        failure: A STEP_FAILURE event.
        events: All events of the run; the results of the step's checks are among them.
        checks: Where the checks are defined.
    """
    error = failure.step_failure_data.error
    if error and error.cls_name == "DagsterAssetCheckFailedError":
        return "\n".join(_found_by(one, checks) for one in _failed(failure.step_key, events))
    while error and error.cause and not OWN.match(error.message):
        error = error.cause  # ours names the remedy; where there is none, the innermost
    return OWN.sub("", error.message.strip()) if error else "?"


def _failed(step: str | None, events: Sequence[DagsterEvent]) -> list[dg.AssetCheckEvaluation]:
    """The results of a step's checks that stopped it."""
    results = [
        event.asset_check_evaluation_data
        for event in events
        if event.event_type == DagsterEventType.ASSET_CHECK_EVALUATION and event.step_key == step
    ]
    severe = [one for one in results if one.severity == dg.AssetCheckSeverity.ERROR]
    return [one for one in severe if one.blocking and not one.passed]


def _found_by(one: dg.AssetCheckEvaluation, checks: dg.Definitions) -> str:
    """What a check that failed says itself; else what it asks for, and the numbers it found."""
    if one.description:
        return one.description
    spec = checks.resolve_asset_graph().get_check_spec(one.asset_check_key)
    numbers = ", ".join(f"{name} {value.value}" for name, value in one.metadata.items())
    return (
        f"the check {one.check_name} of {one.asset_key.to_user_string()} does not hold: "
        f"{spec.description} Found: {numbers or 'nothing more'}"
    )
