"""No cut into micro-batches changes a gradient, whatever the objective."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from flywheel.datasets.render import Rendered
from flywheel.models.actor import Actor, Critic
from flywheel.models.load import load_backbone, load_causal
from flywheel.models.logps import ResponseLogps
from flywheel.models.reward import RewardHead
from flywheel.train.batches import micro_batches
from flywheel.train.config import RunSettings
from flywheel.train.config_policy import BETAS, DpoSettings
from flywheel.train.config_reinforce import GrpoSettings, PpoSettings, RlooSettings
from flywheel.train.data import Group, Pair, Row
from flywheel.train.dpo import Judged, preferred
from flywheel.train.engine import Engine
from flywheel.train.grpo import grouped
from flywheel.train.kto import Rated, valued
from flywheel.train.loop import accumulate
from flywheel.train.ppo import Pull, proximal, weighed
from flywheel.train.ratings import Rating
from flywheel.train.reward import bradley_terry
from flywheel.train.rloo import whole_responses
from flywheel.train.rollouts import Rollout
from flywheel.train.sft import imitate
from tests.models_for_tests import tiny
from tests.runs_for_tests import jobs

SEED = np.random.default_rng(0)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny(tmp_path_factory.mktemp("base"))


def text() -> Rendered:
    """Of a length and with a start of its own."""
    length = int(SEED.integers(4, 20))
    return Rendered(SEED.integers(4, 12, length).tolist(), int(SEED.integers(1, length - 1)))


def group(responses: int) -> Group:
    texts = [text() for _ in range(responses)]
    pairs = [
        Pair(a, b, float(SEED.random()), float(SEED.uniform(0.5, 2)))
        for a in range(responses)
        for b in range(a + 1, responses)
    ]
    return Group(texts, pairs, ())


ROWS = [Row(text(), float(SEED.uniform(0.5, 2)), ()) for _ in range(8)]
ELEMENTS: dict[str, tuple[Any, Sequence[Any]]] = {
    "sft": (imitate(), ROWS),
    "sft, packed": (imitate(packing=True), ROWS),
    "reward": (bradley_terry(), [group(k) for k in (2, 4, 3, 5, 2, 3, 2, 4)]),
} | {
    name: (
        preferred(DpoSettings(model="", dataset="", output="", loss=name, nll_weight=0.1)),
        [Judged(group(2), (-9.0, -11.0)) for _ in range(8)],
    )
    for name in BETAS
}
ELEMENTS["kto"] = (
    valued(0.3, {True: 1.0, False: 0.7}),
    [
        Rated(Rating(text(), text(), good, float(SEED.uniform(0.5, 2)), ()), (-9.0, 0.0), 1.0)
        for good in [True, False] * 4
    ],
)


def rollout() -> Rollout:
    """With numbers of its own for each of its tokens."""
    own, numbers = text(), torch.Generator().manual_seed(int(SEED.integers(1000)))
    count = own.response_tokens

    def drawn(scale: float, around: float = 0.0) -> torch.Tensor:
        return around + scale * torch.randn(count, generator=numbers)

    old = drawn(0.3, -2.0)
    return Rollout(
        text=own, group=0, score=0.0, sampled=old, old=old, reference=drawn(0.3, -2.0),
        values=drawn(0.1), advantages=torch.full((count,), float(SEED.normal())),
        returns=drawn(0.5),
    )  # fmt: skip


ROLLED: list[Any] = [rollout() for _ in range(8)]
PULLED = weighed(ROLLED[:6], [Pull(text(), 1.0), Pull(text(), 2.0)], 0.5)
STEERED: Any = SimpleNamespace(kl=SimpleNamespace(beta=0.2))
GIVEN = {"model": "m", "dataset": "d", "output": "o", "verifier": "m:f"}
ELEMENTS |= {
    "grpo": (grouped(GrpoSettings(**GIVEN), STEERED), ROLLED),
    "dapo": (grouped(GrpoSettings(**GIVEN, variant="dapo"), STEERED), ROLLED),
    "rloo": (whole_responses(RlooSettings(**GIVEN, clip_low=1.0, clip_high=1e6)), ROLLED),
    "ppo, pulled": (proximal(PpoSettings(**GIVEN)), [*ROLLED[:6], *PULLED]),
}


def module_of(base: str, name: str) -> torch.nn.Module:
    if name == "reward":
        return RewardHead(load_backbone(base))
    if name.startswith("ppo"):
        return Actor(load_causal(base), Critic(load_backbone(base)))
    return (Actor if ELEMENTS[name][1] is ROLLED else ResponseLogps)(load_causal(base))


def gradients(base: str, name: str, budget: int) -> torch.Tensor:
    """In fp64, where only a mistake differs: a whole response's ratio makes much of rounding."""
    objective, elements = ELEMENTS[name]
    engine = Engine(module_of(base, name).double(), RunSettings(output="", zero_stage=0))
    accumulate(engine, elements, objective, budget)
    weights = engine.engine.module.parameters()
    return torch.cat([weight.grad.double().flatten() for weight in weights])


@pytest.mark.parametrize("name", ELEMENTS)
def test_no_cut_changes_a_gradient(base: str, name: str) -> None:
    objective, elements = ELEMENTS[name]
    whole = gradients(base, name, 10**6)
    cuts = {len(micro_batches(elements, objective.shape, budget)) for budget in (10**6, 200, 60, 1)}
    assert {1, 8} < cuts  # all at once, some in between, one by one
    for budget in (200, 60, 1):
        apart = gradients(base, name, budget)
        error = float((whole - apart).norm() / whole.norm())
        assert error < 1e-7, budget  # scores of a head are fp32


def test_two_processes_take_the_step_of_one(base: str, tmp_path: Path) -> None:
    """Ragged elements in small cuts: the ranks differ in how many backwards they have."""
    for name, alone, shared in jobs("objectives", tmp_path, base):
        assert shared[0]["change"] == pytest.approx(shared[1]["change"], abs=1e-7), name
        found, wanted = (torch.tensor(one["change"]) for one in (shared[0], alone))
        assert float((found - wanted).norm()) <= 1e-5 * float(wanted.norm()), name
        for told in ("loss", "norm", "stats"):
            assert shared[0][told] == pytest.approx(alone[told], rel=1e-5, abs=1e-6), (name, told)
