"""Dagster's storage as a program uses it: made once, told in plain words when it cannot be
written, and rid of what a killed process left claimed.

A run that a command drives dies with its process and can say nothing any more: Dagster shows it as
started for good, and the pool slot of its step stays taken, so that the next turn would wait for
ever. Each driven run therefore holds a file lock, which the kernel lets go of however the process
ends; whoever comes next ends the runs whose lock is free.
"""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dagster as dg
from sqlalchemy.exc import DBAPIError

from flywheel.errors import FlywheelError
from flywheel.layout import Layout


@contextmanager
def instance_of(layout: Layout) -> Iterator[dg.DagsterInstance]:
    """Open Dagster's storage; made once, under a lock, since two first openings ruin it.

    Raises:
        FlywheelError: The storage cannot be read or written.
    """
    home = layout.dagster_home
    home.mkdir(parents=True, exist_ok=True)
    try:
        if not (home / "dagster.yaml").exists():
            shutil.copyfile(Path(__file__).with_name("dagster.yaml"), home / "dagster.yaml")
        with _locked(home):
            instance = dg.DagsterInstance.from_config(str(home))
            instance.get_runs(limit=1)
        with instance:
            yield instance
    except DBAPIError as error:
        raise FlywheelError(
            f"Dagster's storage in {home} cannot be read or written: {error.orig}; free some disk "
            f"space or mend the permissions, and give the same command again: what is done stays "
            f"done"
        ) from error


@contextmanager
def driven(layout: Layout, instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Mark a run as driven by this process, after ending the runs of processes that are gone."""
    folder = layout.dagster_home / "driven"
    folder.mkdir(exist_ok=True)
    path = folder / f"{run_id}.lock"
    with ExitStack() as stack:
        with _locked(layout.dagster_home):
            _end_dead_runs(instance, folder)
            lock = stack.enter_context(path.open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
        path.unlink(missing_ok=True)  # not after an exception: the run may have ended half way


def _end_dead_runs(instance: dg.DagsterInstance, folder: Path) -> None:
    """Fail the unfinished runs whose process is gone, and free what their steps had claimed."""
    for path in folder.glob("*.lock"):
        with path.open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # at work
            run = instance.get_run_by_id(path.stem)
            if run and not run.is_finished:
                instance.report_run_failed(
                    run, "The process that drove this run is gone; the next turn goes on from here."
                )
            if instance.event_log_storage.supports_global_concurrency_limits:
                instance.event_log_storage.free_concurrency_slots_for_run(path.stem)
            path.unlink(missing_ok=True)


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    with (home / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
