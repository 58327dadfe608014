"""Take a turn from a program: the same job that the UI and the schedules run, in this process."""

import fcntl
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any

import dagster as dg
from sqlalchemy.exc import DBAPIError

from assets.automation import document_warehouse, land_inbox, tell_of_failure, turn
from assets.failures import reason_of
from assets.partitions import add, name_after, ordered
from assets.promotion import STARTED_AT
from assets.resources import Home
from assets.storage import driven, instance_of
from assets.stores import keep
from flywheel.datasets.manifest import DatasetManifest
from flywheel.errors import FlywheelError, ManifestError, SettingsError, StoreError
from flywheel.ingest import latest_batch_number, pending_files
from flywheel.layout import Layout
from flywheel.promotion import latest_decision
from flywheel.stores import store_facts

# How `--budget-minutes` is divided. What is left, a fifth, is for landing, dbt, starting processes
# and loading models. The stages divide their own in flywheel/train/config.py (steps, held-out
# rows, DPO's reference), flywheel/evaluate/settings.py and flywheel/collect/settings.py.
BUDGET_FRAC = {
    "training__sft_policy": 0.15,
    "training__reward_model": 0.15,
    "training__policy": 0.18,
    "evaluation__held_out_evaluation": 0.22,
    "collection__annotation_queue": 0.10,
}
JUST_TRIED = 60.0  # seconds: a store that failed the run's own step is not waited for again
Progress = Callable[[str, str], None]  # step, what it does: "started", "done", "failed"


@contextmanager
def only_one(layout: Layout, what: str) -> Iterator[None]:
    """Refuse to drive two turns of one home at once; a killed one leaves no lock behind.

    Raises:
        SettingsError: Another process drives this home.
    """
    path = layout.root / "turn.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise SettingsError(
                f"cannot {what}: another process ({lock.read() or 'starting'}) is at work in "
                f"{layout.root}; wait for it to end, or use another home (FLYWHEEL_HOME)"
            ) from None
        lock.truncate(0)
        lock.write(f"{what}, since {time.strftime('%H:%M:%S')}")
        lock.flush()
        yield


def next_generation(layout: Layout, instance: dg.DagsterInstance) -> str:
    """The newest generation where its turn was cut off and nothing came since; else a new one."""
    known = ordered(instance)
    if not known or latest_decision(layout, known[-1]):
        return name_after(known)
    try:
        frozen = DatasetManifest.load(layout.dataset("preference", known[-1]))
    except ManifestError:
        return known[-1]
    fresh = latest_batch_number(layout) > frozen.trained_through_batch
    return name_after(known) if fresh or pending_files(layout) else known[-1]


def take_turn(
    home: Home,
    *,
    generation: str | None = None,
    base_model: str | None = None,
    seed: int | None = None,
    budget_minutes: float | None = None,
    started_at: float | None = None,
    progress: Progress = lambda step, state: None,
) -> str:
    """Run the job `turn` for one generation to its end and return the generation.

    Raises:
        FlywheelError: A step failed; the message is that of the step.
    """
    layout = home.layout
    with only_one(layout, "take a turn"), instance_of(layout) as instance:
        generation = generation or next_generation(layout, instance)
        add(instance, generation)
        _run(
            turn.name,
            instance,
            progress,
            resources=home,
            partition_key=generation,
            tags={STARTED_AT: str(started_at or time.time())},
            run_config=_run_config(base_model, seed, budget_minutes),
        )
    return generation


def land_now(
    home: Home,
    paths: list[str],
    *,
    file_format: str = "auto",
    source: str | None = None,
    progress: Progress = lambda step, state: None,
) -> None:
    """Run the job `land_inbox` on `paths` (none: the inbox), as its sensor would.

    Raises:
        FlywheelError: Landing failed; the message says why.
    """
    config = {"paths": paths, "format": file_format, "source": source}
    with instance_of(home.layout) as instance:
        _run(
            land_inbox.name,
            instance,
            progress,
            resources=home,
            run_config={"ops": {"landing": {"config": config}}},
        )


def document_now(home: Home, progress: Progress) -> None:
    """Write dbt's pages of the warehouse.

    Raises:
        FlywheelError: dbt failed; the message says why.
    """
    with instance_of(home.layout) as instance:
        _run(document_warehouse.name, instance, progress, resources=home, run_config={})


