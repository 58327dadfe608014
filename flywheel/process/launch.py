"""Run a recipe in a process of its own and read back what it wrote.

Dagster's process never loads torch. A recipe is a module started as `python -m MODULE RUN_DIR`,
or under torchrun on more than one device. The contract is three files in RUN_DIR: `config.json`,
written here; `metrics.jsonl`, which grows while it works; `result.json`, its last act, which is
sealed here. One run at a time works in RUN_DIR; it holds the lock on RUN_DIR/.lock.

The same recipe with the same settings and the same inputs is not run twice: a finished run is
read back while all that it wrote is there, an interrupted one goes on from its last checkpoint in
RUN_DIR/state. Anything else starts anew.
"""

import ctypes
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flywheel.errors import LaunchError, TrainingError
from flywheel.layout import TITLE_MARK
from flywheel.process.content import code_of, content_of
from flywheel.process.results import read_result, seal
from flywheel.process.spent import forget, spending, spent

TAIL_LINES = 25
LOCKED = "FLYWHEEL_LOCKED"  # the folder whose lock a recipe's process inherits
PEEK_SECONDS = 2.0  # between two looks at metrics.jsonl
PR_SET_PDEATHSIG = 1
RANKS = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
Log = Callable[[str], object]
OnMetrics = Callable[[dict[str, Any]], object]


def launch(
    recipe: str,
    settings: Any,
    run_dir: Path,
    *,
    devices: int = 1,
    log: Log = print,
    on_metrics: OnMetrics | None = None,
) -> dict[str, Any]:
    """Run `recipe` to its end and return its `result.json`.

    Args:
        recipe: Dotted name of the module, e.g. "flywheel.train.sft".
        settings: The recipe's dataclass of settings.
        run_dir: Folder of this run; created if missing.
        devices: Accelerators, or without any processes; more than one starts torchrun.
        log: Called with each line the recipe prints, as it prints it.
        on_metrics: Called every few seconds with the newest row of `metrics.jsonl`.

    Raises:
        LaunchError: The recipe failed, ended without writing `result.json`, or another run is
            at work in `run_dir`.
        TrainingError: Its output would take the place of one that holds or held the title.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    chosen = asdict(settings)
    config = {"settings": chosen, "inputs": _inputs(chosen), "recipe": recipe}
    with only_one(run_dir) as lock:
        if (finished := _finished(run_dir, config)) is not None:
            log(f"{recipe} has run with these settings on these inputs; {run_dir} is read back")
            shutil.rmtree(run_dir / "state", ignore_errors=True)  # left by a kill after the result
            return _with_seconds(finished, run_dir)
        _refuse_to_replace(chosen.get("output", ""))
        _prepare(run_dir, config)
        with spending(run_dir):
            status, last = _run(recipe, run_dir, devices, lock, log, on_metrics)
        path = run_dir / "result.json"
        if status or not path.exists():
            raise LaunchError(
                f"{recipe} ended with status {status} and "
                f"{'a' if path.exists() else 'no'} result in {run_dir}; last lines:\n  {last}"
            )
        result = _with_seconds(dict(json.loads(path.read_text())), run_dir)
        seal(path)
    return result


def _run(
    recipe: str, run_dir: Path, devices: int, lock: int, log: Log, on_metrics: OnMetrics | None
) -> tuple[int, str]:
    """Start the recipe and wait for its end: its exit status and its last lines.

    The recipe's process inherits the lock, so that it stays held should only the caller die.
    """
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    peeked = 0.0
    with subprocess.Popen(
        _command(recipe, run_dir, devices),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=_environment(devices) | {LOCKED: str(run_dir)},
        pass_fds=(lock,),
        preexec_fn=_die_with_parent if sys.platform == "linux" else None,
    ) as process:
        try:
            for line in process.stdout or ():
                if line.startswith("step ") and on_metrics is not None:
                    if time.monotonic() - peeked > PEEK_SECONDS:
                        peeked = time.monotonic()
                        on_metrics(_newest(run_dir / "metrics.jsonl"))
                else:
                    tail.append(line.rstrip())
                    log(tail[-1])
        except BaseException:
            process.terminate()
            raise
    return process.returncode, "\n  ".join(tail) or "(no output)"


def _with_seconds(result: dict[str, Any], run_dir: Path) -> dict[str, Any]:
    """Write into a result what its launch took, and what those took that it went on from."""
    if seconds := spent(run_dir):
        result["process_seconds"], result["earlier_seconds"] = seconds
        write_json(run_dir / "result.json", result)
        seal(run_dir / "result.json")
        forget(run_dir)
    return result


@contextmanager
def only_one(run_dir: Path) -> Iterator[int]:
    """Hold a run's folder; a process that dies, however it dies, holds it no longer.

    Raises:
        LaunchError: Another run is at work in it.
    """
    with (run_dir / ".lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise LaunchError(
                f"one run at a time works in a folder, and {lock.read() or 'another'} is at work "
                f"in {run_dir}; wait for it to end, or end it and start again: the next run goes "
                f"on from what it saved"
            ) from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()}, since {time.strftime('%H:%M:%S')},")
        lock.flush()
        yield lock.fileno()


def write_json(path: Path, content: Any) -> None:
    """Put a JSON file in place in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(json.dumps(content, indent=2, default=str) + "\n")
    os.replace(draft, path)


