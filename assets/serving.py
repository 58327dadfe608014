"""Serving: a challenger on its stage, judged by what it answers, as often as there is more."""

import dagster as dg

from assets.champion import CHAMPION
from assets.keys import SERVING_STAGE
from assets.resources import Home
from flywheel.lineage import forbidden_by
from flywheel.process.settings import build
from flywheel.promotion import alert, standing
from flywheel.serve.online import decide_stage
from flywheel.serve.settings import ServeSettings


@dg.asset(
    key=SERVING_STAGE,
    deps=[CHAMPION],
    group_name="promotion",
    kinds={"json"},
    description="The challenger on a stage, shadow or canary, against the champion on served "
    "traffic: stopped once it is shown to be worse, sent on once it is shown to be no worse. One "
    "state, for whoever is on a stage now.",
)
def serving_stage(context: dg.AssetExecutionContext, home: Home) -> dg.MaterializeResult:
    """Look at what was served, and enter what it shows into the ledger."""
    settings = build(ServeSettings, home.settings("serve"))
    forbidden = forbidden_by(home.layout, home.settings)
    seen, entry = decide_stage(home.layout, settings, forbidden)
    if seen is None:
        return dg.MaterializeResult(metadata={"stage": "nobody is on one"})
    context.log.info(f"{seen.generation} on {seen.stage}: {seen.verdict}; {seen.reasons[0]}")
    if entry and seen.verdict == "STOP":
        webhook = home.settings("automation").get("alert_webhook")
        told = {"at": entry.at, "job": "serve", "steps": [seen.stage], "message": seen.reasons[0]}
        alert(home.layout, told, webhook=webhook)
    facts = {name: value for name, value in seen.facts.items() if value is not None}
    return dg.MaterializeResult(metadata=facts | {"entry": entry.number if entry else "none"})


look_at_stage = dg.define_asset_job(
    "look_at_stage",
    selection=dg.AssetSelection.assets(SERVING_STAGE),
    description="Judge the challenger on a stage by what was served since it is there.",
)


@dg.sensor(
    job=look_at_stage,
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def more_was_served(
    context: dg.SensorEvaluationContext, home: Home
) -> dg.RunRequest | dg.SkipReason:
    """Look again where anything was served or said since the last look."""
    _, staged = standing(home.layout)
    if staged is None:
        return dg.SkipReason("nobody is on a stage")
    logs = sorted(home.layout.served.glob("**/[0-9]*.jsonl"))
    written = f"{staged.number}:{sum(path.stat().st_size for path in logs)}"
    if written == context.cursor:
        return dg.SkipReason("nothing was served since the last look")
    context.update_cursor(written)
    return dg.RunRequest(run_key=written)
