"""The gradient canary: before a run, one optimizer step whose result is known, on its own engine.

DeepSpeed has had silent defects: an all-reduce that was skipped, a gradient divided twice, a first
step taken as Adam's second (training.md 5.5). Each changes what is learnt and stops nothing. So
every start takes a step on a throw-away module, with the run's processes, stage, precision and
offload, and holds gradient norm and parameter change against plain torch.
"""

import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from flywheel.errors import TrainingError
from flywheel.process.worker import rank, world
from flywheel.train import rng
from flywheel.train.config import RunSettings
from flywheel.train.engine import Engine

ROWS = 4  # of each process; they differ, or a skipped all-reduce would not be seen
WIDTH = 8
LEARNING_RATE = 1e-2
EPS = 1e-1  # of the gradients' size: with 1e-8 Adam's first step is blind to their scale
CLIP_FRAC = 0.5  # of the norm: clipping by another norm than the global one is seen
# Relative. In bf16 sound engines of 1 to 12 processes were off by up to .0065, whatever their
# number: gradients are rounded before they are summed. A defect is off by tenths.
LIMITS = {"fp32": 1e-5, "bf16": 2e-2}
CUTS = {"one micro-batch": [ROWS], "uneven micro-batches": [1, ROWS - 1]}


@dataclass(frozen=True, slots=True)
class Step:
    """What one optimizer step did: the gradient's norm, and every weight's change in one row."""

    norm: float
    change: Tensor


class Probe(nn.Module):
    """A module with what models have: a layer used twice, as tied embeddings are, and biases."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.last = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 1)
        numbers = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for weight in self.parameters():
                drawn = torch.randn(weight.shape, generator=numbers) / WIDTH**0.5
                weight.copy_(drawn.bfloat16())  # the same weights in every precision

    def forward(self, rows: Tensor) -> Tensor:
        """(B, WIDTH) rows to (B,) numbers."""
        hidden = torch.tanh(self.twice(rows))
        return self.last(torch.tanh(self.twice(hidden)))[:, 0]


def check(settings: RunSettings) -> dict[str, float]:
    """Take the step in every cut, and let the run go on only where all agree with plain torch.

    Args:
        settings: Those of the run's engine, with stage and precision as chosen (`Engine.settings`).

    Returns:
        The largest relative error of norm and change, and the seconds it took.

    Raises:
        TrainingError: One of them is off, or Adam's counter is not 1 after its first step.
    """
    began = time.monotonic()
    with rng.unmoved():
        wanted, clip = _plain(settings)
        probe = replace(
            settings,
            clip=clip,
            adam_eps=EPS,
            learning_rate=LEARNING_RATE,
            checkpointing=False,
        )
        errors = [_error(name, _taken(probe, cut), wanted, probe) for name, cut in CUTS.items()]
    return {"canary_error": max(errors), "canary_seconds": time.monotonic() - began}


def _error(name: str, found: Step, wanted: Step, probe: RunSettings) -> float:
    limit = LIMITS[probe.precision]
    norm = abs(found.norm / wanted.norm - 1)
    change = float((found.change - wanted.change).norm() / wanted.change.norm())
    for what, error in (("gradient norm", norm), ("parameter change", change)):
        if not error <= limit:  # a NaN is none either
            raise TrainingError(
                f"the gradient canary: the {what} of one step must be that of plain torch to "
                f"{limit:g}, and in {name} on {world()} process(es), ZeRO stage "
                f"{probe.zero_stage}, {probe.precision}, it is off by {error:.2g}; nothing was "
                f"trained. Choose another zero_stage, or the DeepSpeed that constraints.txt pins"
            )
    return max(norm, change)


def _taken(probe: RunSettings, cut: list[int]) -> Step:
    """The step as the run's own engine takes it."""
    engine = Engine(Probe(), probe)
    rows, goals, masses = _batch()
    before = {name: weight.clone() for name, weight in Probe().named_parameters()}
    start = rank() * ROWS
    for size in cut:
        part = slice(start, start + size)
        loss = _loss(engine(rows[part].to(engine.device, _dtype(probe))), goals[part], masses[part])
        engine.backward(loss, float(masses.sum()))
        start += size
    norm = engine.step(LEARNING_RATE)
    if engine.adam_steps != 1:
        raise TrainingError(
            f"the gradient canary: Adam's counter must be 1 after its first step, and on ZeRO "
            f"stage {probe.zero_stage}, {probe.precision}, it is {engine.adam_steps}; nothing was "
            f"trained. Choose another zero_stage"
        )
    change = [(engine.whole(name).cpu() - weight).flatten() for name, weight in before.items()]
    engine.engine.destroy()
    return Step(norm, torch.cat(change).detach())


def _plain(settings: RunSettings) -> tuple[Step, float]:
    """The step as plain torch takes it over the rows of all processes, and the clip to use."""
    module, (rows, goals, masses) = Probe().to(_dtype(settings)), _batch()
    masters = [weight.detach().float().clone().requires_grad_() for weight in module.parameters()]
    for first in range(0, len(rows), ROWS):
        part = slice(first, first + ROWS)
        loss = _loss(module(rows[part].to(_dtype(settings))), goals[part], masses[part])
        gradients = torch.autograd.grad(loss / float(masses.sum()), list(module.parameters()))
        for master, gradient in zip(masters, gradients, strict=True):
            master.grad = gradient.float() + (0 if master.grad is None else master.grad)
    before = [master.detach().clone() for master in masters]
    norm = torch.nn.utils.get_total_norm([m.grad for m in masters if m.grad is not None])
    clip = CLIP_FRAC * float(norm) if settings.clip else 0.0
    if clip:
        torch.nn.utils.clip_grads_with_norm_(masters, clip, norm)
    torch.optim.AdamW(
        masters, lr=LEARNING_RATE, betas=(0.9, 0.95), eps=EPS, weight_decay=settings.weight_decay
    ).step()
    change = [(m - old).flatten() for m, old in zip(masters, before, strict=True)]
    return Step(float(norm), torch.cat(change).detach()), clip


def _batch() -> tuple[Tensor, Tensor, Tensor]:
    """(R, WIDTH) rows of all processes, (R,) goals and (R,) unequal weights."""
    numbers = torch.Generator().manual_seed(2)
    count = ROWS * world()
    rows = torch.randn(count, WIDTH, generator=numbers)
    return rows, torch.randn(count, generator=numbers), torch.arange(1.0, count + 1)


def _loss(found: Tensor, goals: Tensor, masses: Tensor) -> Tensor:
    """The weighted sum of squared errors, in fp32."""
    return (masses.to(found.device) * (found.float() - goals.to(found.device)) ** 2).sum()


def _dtype(settings: RunSettings) -> torch.dtype:
    return torch.bfloat16 if settings.precision == "bf16" else torch.float32
