"""When things happen by themselves: landing, the nightly build, retraining, alerts, freshness.

Sensors and schedules start running with the daemon (`make ui` starts it). What they decide on is
kept in files and in the event log, never in a process: a restart forgets nothing.
"""

import json
import time
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import dagster as dg

from assets.champion import CHAMPION
from assets.documentation import LANDED_LATELY
from assets.keys import DBT_DOCS, SERVED_LOG, SERVING_STAGE, STEP_REWARD_CARD, STEP_REWARD_MODEL
from assets.partitions import add, generations, name_after, ordered
from assets.resources import Home
from assets.rights import STILL_USED
from assets.storage import end_dead_runs
from flywheel.datasets.manifest import DatasetManifest
from flywheel.errors import ManifestError, SettingsError, StoreError
from flywheel.ingest import latest_batch_number, pending_files, read_batches
from flywheel.ingest.formats import RAW
from flywheel.promotion import alert
from flywheel.stores import new_objects

RUNNING = dg.DefaultSensorStatus.RUNNING
STATUS = dg.DagsterRunStatus
UNFINISHED = [
    STATUS.QUEUED,
    STATUS.NOT_STARTED,
    STATUS.STARTING,
    STATUS.STARTED,
    STATUS.CANCELING,
]
FINISHED = [STATUS.SUCCESS, STATUS.FAILURE, STATUS.CANCELED]
JUDGEMENTS = ("comparison", "ranking", "rating", "critique", "rubric_score", "interaction", RAW)
QUIET_SECONDS = 30.0  # nobody waits for what happens by itself, so slow writers get their time
WHEN_QUIET = {"ops": {"landing": {"config": {"quiet_seconds": QUIET_SECONDS}}}}

FRESHNESS = dg.AssetSelection.checks(*(spec.key for spec in LANDED_LATELY))

land_inbox = dg.define_asset_job(
    "land_inbox",
    selection=dg.AssetSelection.groups("landing") - FRESHNESS,
    description="Take in whatever lies in the inbox.",
)
rebuild_warehouse = dg.define_asset_job(
    "rebuild_warehouse",
    selection=dg.AssetSelection.groups("staging", "intermediate", "quality", "marts") | FRESHNESS,
    description="dbt, deduplication, dbt: from what landed to the marts, and their documentation.",
)
document_warehouse = dg.define_asset_job(
    "document_warehouse",
    selection=dg.AssetSelection.assets(DBT_DOCS),
    description="dbt's pages of the warehouse.",
)
turn = dg.define_asset_job(
    "turn",
    selection=dg.AssetSelection.all()
    - dg.AssetSelection.assets(STEP_REWARD_MODEL, STEP_REWARD_CARD, DBT_DOCS)
    - dg.AssetSelection.assets(SERVING_STAGE, SERVED_LOG)
    - FRESHNESS
    - STILL_USED,
    description="One whole turn of the wheel: a new generation from landing to promotion.",
)
step_reward = dg.define_asset_job(
    "step_reward",
    selection=dg.AssetSelection.assets(STEP_REWARD_MODEL, STEP_REWARD_CARD),
    description="A process reward model for a generation that has taken its turn.",
)


def in_flight(home: Home, instance: dg.DagsterInstance, job: str | None = None) -> bool:
    """Whether a run (of one job) is under way or waits; a run whose process is gone is neither."""
    end_dead_runs(home.layout, instance)
    wanted = dg.RunsFilter(job_name=job, statuses=UNFINISHED)
    return bool(instance.get_runs(wanted, limit=1))


@dg.sensor(job=land_inbox, minimum_interval_seconds=120, default_status=RUNNING)
def new_files_in_the_inbox(
    context: dg.SensorEvaluationContext, home: Home
) -> dg.RunRequest | dg.SkipReason:
    """Land new files within minutes of their delivery; where that failed, try again.

    Inboxes in object stores are listed every `[storage] poll_seconds`; the cursor is the time when
    they were listed last.
    """
    if in_flight(home, context.instance):
        return dg.SkipReason("a run is in flight")
    pending = pending_files(home.layout, QUIET_SECONDS)
    objects = _new_in_stores(context, home)
    if not pending and not objects:
        return dg.SkipReason("nothing new in the inbox")
    key = _delivery(pending, objects, context.instance)
    return dg.RunRequest(run_key=key, run_config=WHEN_QUIET)


def _new_in_stores(context: dg.SensorEvaluationContext, home: Home) -> list[str]:
    storage, now = home.storage, time.time()
    if not storage.inbox or 0 <= now - float(context.cursor or 0) < storage.poll_seconds:
        return []
    context.update_cursor(str(now))
    try:
        return new_objects(home.layout, storage)
    except StoreError as error:
        context.log.warning(str(error))
        return []


def _delivery(files: list[Path], objects: list[str], instance: dg.DagsterInstance) -> str:
    """A name for these files as they lie there after the last landing: Dagster runs it once."""
    ended = dg.RunsFilter(job_name=land_inbox.name, statuses=FINISHED)
    last = [run.run_id for run in instance.get_runs(ended, limit=1)]
    states = [(str(path), path.stat()) for path in sorted(files)]
    facts = [(path, state.st_size, state.st_mtime_ns) for path, state in states]
    return sha256(json.dumps([last, facts, objects]).encode()).hexdigest()


