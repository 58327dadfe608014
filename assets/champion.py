"""Whose the title is: a person's word where one is asked for, and the asset that shows it.

A run does not sleep until somebody has read. Where a promotion waits, its run ends with `champion`
not made and its check `approved` failing, which shows what there is to read; the word is an entry
of the ledger, from `flywheel approve` or the job `judge_challenger`; and `word_of_a_person` sees
it and goes on with what waited.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg
from pydantic import Field

from assets.evaluation import REPORT
from assets.pages import page_link
from assets.partitions import generations, ordered
from assets.promotion import GATE_DECISION
from assets.resources import Home
from flywheel.lineage import forbidden_by
from flywheel.process.settings import build
from flywheel.promotion import (
    GateSettings,
    approve,
    history,
    latest_decision,
    reject,
    rollback,
    title_given,
    title_holder,
)
from flywheel.promotion.verdicts import waiting_in
from flywheel.serve.settings import ServeSettings
from flywheel.turn import evaluation_of

CHAMPION = dg.AssetKey(["promotion", "champion"])
MODEL_CARD = dg.AssetKey(["promotion", "model_card"])
AFTER_THE_GATE = ("APPROVE", "DECLINE", "ADVANCE", "STOP", "ROLLBACK")

APPROVED = dg.AssetCheckSpec(
    "approved",
    asset=CHAMPION,
    description="A person's yes where one is asked for: fails while a promotion waits, with what "
    "there is to read, and on one that was declined.",
)


@dg.asset(
    key=CHAMPION,
    deps=[GATE_DECISION, MODEL_CARD],
    check_specs=[APPROVED],
    partitions_def=generations,
    group_name="promotion",
    kinds={"json"},
    output_required=False,
    description="The title of champion, with who gave it, when and why. Made once the ledger gives "
    "it; until then, and for who never gets it, the check `approved` says where it stands.",
)
def champion(
    context: dg.AssetExecutionContext, home: Home
) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
    """Read from the ledger whether this generation took the title."""
    layout, generation = home.layout, context.partition_key
    said = latest_decision(layout, generation) or {"decision": "nothing", "awaiting": False}
    others = waiting_in(history(layout))
    yield dg.AssetCheckResult(
        check_name=APPROVED.name,
        passed=not others and said["decision"] != "DECLINE",
        severity=dg.AssetCheckSeverity.WARN,
        metadata=_to_read(home, generation, said) | {"who_waits": ", ".join(others) or "nobody"},
    )
    holder = title_holder(layout)
    if holder is None or holder.generation != generation:
        where = "it waits for a person" if said["awaiting"] else said.get("stage") or "no stage"
        context.log.info(f"{generation} has no title: {said['decision']}; {where}")
        return
    given = title_given(layout, generation)
    yield dg.MaterializeResult(
        metadata={
            "by": given.by,
            "at": given.at,
            "why": "; ".join(given.reasons),
            "decision": given.action,
            "entry": given.number,
            "content_hash": given.content_hash,
            "dagster/uri": str(layout.root / holder.checkpoint),
        },
        data_version=dg.DataVersion(holder.content_hash),
    )


def _to_read(home: Home, generation: str, said: dict[str, Any]) -> dict[str, Any]:
    """What a person must see before deciding, and how to decide."""
    layout = home.layout
    reasons = "\n".join(f"- {one}" for one in said.get("reasons", ()))
    told = {
        "generation": generation,
        "decision": said["decision"],
        "reasons": dg.MetadataValue.md(reasons or "none"),
        "by": said.get("by", "nobody"),
        "at": said.get("at", "never"),
        "stage": said.get("stage") or "none",
        "report": page_link(layout, layout.evaluation(generation) / "report.html"),
        "model_card": dg.MetadataValue.path(str(layout.card("policy", generation))),
    }
    if not said["awaiting"]:
        return told
    policy = evaluation_of(layout, generation)["policy"]
    return told | {
        "win_rate": policy["win_rate"],
        "win_rate_low": policy["ci"][0],
        "win_rate_high": policy["ci"][1],
        "opponent": policy["opponent"],
        "groups_of_prompts": policy["groups"],
        "entry": said["number"],
        "to_decide": dg.MetadataValue.md(
            f"`flywheel approve {generation} --decision {said['number']} --by NAME --reason WHY`, "
            f"or `reject`; or the job `judge_challenger` here"
        ),
    }


class Verdict(dg.Config):
    """A person's word on a challenger that waits."""

    generation: str = Field(description="Which challenger, e.g. g0002.")
    verdict: str = Field(description="'approve' or 'reject'.")
    by: str = Field(description="Who decides: one of [gate] approvers, where there are any.")
    reason: str = Field(description="Why.")
    decision: int | None = Field(
        default=None, description="Entry of the ledger that was read; no later one is decided on."
    )


class Back(dg.Config):
    """Who takes the title back, and why."""

    by: str = Field(description="Who decides.")
    reason: str = Field(description="Why.")


@dg.op
def carry_out_verdict(context: dg.OpExecutionContext, config: Verdict, home: Home) -> None:
    """Enter a person's verdict into the ledger."""
    if config.verdict not in ("approve", "reject"):
        raise dg.Failure(f"verdict must be approve or reject, got {config.verdict!r}")
    options: dict[str, Any] = {
        "by": config.by,
        "reason": config.reason,
        "decision": config.decision,
        "approvers": build(GateSettings, home.settings("gate")).approvers,
    }
    if config.verdict == "approve":
        options["stages"] = build(ServeSettings, home.settings("serve")).stages
        options["forbidden"] = forbidden_by(home.layout, home.settings)
    act = approve if config.verdict == "approve" else reject
    entry = act(home.layout, config.generation, **options)
    context.log.info(f"{entry.action} by {entry.by}; the champion is {entry.champion or 'nobody'}")


@dg.op
def give_title_back(context: dg.OpExecutionContext, config: Back, home: Home) -> None:
    """Make the previous champion the champion again."""
    forbidden = forbidden_by(home.layout, home.settings)
    entry = rollback(home.layout, by=config.by, reason=config.reason, forbidden=forbidden)
    context.log.info(f"the champion is {entry.champion}")
    for told in entry.reasons[1:]:  # after the person's own
        context.log.warning(told)


@dg.job(description="Say yes or no to a challenger that waits for a person.")
def judge_challenger() -> None:
    """One op."""
    carry_out_verdict()


@dg.job(description="Make the previous champion the champion again.")
def rollback_champion() -> None:
    """One op."""
    give_title_back()


after_the_word = dg.define_asset_job(
    "after_the_word",
    selection=dg.AssetSelection.assets(CHAMPION, MODEL_CARD, REPORT),
    description="What waited for a person's word or a stage's end: model card, title and report.",
)


@dg.sensor(
    job=after_the_word,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def word_of_a_person(
    context: dg.SensorEvaluationContext, home: Home
) -> dg.SensorResult | dg.SkipReason:
    """Go on with a generation once something is said of it after the gate.

    The cursor is the number of the last entry of the ledger that was seen.
    """
    seen = int(context.cursor or 0)
    entries = history(home.layout)
    known = ordered(context.instance)
    newest = {
        one.generation: one
        for one in entries[seen:]
        if one.action in AFTER_THE_GATE and one.generation in known
    }
    if len(entries) == seen:
        return dg.SkipReason(f"nothing was said since entry {seen}")
    return dg.SensorResult(
        run_requests=[
            dg.RunRequest(run_key=f"entry-{one.number}", partition_key=one.generation)
            for one in newest.values()
        ],
        cursor=str(len(entries)),
    )
