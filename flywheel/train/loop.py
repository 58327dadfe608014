"""THE loop: elements in, optimizer steps out. A recipe gives it a source and an objective.

A source says which elements a step learns from: rows of a frozen dataset in seeded order
(`source.Shuffled`), or what the policy has just sampled. Every process holds all elements of a
step: its denominator and the number of its micro-batches are counted, not communicated.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from flywheel.errors import TrainingError
from flywheel.process.worker import rank, world
from flywheel.train import state
from flywheel.train.batches import micro_batches
from flywheel.train.config import RunSettings
from flywheel.train.engine import Engine, summed
from flywheel.train.source import Source

E = TypeVar("E")
Stats = dict[str, tuple[float, float]]  # name: sum, weight
NAMED_RECORDS = 5  # of a step that failed; more would bury the message


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective(Generic[E]):
    """What a recipe minimises: `sum(loss) / sum(count)` over the elements of a step.

    Attributes:
        loss: Elements to (scalar sum of their losses, what else to report).
        count: Weight of an element in the denominator.
        shape: Element to (rows, tokens of the longest), which is what a micro-batch may hold.
        tokens: Element to real tokens, for the rate.
        record_uids: Element to the landed records behind it, for an error to name.
    """

    loss: Callable[[Engine, Sequence[E]], tuple[torch.Tensor, Stats]]
    count: Callable[[E], float]
    shape: Callable[[E], tuple[int, int]]
    tokens: Callable[[E], int]
    record_uids: Callable[[E], Sequence[str]] = lambda element: ()


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
        tokens_per_second, resumed_at.

    Raises:
        TrainingError: A loss or a gradient is not finite.
    """
    steps = source.steps
    saved = state.newest(run_dir / "state", print)
    step, spent = 0, 0.0
    if saved:
        engine.load(saved[0])
        source.restore(saved[1]["source"])
        step, spent = saved[1]["step"], saved[1]["seconds"]
        print(f"resuming after step {step} of {steps}", flush=True)
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
        if not chosen:
            break  # the source has nothing more to learn from
        loss, stats = _accumulate(engine, chosen, objective, settings.micro_tokens)
        if not math.isfinite(loss):
            raise _not_finite("loss", loss, step + 1, chosen, objective, settings)
        rate = learning_rate(settings, step, share)
        norm = engine.step(rate)
        if not math.isfinite(norm):  # before such weights are saved or published
            raise _not_finite("gradient norm", norm, step + 1, chosen, objective, settings)
        step += 1
        tokens = sum(objective.tokens(one) for one in chosen)
        took = time.monotonic() - began
        rows.append(
            {"step": step, "loss": loss, **drawn, **stats}
            | {"learning_rate": rate, "grad_norm": norm}
            | {"tokens": tokens, "tokens_per_second": tokens / took, "seconds": took}
        )
        if rank() == 0:
            _append(run_dir / "metrics.jsonl", rows[-1])
            print(f"step {step}/{steps} loss {loss:.4f}", flush=True)
        due = time.monotonic() - last_save >= settings.save_seconds and step < steps
        here = source.state()
        if here is not None and summed([float(due and rank() == 0)])[0]:
            facts = {"seconds": time.monotonic() - started, "source": here}
            state.save(run_dir / "state", step, facts, engine.save)
            last_save = time.monotonic()
    return _summary(rows, steps_planned=steps, resumed_at=first)


def learning_rate(settings: RunSettings, step: int, share: float) -> float:
    """Linear warm-up, then a cosine to `final_lr_frac` as `share` goes from 0 to 1."""
    warm = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    floor = settings.final_lr_frac
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
    return settings.learning_rate * warm * (floor + (1 - floor) * cosine)


def _accumulate(
    engine: Engine, chosen: Sequence[E], objective: Objective[E], budget: int
) -> tuple[float, dict[str, float]]:
    """Back-propagate a step; every process runs the same number of backwards."""
    count = sum(objective.count(one) for one in chosen)
    shares = [chosen[r :: world()] or chosen[:1] for r in range(world())]
    cut = [micro_batches(share, objective.shape, budget) for share in shares]
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
    if rank() == 0:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def _append(path: Path, row: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def _summary(rows: list[dict[str, Any]], *, steps_planned: int, resumed_at: int) -> dict[str, Any]:
    losses = [row["loss"] for row in rows]
    tenth = max(1, len(losses) // 10)
    tokens, seconds = sum(row["tokens"] for row in rows), sum(row["seconds"] for row in rows)
    return {
        "steps": len(rows),
        "steps_planned": steps_planned,
        "resumed_at": resumed_at,
        "tokens": tokens,
        "tokens_per_second": round(tokens / seconds, 1) if seconds else 0.0,
        "step_seconds": round(seconds, 2),
        "start_loss": sum(losses[:tenth]) / tenth,
        "loss": sum(losses[-tenth:]) / tenth,
    }
