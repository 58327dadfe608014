"""Runs that tests kill, or that take several processes: forked from one that has paid the imports.

`python -m tests.train_jobs JOB FOLDER ARGUMENT...` prints one JSON list.
"""

import json
import os
import random
import shutil
import signal
import socket
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import deepspeed  # noqa: F401 (this and the next are paid for once, before the forks)
import peft.tuners.lora  # noqa: F401
import torch
import torch._dynamo
import transformers.models.llama.modeling_llama  # noqa: F401
from safetensors.torch import load_file

from flywheel.process import worker
from flywheel.train import canary, loop
from flywheel.train.config import RunSettings, SftSettings
from flywheel.train.engine import Engine
from flywheel.train.sft import run
from tests.runs_for_tests import prepared

warnings.simplefilter("ignore")
torch.set_num_threads(1)


def forked(body: Callable[[], object], processes: int = 1, log: Path | None = None) -> list[int]:
    """Run `body` in as many ranks and wait: their statuses, negative where a signal ended one."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    children = []
    for rank in range(processes):
        if (child := os.fork()) == 0:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            os.environ |= {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1"}
            os.environ |= {"MASTER_PORT": str(port)}
            output = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(output, 1)
            if log:
                os.dup2(output, 2)
            try:
                body()
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def recipe(run_dir: Path) -> None:
    """What `python -m flywheel.train.sft RUN_DIR` does."""
    sys.argv = ["sft", str(run_dir)]
    worker.start(run, SftSettings)


def at_file_event(folder: Path, act: Callable[[int, str], object]) -> None:
    """Call `act` with the count and the path of each opening, renaming, making, removing."""
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir"):
            path = str(arguments[0])
            if str(folder) in path:
                count += 1
                act(count, path)

    sys.addaudithook(hook)


def kills(folder: Path, base: Path, seed: str, count: str) -> list[dict[str, Any]]:
    """Kill a run at seeded points of its work on files, go on, and compare with a whole one."""
    whole, cut = prepared(str(base), folder / "whole"), folder / "cut"
    events: list[str] = []

    def counted() -> None:
        at_file_event(folder, lambda _, path: events.append(path))
        recipe(whole)
        (folder / "events.json").write_text(json.dumps(events))

    assert forked(counted, log=folder / "log") == [0], (folder / "log").read_text()[-2000:]
    events = json.loads((folder / "events.json").read_text())
    begun = next(n for n, path in enumerate(events) if "/state/." in path)
    numbers, report = random.Random(int(seed)), []
    edges = [begun + 1 + (len(events) - begun - 1) * n // int(count) for n in range(int(count) + 1)]
    for low, high in pairwise(edges):  # a point in each stretch, publishing and result the last
        shutil.rmtree(cut, ignore_errors=True)
        point, pause = numbers.randrange(low, high), numbers.choice((0.0, 0.002))
        run_dir = prepared(str(base), cut)

        def killed(point: int = point, pause: float = pause, run_dir: Path = run_dir) -> None:
            def act(number: int, _: str) -> None:
                if number == point and pause:
                    threading.Timer(pause, os.kill, (os.getpid(), signal.SIGKILL)).start()
                elif number == point:
                    os.kill(os.getpid(), signal.SIGKILL)

            at_file_event(cut, act)
            recipe(run_dir)

        (status,) = forked(killed)
        left = sorted(path.name for path in (run_dir / "state").glob("*"))
        (again,) = forked(lambda run_dir=run_dir: recipe(run_dir), log=folder / "log")
        report.append(
            {
                "point": point,
                "of": len(events),
                "in_a_save": any(name.startswith(".step") for name in left),
                "status": status,
                "again": again,
                "equal": again == 0 and outcome(whole) == outcome(run_dir),
            }
        )
    return report


def outcome(run_dir: Path) -> Any:
    """All of a run that a kill may not change: weights, records, rows but for their times."""
    keep = ("step", "loss", "grad_norm", "learning_rate", "tokens")
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").open()]
    weights = load_file(run_dir.parent / "sft" / "model.safetensors")
    manifest = json.loads((run_dir.parent / "sft" / "manifest.json").read_text())
    return (
        [[row[name] for name in keep] for row in rows],
        {name: weight.numpy().tobytes() for name, weight in weights.items()},
        manifest["records"],
    )


def worlds(folder: Path, base: Path, stage: str, *processes: str) -> list[dict[str, Any]]:
    """A run stopped after four steps, and after eight, each time taken up by so many processes."""
    whole = prepared(str(base), folder / "whole", zero_stage=int(stage))
    run_dir = prepared(str(base), folder / "cut", zero_stage=int(stage))
    first, second, third = map(int, processes)
    log = folder / "log"

    def until(last: int) -> None:
        sound = loop.learning_rate

        def rate(settings: RunSettings, step: int, share: float) -> float:
            if step == last:
                os._exit(7)
            return sound(settings, step, share)

        loop.learning_rate = rate
        recipe(run_dir)

    assert set(forked(lambda: recipe(whole), first, log)) == {0}, log.read_text()[-2000:]
    assert set(forked(lambda: until(4), first, log)) == {7}, log.read_text()[-2000:]
    assert set(forked(lambda: until(8), second, log)) == {7}, log.read_text()[-2000:]
    assert set(forked(lambda: recipe(run_dir), third, log)) == {0}, log.read_text()[-2000:]
    (rows, weights, records), (others, found, seen) = outcome(whole), outcome(run_dir)
    tensors = [
        [torch.frombuffer(bytearray(one), dtype=torch.float32) for one in side.values()]
        for side in (weights, found)
    ]
    return [
        {
            "loss": max(abs(a[1] - b[1]) for a, b in zip(rows, others, strict=True)),
            "weight": max(float((a - b).abs().max()) for a, b in zip(*tensors, strict=True)),
            "records_equal": records == seen,
            "said": log.read_text(),
        }
    ]


def each_rank(folder: Path, body: Callable[[], Any]) -> list[Any]:
    """What `body` returns on each of two ranks."""

    def written() -> None:
        (folder / f"{worker.rank()}.json").write_text(json.dumps(body()))

    statuses = forked(written, 2, folder / "log")
    assert statuses == [0, 0], (folder / "log").read_text()[-3000:]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def canaries(folder: Path) -> dict[str, list[str]]:
    """What the canary says on each of two ranks, by planted defect."""
    sound = torch.distributed.all_reduce
    plants: dict[str, tuple[int, Callable[[Any], bool]]] = {
        "none": (2, lambda tensor: False),
        "none at stage 0": (0, lambda tensor: False),
        "none at stage 3": (3, lambda tensor: False),
        "all-reduce skipped at stage 0": (0, lambda tensor: tensor.numel() > 1),
        "all-reduce skipped at stage 2": (2, lambda tensor: tensor.numel() > 1),
        "norm of one rank's shard": (2, lambda tensor: tensor.numel() == 1),
    }

    def body(stage: int, is_skipped: Callable[[Any], bool]) -> str:
        def reduce(tensor: Any, *arguments: Any, **named: Any) -> Any:
            return None if is_skipped(tensor) else sound(tensor, *arguments, **named)

        torch.distributed.all_reduce = reduce  # DeepSpeed calls through it
        try:
            canary.check(RunSettings(output="", zero_stage=stage, precision="fp32"))
        except loop.TrainingError as error:
            return str(error)
        return ""

    return {
        name: each_rank(folder, lambda stage=stage, skips=skips: body(stage, skips))
        for name, (stage, skips) in plants.items()
    }


def steps(
    folder: Path, base: Path, stage: str, offload: str, checkpointing: str, precision: str
) -> list[Any]:
    """Losses and norms of two ranks that share the rows of each step."""
    from flywheel.models.load import load_causal
    from flywheel.models.logps import ResponseLogps
    from flywheel.train.ranks import summed
    from tests.test_engine import batch, settings

    def body() -> Any:
        engine = Engine(
            ResponseLogps(load_causal(str(base))),
            settings(
                zero_stage=int(stage),
                offload=offload == "1",
                checkpointing=checkpointing == "1",
                precision=precision,
            ),
        )
        losses, norms = [], []
        for step in range(5):
            ids, targets = batch(step)
            loss = 0.0
            for row in (0, 1):
                part = slice(2 * worker.rank() + row, 2 * worker.rank() + row + 1)
                nats = -engine(ids[part], targets[part]).sum()
                engine.backward(nats, float(targets.sum()))
                loss += float(nats) / float(targets.sum())
            losses.append(summed([loss])[0])
            norms.append(engine.step(1e-3))
        return {"losses": losses, "norms": norms}

    return each_rank(folder, body)


def objectives(folder: Path, base: Path) -> list[Any]:
    """A step of every objective on one rank and on two: on seven elements, and on one."""
    from tests.test_invariance import ELEMENTS, module_of

    def step(name: str, count: int) -> dict[str, Any]:
        objective, elements = ELEMENTS[name]
        settings = RunSettings(output="", zero_stage=0, adam_eps=0.1)  # not blind to the scale
        engine = Engine(module_of(str(base), name), settings)
        before = [weight.detach().clone() for weight in engine.engine.module.parameters()]
        chosen = elements[-7:] if count == 7 else elements[:1]
        loss, stats = loop.accumulate(engine, chosen, objective, 30)
        norm = engine.step(1e-2)
        after = engine.engine.module.parameters()
        change = torch.cat([(b - a).flatten() for a, b in zip(before, after, strict=True)])
        return {"loss": loss, "stats": stats, "norm": norm, "change": change[::7].tolist()}

    def body() -> Any:
        return {f"{name}, {count}": step(name, count) for name in ELEMENTS for count in (7, 1)}

    def alone() -> None:
        (folder / "alone.json").write_text(json.dumps(body()))

    assert forked(alone, 1, folder / "log") == [0], (folder / "log").read_text()[-3000:]
    one, (first, second) = json.loads((folder / "alone.json").read_text()), each_rank(folder, body)
    return [(name, one[name], [first[name], second[name]]) for name in one]


def asking(folder: Path, base: Path, dataset: Path, stage: str) -> list[Any]:
    """What two ranks sample, of lengths of their own, and one prompt alone."""
    from flywheel.train.config_reinforce import GrpoSettings
    from flywheel.train.rollouts import Learner

    settings = GrpoSettings(
        model=str(base), dataset=str(dataset), output="", verifier="tests.test_reinforce:names_it",
        max_new_tokens=20, max_tokens=32, zero_stage=int(stage),
    )  # fmt: skip

    def body() -> Any:
        learner = Learner.load(settings)
        prompts = learner.prompts("train", 0)
        asked = [learner.answers(prompts[:n], range(n), 1) for n in (2, 1, 2)]
        texts = [[response.token_ids for response, _ in row] for rows in asked for row in rows]
        learner.facts([rollout_text(prompts[0], texts[0][0])])  # passes go on as before
        return texts

    def rollout_text(prompt: Any, tokens: Any) -> Any:
        from flywheel.datasets.render import Rendered

        return Rendered([*prompt.ids, *tokens], len(prompt.ids))

    return each_rank(folder, body)


if __name__ == "__main__":
    job, where, *arguments = sys.argv[1:]
    Path(where).mkdir(parents=True, exist_ok=True)
    known = {
        "kills": kills, "worlds": worlds, "canaries": canaries, "steps": steps,
        "objectives": objectives, "asking": asking,
    }  # fmt: skip
    print(json.dumps(known[job](Path(where), *arguments)))  # type: ignore[operator]