def _inputs(settings: dict[str, Any]) -> dict[str, str]:
    """Content of all files, folders and verifiers that the settings name: a changed input is a
    new run.

    What a run itself adds to is no input: its checkpoint, and the references that runs share.
    """
    found = {}
    for name, value in settings.items():
        if name in ("output", "references") or not isinstance(value, str) or not value:
            continue
        path = code_of(value) if name == "verifier" else Path(value)
        if path and path.exists():
            found[name] = content_of(path)
    return found


def _finished(run_dir: Path, config: dict[str, Any]) -> dict[str, Any] | None:
    """The result of a run that needs not be run again: all that it wrote is still there.

    That is the `output` of its settings, the `files` of its result, and its checkpoint's files.
    What tells of no checkpoint, which has a hash of its own, must be as it was sealed.
    """
    result, changed = read_result(run_dir / "result.json")
    if not result or _read(run_dir / "config.json") != config:
        return None
    if changed and not result.get("checkpoint"):
        return None
    named = [config["settings"].get("output"), *result.get("files", ())]
    written = [Path(file) for file in named if file]
    checkpoint = result.get("checkpoint")
    if checkpoint:
        manifest = _read(Path(checkpoint) / "manifest.json")
        if manifest.get("content_hash") != result.get("content_hash"):
            return None
        written += [Path(checkpoint) / name for name in manifest.get("files", ())]
    return result if all(path.exists() for path in written) else None


def _refuse_to_replace(output: str) -> None:
    """Before anything of the finished run is touched, and before hours of training."""
    if output and (Path(output) / TITLE_MARK).exists():
        raise TrainingError(
            f"{output} holds or held the title of champion, and these settings or inputs are not "
            f"those it was trained with: it is never replaced; train in a new generation"
        )


def _prepare(run_dir: Path, config: dict[str, Any]) -> None:
    old = _read(run_dir / "config.json")
    if any(old.get(key) != config[key] for key in ("recipe", "inputs")):
        # nothing of the old run counts; of other settings, what a run may change as it goes on
        # (its memory, its cuts) is for its loop to tell from what it may not
        shutil.rmtree(run_dir / "state", ignore_errors=True)
        (run_dir / "metrics.jsonl").unlink(missing_ok=True)
        forget(run_dir)
    elif old.get("settings") != config["settings"] and not any(run_dir.glob("state/step-*")):
        forget(run_dir)  # nothing is there to go on from
    for name in ("result.json", "result.sha256"):  # a stale result must not pass for a new one
        (run_dir / name).unlink(missing_ok=True)
    write_json(run_dir / "config.json", config)


def _command(recipe: str, run_dir: Path, devices: int) -> list[str]:
    starter = [sys.executable, "-m"]
    if devices > 1:
        starter += ["torch.distributed.run", "--standalone", f"--nproc_per_node={devices}", "-m"]
    return [*starter, recipe, str(run_dir)]


def _environment(devices: int) -> dict[str, str]:
    """Unbuffered output; no compiler, no tokenizer threads; the package is found from anywhere.

    What a torchrun or a cluster above said of its own processes is not said of these.
    """
    here = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))
    quiet = {"PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": path}
    quiet |= {"TORCHDYNAMO_DISABLE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    if devices > 1:
        quiet["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // devices))
    return {name: value for name, value in os.environ.items() if name not in RANKS} | quiet


def _die_with_parent() -> None:
    """A training process never outlives the run that started it."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _newest(path: Path) -> dict[str, Any]:
    """The last whole row of a growing file."""
    lines = path.read_text().splitlines() if path.exists() else []
    for line in reversed(lines[-2:]):
        try:
            return dict(json.loads(line))
        except ValueError:
            continue  # still being written
    return {}


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return {}
