"""No cut into micro-batches changes a gradient, whatever the objective."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from flywheel.datasets.render import Rendered
from flywheel.models.load import load_backbone, load_causal
from flywheel.models.logps import ResponseLogps
from flywheel.models.reward import RewardHead
from flywheel.train.batches import micro_batches
from flywheel.train.config import RunSettings
from flywheel.train.config_policy import BETAS, DpoSettings
from flywheel.train.data import Group, Pair, Row
from flywheel.train.dpo import Judged, preferred
from flywheel.train.engine import Engine
from flywheel.train.loop import accumulate
from flywheel.train.reward import bradley_terry
from flywheel.train.sft import imitate
from tests.models_for_tests import tiny

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


ELEMENTS: dict[str, tuple[Any, Sequence[Any]]] = {
    "sft": (imitate(), [Row(text(), float(SEED.uniform(0.5, 2)), ()) for _ in range(8)]),
    "reward": (bradley_terry(), [group(k) for k in (2, 4, 3, 5, 2, 3, 2, 4)]),
} | {
    name: (
        preferred(DpoSettings(model="", dataset="", output="", loss=name, nll_weight=0.1)),
        [Judged(group(2), (-9.0, -11.0)) for _ in range(8)],
    )
    for name in BETAS
}


def gradients(base: str, name: str, budget: int) -> torch.Tensor:
    objective, elements = ELEMENTS[name]
    module = (
        RewardHead(load_backbone(base)) if name == "reward" else ResponseLogps(load_causal(base))
    )
    engine = Engine(module, RunSettings(output="", zero_stage=0))
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
        assert float((whole - apart).norm() / whole.norm()) < 1e-6, budget
