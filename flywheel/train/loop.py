"""THE loop: elements in, optimizer steps out. A recipe gives it a source and an objective.

A source says which elements a step learns from: rows of a frozen dataset in seeded order
(`source.Shuffled`), or what the policy has just sampled. Every process holds all elements of a
step: its denominator and the number of its micro-batches are counted, not communicated.
"""

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from flywheel.errors import TrainingError
from flywheel.process.worker import rank, world
from flywheel.train import canary, state
from flywheel.train.batches import micro_batches
from flywheel.train.config import RunSettings
from flywheel.train.engine import Engine
from flywheel.train.ranks import summed
from flywheel.train.source import Source
from flywheel.train.throughput import Gauge

E = TypeVar("E")
Stats = dict[str, tuple[float, float]]  # name: sum, weight
SPEED_ONLY = {
    "zero_stage",
    "offload",
    "checkpointing",
    "micro_tokens",
    "packing",
    "threads",
    "save_seconds",
    "along",  # which weights are also written, and none of them
}
NAMED_RECORDS = 5  # of a step that failed; more would bury the message


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective(Generic[E]):
    """What a recipe minimises: `sum(loss) / sum(count)` over the elements of a step.

    Attributes:
        loss: Elements to (scalar sum of their losses, what else to report: sums with their masses
            under the same names in the same order for any elements, 0 and 0 where there is none).
        count: Weight of an element in the denominator.
        shape: Element to (rows, tokens of the longest), which is what a micro-batch may hold.
        tokens: Element to real tokens, for the rate.
        record_uids: Element to the landed records behind it, for an error to name.
        packing: Whether `loss` packs the elements, each of them one row.
    """

    loss: Callable[[Engine, Sequence[E]], tuple[torch.Tensor, Stats]]
    count: Callable[[E], float]
    shape: Callable[[E], tuple[int, int]]
    tokens: Callable[[E], int]
    record_uids: Callable[[E], Sequence[str]] = lambda element: ()
    packing: bool = False


def fit(
    engine: Engine,
    source: Source[E],
    objective: Objective[E],
    settings: RunSettings,
    run_dir: Path,
) -> dict[str, Any]:
    """Train to the end of the source or of the budget, from where the run stopped before.

    Returns:
        steps, tokens, start_loss and loss (means over the first and last tenth of the steps),
        tokens_per_second, resumed_at, and what the canary found.

    Raises:
        TrainingError: The gradient canary failed, or a loss or a gradient is not finite.
    """
    steps = source.steps
    checked, gauge = canary.check(engine.settings), Gauge(engine)
    _say(f"{engine.stage_reason}; the gradient canary is off by {checked['canary_error']:.1g}")
    if settings.warmup_steps > steps / 2:
        _say(f"{steps} steps, of which {settings.warmup_steps} warm up: lower warmup_steps")
    step, spent = _resume(engine, source, settings, run_dir)
    rows = _kept_rows(run_dir / "metrics.jsonl", step)
    first, started = step, time.monotonic() - spent
    last_save = time.monotonic()
    while step < steps:
        began = time.monotonic()
        elapsed = summed([began - started if rank() == 0 else 0.0])[0]
        if settings.budget_seconds and elapsed > settings.budget_seconds and step > first:
            break
        share = max(
            step / steps, elapsed / settings.budget_seconds if settings.budget_seconds else 0
        )
        chosen, drawn = source.draw(step)
        drawn_at = time.monotonic()
        if not chosen:
            break  # the source has nothing more to learn from
        loss, stats = accumulate(engine, chosen, objective, settings.micro_tokens)
        if not math.isfinite(loss):
            raise _not_finite("loss", loss, step + 1, chosen, objective, settings)
        rate, summed_at = learning_rate(settings, step, share), time.monotonic()
        norm = engine.step(rate)
        if not math.isfinite(norm):  # before such weights are saved or published
            raise _not_finite("gradient norm", norm, step + 1, chosen, objective, settings)
        step += 1
        engine.times_seen.update(uid for one in chosen for uid in objective.record_uids(one))
        tokens = sum(objective.tokens(one) for one in chosen)
        sequences = sum(objective.shape(one)[0] for one in chosen)
        ended = time.monotonic()
        rows.append(
            {"step": step, "loss": loss, **drawn, **stats}
            | {"learning_rate": rate, "grad_norm": norm, "tokens": tokens}
            | gauge(tokens, sequences, ended - began)
            | {"draw_seconds": drawn_at - began, "backward_seconds": summed_at - drawn_at}
            | {"step_seconds": ended - summed_at, "seconds": ended - began}
        )
        _append(run_dir / "metrics.jsonl", rows[-1])
        _say(f"step {step}/{steps} loss {loss:.4f}")
        due = time.monotonic() - last_save >= settings.save_seconds and step < steps
        here = source.state()
        if here is not None and summed([float(due and rank() == 0)])[0]:
            facts = {"seconds": time.monotonic() - started, "source": here}
            facts["settings"] = _that_matter(settings)
            state.save(run_dir / "state", step, facts, engine.save)
            last_save = time.monotonic()
    return _summary(rows, steps_planned=steps, resumed_at=first) | checked


