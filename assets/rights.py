"""What people are owed after training: erasure, logs that go after their time, a champion whose
data may still be used. Looked after every night, or at once by the job `erase_records`."""

import dagster as dg
from pydantic import Field

from assets.champion import CHAMPION
from assets.keys import SERVED_LOG
from assets.resources import Home
from flywheel.erasure.retention import forget_served
from flywheel.erasure.run import erase, finish_pending
from flywheel.lineage import against_its_use, reading_of
from flywheel.process.settings import build
from flywheel.promotion import title_holder
from flywheel.serve.settings import ServeSettings

MAY_BE_USED = dg.AssetCheckSpec(
    "data_may_still_be_used",
    asset=CHAMPION,
    description="What the champion was trained on, its ancestors' data included, allows what "
    "[licences] use asks for as of today: no consent was withdrawn since, and nothing erased.",
)
STILL_USED = dg.AssetSelection.checks(MAY_BE_USED.key)


@dg.multi_asset_check(name="data_may_still_be_used", specs=[MAY_BE_USED])
def data_may_still_be_used(home: Home) -> dg.AssetCheckResult:
    """Ask the lineage about who holds the title now."""
    holder = title_holder(home.layout)
    told = ""
    if holder:
        reading = reading_of(home.settings)
        told = against_its_use(home.layout, f"policy/{holder.generation}", reading)
    return dg.AssetCheckResult(
        check_name=MAY_BE_USED.name,
        asset_key=CHAMPION,
        passed=not told,
        description=told or None,
        metadata={
            "champion": holder.generation if holder else "none yet",
            "policy": build(ServeSettings, home.settings("serve")).forbidden,
        },
    )


@dg.asset(
    key=SERVED_LOG,
    deps=[CHAMPION],
    group_name="promotion",
    kinds={"json"},
    description="What was served and said of it, kept as long as [serve] keep_days says. One line "
    "per answer.",
)
def served_log(context: dg.AssetExecutionContext, home: Home) -> dg.MaterializeResult:
    """Finish an erasure that was cut off, and remove the lines whose time is over."""
    layout, key_file = home.layout, home.settings("personal_data").get("key_file", "")
    finished = finish_pending(layout, key_file=key_file, log=context.log.info)
    entry = forget_served(layout, build(ServeSettings, home.settings("serve")))
    files = list(layout.served.glob("[0-9]*.jsonl"))
    return dg.MaterializeResult(
        metadata={
            "files": len(files),
            "bytes": sum(path.stat().st_size for path in files),
            "removed": dg.MetadataValue.json(entry.removed if entry else {}),
            "kept_for_a_stage": dg.MetadataValue.json(entry.left if entry else []),
            "erasure_finished": finished.number if finished else "none was cut off",
            "dagster/uri": str(layout.served),
        }
    )


class Asked(dg.Config):
    """What is to be erased, who asks for it, and why."""

    what: str = Field(description="record, annotator, user or subject.")
    name: str = Field(description="Its id, or the person's name.")
    by: str = Field(description="Who asks for it.")
    reason: str = Field(description="Why.")


@dg.op
def take_out(context: dg.OpExecutionContext, config: Asked, home: Home) -> None:
    """Erase, and say what went, which checkpoints had seen it, and what is left."""
    entry = erase(
        home.layout,
        config.what,
        config.name,
        by=config.by,
        reason=config.reason,
        key_file=home.settings("personal_data").get("key_file", ""),
        log=context.log.info,
    )
    context.add_output_metadata(
        {
            "entry": entry.number,
            "removed": dg.MetadataValue.json(entry.removed),
            "checkpoints": dg.MetadataValue.json(entry.checkpoints),
            "descendants": dg.MetadataValue.json(entry.descendants),
            "left": dg.MetadataValue.json(entry.left),
        }
    )


@dg.job(
    description="Take a record, or all of a person, out of this home. The name stands in the "
    "run's configuration, which Dagster keeps: `flywheel erase` leaves it nowhere."
)
def erase_records() -> None:
    """One op."""
    take_out()


look_after_rights = dg.define_asset_job(
    "look_after_rights",
    selection=dg.AssetSelection.assets(SERVED_LOG) | STILL_USED,
    description="Finish erasures, let served logs go after their time, hold the champion against "
    "the consents of today.",
)


@dg.schedule(
    job=look_after_rights,
    cron_schedule="30 1 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def nightly_rights(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Look after rights every night at 01:30 UTC, before the warehouse is rebuilt."""
    return dg.RunRequest(run_key=f"rights-{context.scheduled_execution_time:%Y-%m-%d}")
