"""Dagster's storage as a program uses it: made once, told in plain words when it cannot be
written, and rid of what a killed process left claimed.

A run dies with its process and can say nothing any more: Dagster shows it as started for good, and
the pool slot of its step stays taken, so that the next turn would wait for ever. The process of a
run therefore holds a file lock, which the kernel lets go of however the process ends; whoever comes
next, a command or a sensor, ends the runs whose lock is free. A command takes the lock before its
run begins (`driven`), the process of a launched run with the resource `Home` (`hold`).
"""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

import dagster as dg
from sqlalchemy.exc import DBAPIError

from flywheel.errors import FlywheelError
from flywheel.lake import locked
from flywheel.layout import Layout

_held: dict[str, TextIO] = {}  # run: its lock, for as long as this process lives


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
        with locked(home / ".lock"):
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
    path = _lock_of(layout, run_id)
    path.parent.mkdir(exist_ok=True)
    with ExitStack() as stack:
        with locked(layout.dagster_home / ".lock"):
            _end_dead_runs(instance, path.parent)
            lock = stack.enter_context(path.open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
        path.unlink(missing_ok=True)  # not after an exception: the run may have ended half way


def hold(layout: Layout, run_id: str) -> None:
    """Mark a run as at work in this process until the process ends, unless it is `driven`.

    Not until the run ends: what follows its last step can be cut off too. The file of a run that
    ended well goes with the next `end_dead_runs`.
    """
    path = _lock_of(layout, run_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(layout.dagster_home / ".lock"):
        lock = path.open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # driven by this process, or held by it already
            lock.close()
        else:
            _held[run_id] = lock


def end_dead_runs(layout: Layout, instance: dg.DagsterInstance) -> None:
    """Fail the unfinished runs whose process is gone, and free what their steps had claimed."""
    folder = _lock_of(layout, "").parent
    if folder.exists():
        with locked(layout.dagster_home / ".lock"):
            _end_dead_runs(instance, folder)


def _lock_of(layout: Layout, run_id: str) -> Path:
    return layout.dagster_home / "driven" / f"{run_id}.lock"


def _end_dead_runs(instance: dg.DagsterInstance, folder: Path) -> None:
    for path in folder.glob("*.lock"):
        with path.open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # at work
            run = instance.get_run_by_id(path.stem)
            if run and not run.is_finished:
                instance.report_run_failed(
                    run, "The process of this run is gone; the next turn goes on from here."
                )
            if instance.event_log_storage.supports_global_concurrency_limits:
                instance.event_log_storage.free_concurrency_slots_for_run(path.stem)
            path.unlink(missing_ok=True)
