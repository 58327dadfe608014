"""Promotion: the gate, and what a turn came to; whose the title is, see `assets.champion`."""

import time
from functools import partial

import dagster as dg

from assets.evaluation import HELD_OUT
from assets.pages import page_link
from assets.partitions import generations
from assets.resources import Home
from flywheel.evaluate.sets.registry import check_newest
from flywheel.lineage import INVARIANT, against_its_use, reading_of
from flywheel.process.launch import write_json
from flywheel.process.settings import build
from flywheel.promotion import (
    GateSettings,
    decide,
    decide_and_record,
    evidence_of,
    history,
    latest_decision,
    title_holder,
)
from flywheel.serve.settings import ServeSettings
from flywheel.turn import evaluation_of, summarize

GATE_DECISION = dg.AssetKey(["promotion", "gate_decision"])
TURN_RESULT = dg.AssetKey(["promotion", "turn_result"])
STARTED_AT = "flywheel/started_at"


@dg.asset(
    key=GATE_DECISION,
    deps=[HELD_OUT],
    partitions_def=generations,
    group_name="promotion",
    kinds={"json"},
    description="PROMOTE, HOLD or REJECT with reasons, entered into the append-only ledger; the "
    "champion changes with it, or it waits for a person, or goes through stages first. One "
    "decision per generation.",
)
def gate_decision(context: dg.AssetExecutionContext, home: Home) -> dg.MaterializeResult:
    """Judge the challenger by its evaluation and write the decision down."""
    layout, generation = home.layout, context.partition_key
    settings = build(GateSettings, home.settings("gate"))
    result = evaluation_of(layout, generation)
    evidence_of(result)  # whole, before any of it is asked
    check_newest(layout, result["evaluation_sets"])
    if told := against_its_use(layout, f"policy/{generation}", reading_of(home.settings)):
        result["broken_invariants"] = result["broken_invariants"] | {INVARIANT: told}
    decide_and_record(
        layout,
        generation,
        partial(decide, result, settings),
        content_hash=result["policy_content_hash"],
        compared_with=result["champion_content_hash"],
        human_approval=settings.human_approval,
        stages=build(ServeSettings, home.settings("serve")).stages,
        look=result["look"],
    )
    holder = title_holder(layout)
    said = latest_decision(layout, generation) or {}  # a person may have spoken since
    context.log.info(f"{said['decision']}: {'; '.join(said['reasons'])}")
    return dg.MaterializeResult(
        metadata={
            "decision": said["decision"],
            "reasons": dg.MetadataValue.md("\n".join(f"- {one}" for one in said["reasons"])),
            "awaits_a_person": said["awaiting"],
            "stage": said["stage"] or "none",
            "entry": said["number"],
            "report": page_link(layout, layout.evaluation(generation) / "report.html"),
            "champion": holder.generation if holder else "none yet",
            "ledger": dg.MetadataValue.md(_ledger_table(home)),
        }
    )


@dg.asset(
    key=TURN_RESULT,
    deps=[
        GATE_DECISION,
        dg.AssetKey(["promotion", "model_card"]),
        dg.AssetKey(["collection", "annotation_queue"]),
    ],
    partitions_def=generations,
    group_name="promotion",
    kinds={"json"},
    description="What one turn of the wheel came to, as `turn.json`. One result per generation.",
)
def turn_result(context: dg.AssetExecutionContext, home: Home) -> dg.MaterializeResult:
    """Gather the numbers of this generation into one file."""
    layout, generation = home.layout, context.partition_key
    started = float(context.run.tags.get(STARTED_AT) or _run_start(context))
    summary = summarize(
        layout,
        generation,
        started_at=started,
        total_seconds=time.time() - started,
        seconds_by_stage=_seconds_by_stage(context),
    )
    write_json(layout.turn_result, summary)
    return dg.MaterializeResult(
        metadata={
            "turn": dg.MetadataValue.json(summary),
            "dagster/uri": str(layout.turn_result),
            "seconds": summary["seconds"]["total"],
            "orchestration_frac": summary["orchestration_frac"],
        }
    )


def _ledger_table(home: Home) -> str:
    rows = "\n".join(
        f"| {one.number} | {one.at} | {one.action} | {one.generation} | {one.by} "
        f"| {one.champion or ''} | {'; '.join(one.reasons)} |"
        for one in history(home.layout)
    )
    return "| | at | what | generation | by | champion | why |\n|--|--|--|--|--|--|--|\n" + rows


def _run_start(context: dg.AssetExecutionContext) -> float:
    stats = context.instance.get_run_stats(context.run.run_id)
    return float(stats.start_time or time.time())


def _seconds_by_stage(context: dg.AssetExecutionContext) -> dict[str, float]:
    """Seconds of the steps of this run so far, by the group of what they make."""
    groups = {"staging_models": "staging", "mart_models": "marts", "evaluation_models": "marts"}
    groups |= {"duplicates": "quality", "label_weights": "quality"}
    seconds: dict[str, float] = {}
    for one in context.instance.get_run_step_stats(context.run.run_id):
        if one.start_time and one.end_time:
            stage = groups.get(one.step_key, one.step_key.split("__")[0])
            seconds[stage] = seconds.get(stage, 0.0) + one.end_time - one.start_time
    return seconds
