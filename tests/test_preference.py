"""Losses on pairs: published formulas, TRL on the same model and text, limits, refusals."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from flywheel.errors import SettingsError, ShapeError
from flywheel.train.config_policy import BETAS, WITHOUT_REFERENCE, DpoSettings
from flywheel.train.dpo import run
from flywheel.train.preference_losses import VARIANTS, Logps, Shape, pair_losses
from tests.models_for_tests import preferences, tiny

LOG_2 = math.log(2)
BETA, NOISE, GAMMA = 0.3, 0.2, 0.7
SHAPE = Shape(beta=BETA, smoothing=NOISE, gamma=GAMMA)


def side(*policy: float, reference: float = -6.0, length: float = 4.0) -> Logps:
    values = torch.tensor(policy, dtype=torch.float64)
    return Logps(
        policy=values,
        reference=torch.full_like(values, reference),
        lengths=torch.full_like(values, length),
    )


A = side(-5.0, -9.0, -2.0, length=4)
B = side(-7.0, -3.0, -8.0, reference=-6.5, length=5)


def by_formula(loss: str, s: Tensor, r: Tensor, n: Tensor, t: Tensor, q: Tensor, m: Tensor) -> Any:
    """The papers' own words: chosen (s, reference r, length n), rejected (t, q, m)."""
    delta = (s - r) - (t - q)
    mean = (s - r) / n - (t - q) / m
    odds_s, odds_t = (torch.exp(x) / (1 - torch.exp(x)) for x in (s / n, t / m))
    right, wrong = logsigmoid(BETA * delta), logsigmoid(-BETA * delta)
    return {
        "sigmoid": -right,
        "conservative": -(1 - NOISE) * right - NOISE * wrong,
        "robust": (-(1 - NOISE) * right + NOISE * wrong) / (1 - 2 * NOISE),
        "ipo": (mean - 1 / (2 * BETA)) ** 2,
        "hinge": torch.clamp(1 - BETA * delta, min=0),
        "length_normalised": -logsigmoid(BETA * mean),
        "simpo": -logsigmoid(BETA * (s / n - t / m) - GAMMA),
        "orpo": -BETA * torch.log(torch.sigmoid(torch.log(odds_s / odds_t))),
    }[loss]


def losses(name: str, a: Logps, b: Logps, probability: float = 1.0) -> Tensor:
    variant = VARIANTS[name]
    margins = variant.margin(a, b)
    return pair_losses(variant, margins, torch.full_like(margins, probability), SHAPE)


def test_every_loss_that_can_be_chosen_is_there() -> None:
    assert VARIANTS.keys() == BETAS.keys() > WITHOUT_REFERENCE


@pytest.mark.parametrize("name", VARIANTS)
def test_a_loss_is_its_published_formula(name: str) -> None:
    of_a = A.policy, A.reference, A.lengths
    of_b = B.policy, B.reference, B.lengths
    assert torch.allclose(losses(name, A, B), by_formula(name, *of_a, *of_b), atol=1e-12)
    soft = 0.7 * by_formula(name, *of_a, *of_b) + 0.3 * by_formula(name, *of_b, *of_a)
    assert torch.allclose(losses(name, A, B, 0.7), soft, atol=1e-12)


@pytest.mark.parametrize("name", VARIANTS)
def test_swapping_sides_and_label_changes_nothing(name: str) -> None:
    assert torch.allclose(losses(name, A, B, 0.8), losses(name, B, A, 0.2), atol=1e-12)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_gradient_is_that_of_the_value_and_raises_the_chosen(name: str) -> None:
    a, b = (one.policy.clone().requires_grad_() for one in (A, B))

    def total(a: Tensor, b: Tensor) -> Tensor:
        return losses(name, replace(A, policy=a), replace(B, policy=b)).sum()

    assert torch.autograd.gradcheck(total, (a, b))
    slope_a, slope_b = torch.autograd.grad(total(a, b), (a, b))
    if name not in ("ipo", "conservative"):  # those pull back what has gone beyond their target
        assert (slope_a <= 0).all() and (slope_b >= 0).all()
    assert slope_a.abs().sum() > 0


def test_a_policy_that_is_its_reference_pays_log_2() -> None:
    same = replace(A, reference=A.policy), replace(B, reference=B.policy)
    for name in ("sigmoid", "conservative", "robust", "length_normalised"):
        assert losses(name, *same).tolist() == pytest.approx([LOG_2] * 3)
    assert losses("hinge", *same).tolist() == [1.0] * 3
    assert losses("ipo", *same).tolist() == pytest.approx([1 / (2 * BETA) ** 2] * 3)


