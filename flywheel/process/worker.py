"""The inside of a training process: settings in, one recipe, result out."""

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from flywheel.errors import FlywheelError, SettingsError
from flywheel.process.launch import LOCKED, only_one, write_json
from flywheel.process.settings import build

T = TypeVar("T")
TINY_PARAMETERS = 3_000_000  # below this, a second thread costs more than it brings


def start(recipe: Callable[[Any, Path], dict[str, Any]], settings: type[T]) -> None:
    """Run `recipe` on the settings in `argv[1]/config.json`, then write `result.json`.

    What an interrupted run resumes from is removed only after the result is there.

    Any launcher that sets RANK, WORLD_SIZE and LOCAL_RANK may start it, on any number of
    machines: `torchrun --nnodes ...`, or `deepspeed --hostfile ... --module`. All machines see
    RUN_DIR, the inputs and the output under the same paths; the first process alone writes.
    """
    given = [one for one in sys.argv[1:] if not one.startswith("--local_rank=")]  # deepspeed's
    if len(given) != 1:
        sys.exit(f"usage: python -m {recipe.__module__} RUN_DIR   (with config.json in it)")
    run_dir = Path(given[0])
    started = time.monotonic()
    try:
        config = json.loads((run_dir / "config.json").read_text())
        chosen = config.get("settings", config)
        holds = rank() or os.environ.get(LOCKED) == str(run_dir)
        with contextlib.nullcontext() if holds else only_one(run_dir):
            result = recipe(build(settings, chosen), run_dir)
            if rank() == 0:
                result["seconds"] = round(time.monotonic() - started, 2)
                write_json(run_dir / "result.json", result)
                shutil.rmtree(run_dir / "state", ignore_errors=True)  # nothing is left to resume
    except (OSError, ValueError, FlywheelError) as error:
        if isinstance(error, FlywheelError) or not isinstance(error, ValueError):
            sys.exit(f"{type(error).__name__}: {error}")
        raise


def rank() -> int:
    """Which of the run's processes this is; torchrun says so."""
    return int(os.environ.get("RANK", "0"))


def world() -> int:
    """How many processes the run has."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_rank() -> int:
    """Which of the processes on this machine this is, and so which of its accelerators it has."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def local_world() -> int:
    """How many of them are on this machine: torchrun's word for it, or else deepspeed's."""
    return int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("LOCAL_SIZE") or world())


def use_threads(parameters: int, wanted: int) -> None:
    """Set torch's threads: few for small work, else the machine's cores divided."""
    import torch

    if wanted < 0:
        raise SettingsError(f"threads must be 0 (choose) or more, got {wanted}")
    cores = max(1, (os.cpu_count() or 1) // local_world())
    torch.set_num_threads(wanted or (1 if parameters < TINY_PARAMETERS else cores))