def _run_config(
    base_model: str | None, seed: int | None, budget_minutes: float | None
) -> dict[str, Any]:
    """Knobs of the steps: seed, base model, and of a budget each step's share."""
    steps: dict[str, dict[str, Any]] = {name: {"seed": seed} for name in BUDGET_FRAC}
    steps["collection__annotation_queue"] = {}
    steps["training__base_policy"] = {"base_model": base_model, "seed": seed}
    if budget_minutes:
        for name, frac in BUDGET_FRAC.items():
            steps[name]["budget_seconds"] = 60 * budget_minutes * frac
    return {"ops": {name: {"config": config} for name, config in steps.items()}}


def _run(
    job: str,
    instance: dg.DagsterInstance,
    progress: Progress,
    *,
    resources: Home,
    run_config: dict[str, Any],
    **arguments: Any,
) -> None:
    from assets.definitions import defs

    config = {**run_config, "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    run_id = str(uuid.uuid4())
    ended = threading.Event()
    with _stop_requests() as asked:
        watcher = threading.Thread(target=_watch, args=(instance, run_id, progress, ended, asked))
        watcher.start()
        try:
            with (
                driven(resources.layout, instance, run_id),
                (resources.layout.root / "dbt.log").open("a") as log,
                redirect_stdout(log),
            ):
                result = defs.resolve_job_def(job).execute_in_process(
                    instance=instance,
                    run_id=run_id,
                    raise_on_error=False,
                    run_config=config,  # the event log has it all; the terminal shows progress
                    resources={**(defs.resources or {}), "home": resources},
                    **arguments,
                )
        finally:
            ended.set()
            watcher.join()
        if not asked():
            _keep(resources)
        if result.success:
            return
        if asked() == signal.SIGINT:
            raise KeyboardInterrupt
        if asked():
            sys.exit(128 + asked())  # what a shell reports of a process that a signal ended
        message = _failure(result, run_id)
        failed = [str(event.step_key) for event in result.all_events if event.is_step_failure]
        with suppress(OSError):  # on a full disk the terminal is all that is left
            tell_of_failure(resources, run_id, job, failed, message)
        raise FlywheelError(message)


@contextmanager
def _stop_requests() -> Iterator[Callable[[], int]]:
    """Hear SIGINT and SIGTERM during a run: gives the last that came, 0 where none did.

    Dagster takes both handlers for the length of a run, and leaves SIGTERM with that of SIGINT,
    which a shell in the background had switched off.
    """
    handler, heard = signal.getsignal(signal.SIGTERM), [0]
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def last() -> int:
        with suppress(BlockingIOError):
            heard.extend({signal.SIGINT, signal.SIGTERM}.intersection(os.read(reader, 4096)))
        return heard[-1]

    try:
        yield last
    finally:
        signal.set_wakeup_fd(before)
        signal.signal(signal.SIGTERM, handler)
        os.close(reader)
        os.close(writer)


def _watch(
    instance: dg.DagsterInstance,
    run_id: str,
    progress: Progress,
    ended: threading.Event,
    asked: Callable[[], int],
) -> None:
    """Tell `progress` of each step as the event log does.

    A step that starts although a stop was asked for is asked again: the request reached a
    library that made a plain failure of it (DuckDB does), and Dagster went on beside that.
    """
    states = {
        dg.DagsterEventType.STEP_START: "started",
        dg.DagsterEventType.STEP_SUCCESS: "done",
        dg.DagsterEventType.STEP_FAILURE: "failed",
    }
    cursor = None
    while True:
        last = ended.wait(0.5)
        try:
            page = instance.get_records_for_run(run_id, cursor=cursor, of_type=set(states))
        except DBAPIError:  # a full disk, of which the run itself tells
            if last:
                return
            continue
        cursor = page.cursor
        for record in page.records:
            event = record.event_log_entry.get_dagster_event()
            if asked() and event.event_type == dg.DagsterEventType.STEP_START and not last:
                os.kill(os.getpid(), signal.SIGTERM)
            progress(str(event.step_key), states[event.event_type])
        if last:
            return


def _keep(home: Home) -> None:
    """Copy to the store what the run left waiting; where that fails, `flywheel status` says so."""
    facts = store_facts(home.layout)
    just_tried = facts and time.time() - facts["trouble_at"] < JUST_TRIED
    if not facts or (facts["waiting"] and not just_tried):
        with suppress(StoreError):
            keep(home, log=lambda line: None)


def _failure(result: dg.ExecuteInProcessResult, run_id: str) -> str:
    """What the first failed step died of."""
    from assets.definitions import defs

    for event in result.all_events:
        if event.is_step_failure:
            reason = reason_of(event, result.all_events, defs)
            return f"step {event.step_key} failed: {reason}"
    return f"run {run_id} failed before its first step; see `make ui`"