def test_values_by_hand() -> None:
    # delta = (-5 + 6) - (-7 + 6.5) = 1.5, per token 1/4 + 0.5/5 = 0.35
    one = [float(losses(name, A, B)[0]) for name in ("sigmoid", "hinge", "ipo")]
    assert one == pytest.approx([math.log(1 + math.exp(-0.45)), 0.55, (0.35 - 1 / 0.6) ** 2])


def test_certain_and_impossible_responses_stay_finite() -> None:
    for policy in (0.0, -1e-9, -5000.0):
        a = replace(side(policy), policy=torch.tensor([policy], requires_grad=True))
        for name in VARIANTS:
            value = losses(name, a, side(-3.0)).sum()
            (slope,) = torch.autograd.grad(value, a.policy)
            assert value.isfinite() and slope.isfinite(), (name, policy)


def test_tensors_that_do_not_line_up_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"one shape \(P,\)"):
        Logps(policy=torch.zeros(3), reference=torch.zeros(2), lengths=torch.ones(3))
    with pytest.raises(ShapeError, match=r"one shape \(P,\)"):
        pair_losses(VARIANTS["ipo"], torch.zeros(3), torch.zeros(2), SHAPE)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"loss": "dpo"}, "no loss 'dpo' on pairs; there are sigmoid"),
        ({"label_smoothing": 0.1}, "sigmoid smooths no label"),
        ({"loss": "robust", "label_smoothing": 0.5}, "below 0.5"),
        ({"gamma": 1.0}, "sigmoid has no gamma"),
        ({"beta": -0.1}, "must not be negative"),
        ({"epochs": 0.0}, "epochs must be positive"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(chosen: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        DpoSettings(model="", dataset="", output="", **chosen)


def test_a_loss_takes_the_numbers_of_its_paper_unless_told_otherwise() -> None:
    def of(**chosen: Any) -> DpoSettings:
        return DpoSettings(model="", dataset="", output="", **chosen)

    assert (of().beta, of().nll_weight, of(loss="length_normalised").beta) == (0.1, 0.0, 5.0)
    assert (of(loss="simpo").beta, of(loss="simpo").gamma) == (2.5, 1.375)
    assert of(loss="orpo").nll_weight == 1.0
    assert of(loss="robust", label_smoothing=0.3).label_smoothing == 0.3


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny(tmp_path_factory.mktemp("base"))


def test_trl_finds_the_same_conservative_simpo_and_orpo() -> None:
    from trl.experimental.cpo import CPOTrainer
    from trl.experimental.orpo import ORPOTrainer

    means = A.policy / A.lengths, B.policy / B.lengths
    here = SimpleNamespace(device="cpu")
    facts = {"alpha": 0.0, "loss_type": "simpo", "label_smoothing": 0.0, "accelerator": here}
    simpo = CPOTrainer.cpo_loss(SimpleNamespace(beta=BETA, simpo_gamma=GAMMA, **facts), *means)[0]
    assert torch.allclose(losses("simpo", A, B), simpo, atol=1e-6)
    facts["loss_type"], facts["label_smoothing"] = "sigmoid", NOISE
    ratios = A.policy - A.reference, B.policy - B.reference
    smoothed = CPOTrainer.cpo_loss(SimpleNamespace(beta=BETA, **facts), *ratios)[0]
    assert torch.allclose(losses("conservative", A, B), smoothed, atol=1e-6)
    orpo = ORPOTrainer.odds_ratio_loss(SimpleNamespace(beta=BETA, accelerator=here), *means)[0]
    assert torch.allclose(losses("orpo", A, B), -orpo.double(), atol=1e-6)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_planted_preference_is_found(base: str, tmp_path: Path, name: str) -> None:
    settings = DpoSettings(
        model=base,
        dataset=preferences(tmp_path / "preference"),
        output=str(tmp_path / "policy"),
        loss=name,
        epochs=6.0,
        batch=8,
        learning_rate=5e-3,
        warmup_steps=2,
    )
    (tmp_path / "run").mkdir()
    result = run(settings, tmp_path / "run")
    assert result["validation_accuracy_frac"] == 1.0 and result["loss"] < result["start_loss"]
    assert (tmp_path / "run" / "references").exists() == (name not in WITHOUT_REFERENCE)