def trained_through(home: Home, known: list[str]) -> int:
    """Number of the newest batch in the dataset of a generation; 0 where none was frozen."""
    for generation in reversed(known):
        try:
            return DatasetManifest.load(
                home.layout.dataset("preference", generation)
            ).trained_through_batch
        except ManifestError:
            continue  # a generation that never froze its data used none
    return 0


def fresh_judgements(home: Home, seen: int) -> int:
    """Judgements in batches after number `seen`; a row of a raw source counts as one."""
    return sum(
        batch.new_rows_by_kind.get(kind, 0)
        for batch in read_batches(home.layout)
        if batch.number > seen
        for kind in JUDGEMENTS
    )


def request_turn(known: list[str], cursor: str | None = None) -> dg.SensorResult:
    """Ask for the generation after `known`: a new partition and a run of it."""
    generation = name_after(known)
    return dg.SensorResult(
        dynamic_partitions_requests=[generations.build_add_request([generation])],
        run_requests=[
            dg.RunRequest(run_key=generation, partition_key=generation, run_config=WHEN_QUIET)
        ],
        cursor=cursor,
    )


@dg.sensor(job=turn, minimum_interval_seconds=60, default_status=RUNNING)
def enough_new_feedback(
    context: dg.SensorEvaluationContext, home: Home
) -> dg.SensorResult | dg.SkipReason:
    """Start a generation once enough judgements have landed since the last one.

    The cursor holds the newest batch a turn was *asked* for, so that a failed run is re-executed
    by a person and not started again at every tick.
    """
    if in_flight(home, context.instance):
        return dg.SkipReason("a run is in flight")
    needed = home.settings("automation").get("min_new_judgements", 500)
    known = ordered(context.instance)
    seen, newest = trained_through(home, known), latest_batch_number(home.layout)
    rows = fresh_judgements(home, seen)
    if newest <= int(context.cursor or 0) or rows < needed:
        return dg.SkipReason(f"{rows} of {needed} new judgements since batch {seen}")
    return request_turn(known, cursor=str(newest))


@dg.schedule(
    job=rebuild_warehouse,
    cron_schedule="0 2 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def nightly_build(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Rebuild the warehouse every night at 02:00 UTC."""
    return dg.RunRequest(run_key=f"nightly-{context.scheduled_execution_time:%Y-%m-%d}")


@dg.schedule(job=turn, cron_schedule="0 4 * * 0", default_status=dg.DefaultScheduleStatus.RUNNING)
def weekly_turn(context: dg.ScheduleEvaluationContext, home: Home) -> dg.RunRequest | dg.SkipReason:
    """Take a turn every Sunday at 04:00 UTC where anything at all landed since the last one.

    Other work than a turn does not put it off for a week: pools keep the two apart.
    """
    if in_flight(home, context.instance, turn.name):
        return dg.SkipReason("a turn is in flight")
    known = ordered(context.instance)
    seen = trained_through(home, known)
    if latest_batch_number(home.layout) <= seen:
        return dg.SkipReason(f"nothing has landed since batch {seen}")
    generation = name_after(known)
    add(context.instance, generation)
    return dg.RunRequest(
        run_key=f"weekly-{context.scheduled_execution_time:%Y-%m-%d}",
        partition_key=generation,
        run_config=WHEN_QUIET,
    )


@dg.run_failure_sensor(default_status=RUNNING, minimum_interval_seconds=30)
def alert_on_failure(context: dg.RunFailureSensorContext, home: Home) -> None:
    """Tell people of a launched run that failed; one that a command drives is told by `drive`."""
    steps = [event.step_key for event in context.get_step_failure_events() if event.step_key]
    run = context.dagster_run
    tell_of_failure(home, run.run_id, run.job_name, steps, context.failure_event.message or "")
    context.log.error(json.dumps({"failed_steps": steps}))


def tell_of_failure(home: Home, run_id: str, job: str, steps: list[str], message: str) -> None:
    """Write one line to alerts.jsonl, and post it to the webhook where one is set."""
    try:
        webhook = home.settings("automation").get("alert_webhook")
    except SettingsError:
        webhook = None  # settings that cannot be read may be what failed: tell of it in the file
    alert(
        home.layout,
        {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "run_id": run_id,
            "job": job,
            "steps": steps,
            "message": message,
        },
        webhook=webhook,
    )


FRESH = {
    "landing": dg.FreshnessPolicy.time_window(
        warn_window=timedelta(days=2), fail_window=timedelta(days=7)
    ),
    "marts": dg.FreshnessPolicy.time_window(
        warn_window=timedelta(hours=36), fail_window=timedelta(days=3)
    ),
    "promotion": dg.FreshnessPolicy.time_window(
        warn_window=timedelta(days=8), fail_window=timedelta(days=15)
    ),
}
OWNERS = {
    "landing": "team:data-platform",
    "staging": "team:data-platform",
    "intermediate": "team:data-platform",
    "quality": "team:data-quality",
    "marts": "team:data-platform",
}


WHEN_IT_COMES = {CHAMPION, SERVING_STAGE}  # made once there is something to tell: never overdue


def with_policy(spec: dg.AssetSpec) -> dg.AssetSpec:
    """Give one asset its owner and its freshness policy, by group."""
    group = spec.group_name or ""
    spec = spec.replace_attributes(owners=[OWNERS.get(group, "team:post-training")])
    is_due = group in FRESH and spec.key not in WHEN_IT_COMES
    return dg.apply_freshness_policy(spec, FRESH[group]) if is_due else spec