def _resume(
    engine: Engine, source: Source[E], settings: RunSettings, run_dir: Path
) -> tuple[int, float]:
    """Go on from the newest whole checkpoint: its step and the seconds spent; 0, 0 if none."""
    saved = state.newest(run_dir / "state", _say)
    if saved is None:
        return 0, 0.0
    folder, facts = saved
    if facts.get("settings") != _that_matter(settings):
        _say(f"{folder} is of other settings; starting anew")
        state.forget(run_dir / "state")
        return 0, 0.0
    engine.load(folder)
    source.restore(facts["source"])
    state.put_generators_back(folder)
    if facts["world"] != world():
        _say(f"saved by {facts['world']} process(es), and {world()} go on")
    _say(f"resuming after step {facts['step']} of {source.steps}")
    return int(facts["step"]), float(facts["seconds"])


def _that_matter(settings: RunSettings) -> dict[str, Any]:
    """Settings that a result depends on beyond rounding; the others may change on resume."""
    return {name: value for name, value in asdict(settings).items() if name not in SPEED_ONLY}


def learning_rate(settings: RunSettings, step: int, share: float) -> float:
    """Linear warm-up, then a cosine to `final_lr_frac` as `share` goes from 0 to 1."""
    warm = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    floor = settings.final_lr_frac
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
    return settings.learning_rate * warm * (floor + (1 - floor) * cosine)


def accumulate(
    engine: Engine, chosen: Sequence[E], objective: Objective[E], budget: int
) -> tuple[float, dict[str, float]]:
    """Back-propagate a step, cut at `budget` padded tokens; nothing is applied yet.

    Every process runs the same number of backwards: one that has fewer micro-batches repeats its
    first with weight 0.

    Returns:
        The step's loss and its other means, over all processes.
    """
    count = sum(objective.count(one) for one in chosen)
    shares = [chosen[r :: world()] or chosen[:1] for r in range(world())]
    cut = [
        micro_batches(share, objective.shape, budget, packing=objective.packing) for share in shares
    ]
    mine = cut[rank()]
    weights = [1.0 if len(chosen) > rank() else 0.0] * len(mine)
    short = max(map(len, cut)) - len(mine)
    loss_sum, sums = 0.0, dict[str, list[float]]()
    for batch, weight in zip(mine + mine[:1] * short, weights + [0.0] * short, strict=True):
        loss, stats = objective.loss(engine, batch)
        engine.backward(loss * weight, count)
        loss_sum += loss.item() * weight
        for name, (value, mass) in stats.items():
            held = sums.setdefault(name, [0.0, 0.0])
            held[0] += value * weight
            held[1] += mass * weight
    flat = summed([loss_sum, *(number for pair in sums.values() for number in pair)])
    means = {
        name: flat[1 + 2 * place] / flat[2 + 2 * place]
        for place, name in enumerate(sums)
        if flat[2 + 2 * place]
    }
    return flat[0] / count, means


def _not_finite(
    what: str,
    value: float,
    step: int,
    chosen: Sequence[E],
    objective: Objective[E],
    settings: RunSettings,
) -> TrainingError:
    """The error that names a step and the first records behind it."""
    uids = list(dict.fromkeys(uid for one in chosen for uid in objective.record_uids(one)))
    named = ", ".join(uids[:NAMED_RECORDS]) or "unknown"
    more = f" and {len(uids) - NAMED_RECORDS} more" if len(uids) > NAMED_RECORDS else ""
    return TrainingError(
        f"the {what} of step {step} is {value}, and only a finite one can be trained on; lower "
        f"learning_rate (now {settings.learning_rate}), or look at what the step was trained on: "
        f"records {named}{more}"
    )


def _kept_rows(path: Path, step: int) -> list[dict[str, Any]]:
    """Rows of the steps that count; what a killed run did after its last save is done again."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:
            break  # torn by a kill
        if row["step"] <= step:
            rows.append(row)
    if rank() == 0:  # in one step: a kill in between would lose the rows
        draft = path.with_name(f".{path.name}.draft")
        draft.write_text("".join(json.dumps(row) + "\n" for row in rows))
        os.replace(draft, path)
    return rows


def _append(path: Path, row: dict[str, Any]) -> None:
    if rank() == 0:
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def _say(line: str) -> None:
    if rank() == 0:
        print(line, flush=True)


def _summary(rows: list[dict[str, Any]], *, steps_planned: int, resumed_at: int) -> dict[str, Any]:
    losses = [row["loss"] for row in rows]
    tenth = max(1, len(losses) // 10)
    tokens, seconds = sum(row["tokens"] for row in rows), sum(row["seconds"] for row in rows)
    return {
        "steps": len(rows),
        "steps_planned": steps_planned,
        "resumed_at": resumed_at,
        "peak_learning_rate": max((row["learning_rate"] for row in rows), default=0.0),
        "tokens": tokens,
        "tokens_per_second": round(tokens / seconds, 1) if seconds else 0.0,
        "step_seconds": round(seconds, 2),
        "mfu": sum(row["mfu"] * row["seconds"] for row in rows) / seconds if seconds else 0.0,
        "memory_bytes": max((row["memory_bytes"] for row in rows), default=0),
        "start_loss": sum(losses[:tenth]) / tenth,
        "loss": sum(losses[-tenth:]) / tenth,
    }
