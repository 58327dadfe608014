"""Policy losses: hand values, limits, REINFORCE at ratio 1, enumerated expectations, TRL's own."""

import itertools
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from flywheel.train.advantages import group_relative, leave_one_out
from flywheel.train.config_reinforce import GrpoSettings
from flywheel.train.grpo import count_of, reinforced
from flywheel.train.kl import loss_term
from flywheel.train.policy_losses import (
    capped_loss,
    clipped_count,
    clipped_loss,
    response_means,
    response_sums,
    value_loss,
)

LENGTHS = (3, 5, 1, 4)


def clipped(ratio: float, advantage: float, **options: float) -> float:
    chosen = {"low": 0.2, "high": 0.2, **options}
    one = torch.ones(1, dtype=torch.float64)
    return float(clipped_loss((ratio * one).log(), advantage * one, one, **chosen))


def test_the_clip_is_pessimistic_on_both_sides() -> None:
    assert clipped(1.5, 2.0) == pytest.approx(-2.4)  # gains stop at 1.2
    assert clipped(0.5, 2.0) == pytest.approx(-1.0)  # losses do not
    assert clipped(0.5, -2.0) == pytest.approx(1.6)
    assert clipped(1.5, -2.0) == pytest.approx(3.0)
    assert clipped(1.5, 2.0, high=0.28) == pytest.approx(-2.56)


def test_the_dual_clip_bounds_what_a_bad_token_costs() -> None:
    assert clipped(50.0, -2.0) == pytest.approx(100.0)
    assert clipped(50.0, -2.0, dual=3.0) == pytest.approx(6.0)
    assert clipped(50.0, 2.0, dual=3.0) == clipped(50.0, 2.0)


def test_a_log_ratio_of_a_thousand_stays_finite() -> None:
    assert clipped_loss(
        torch.tensor([1000.0]), torch.tensor([-1.0]), torch.ones(1), low=0.2, high=0.2
    ).isfinite()


def test_what_the_clip_stops_is_counted_where_it_stops_a_gradient() -> None:
    ratios = torch.tensor([1.5, 1.5, 0.5, 0.5, 0.5, 1.1]).log()
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0, -1.0, 1.0])
    assert clipped_count(ratios, signs, low=0.2, high=0.2) == 3
    moving = ratios.clone().requires_grad_()
    clipped_loss(moving, signs, torch.ones(6), low=0.2, high=0.2).backward()
    assert moving.grad is not None and int((moving.grad == 0).sum()) == 3


def test_the_value_loss_takes_the_worse_of_two_errors() -> None:
    values, old, returns = torch.tensor([1.0]), torch.tensor([0.0]), torch.tensor([1.0])
    assert float(value_loss(values, old, returns, clip=0.0)) == 0.0
    assert float(value_loss(values, old, returns, clip=0.2)) == pytest.approx(0.5 * 0.64)


def test_a_capped_token_keeps_its_gradient() -> None:
    logps = torch.tensor([0.0, 0.0], requires_grad=True)
    ratios, advantages = torch.tensor([9.0, 2.0]).log(), torch.tensor([1.0, -1.0])
    capped_loss(logps, ratios, advantages, torch.ones(2), high=4.0).backward()
    assert logps.grad is not None and logps.grad.tolist() == pytest.approx([-5.0, 2.0])


def test_sums_and_means_are_of_each_response() -> None:
    values, lengths = torch.tensor([1.0, 2.0, 6.0]), torch.tensor([2, 1])
    assert response_sums(values, lengths).tolist() == [3.0, 6.0]
    assert response_means(values, lengths).tolist() == [1.5, 6.0]


def settings(variant: str, **changes: Any) -> GrpoSettings:
    return GrpoSettings(
        model="m", dataset="d", output="o", verifier="m:f", variant=variant, **changes
    )


def sampled(seed: int = 0, gap: float = 0.3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(N,) policy, old and reference log-probabilities, and (B,) advantages."""
    generator = torch.Generator().manual_seed(seed)
    old = -torch.rand(sum(LENGTHS), generator=generator, dtype=torch.float64) * 3
    noise = torch.randn(2, len(old), generator=generator, dtype=torch.float64) * gap
    advantages = torch.tensor([1.0, -0.5, 0.7, -1.2], dtype=torch.float64)
    return (old + noise[0]).requires_grad_(), old, old + noise[1], advantages


def our_loss(
    variant: str, logps: Tensor, old: Tensor, reference: Tensor, advantages: Tensor, beta: float
) -> Tensor:
    """What the recipe sums, over what the loop divides it by."""
    chosen, lengths = settings(variant), torch.tensor(LENGTHS)
    weights = torch.ones_like(logps)
    if variant in ("grpo", "gspo"):
        weights = torch.repeat_interleave(1 / lengths.double(), lengths)
    each = torch.repeat_interleave(advantages, lengths)
    total, _ = reinforced(chosen, logps, old, each, weights, lengths)
    if beta:
        total = total + beta * (weights * loss_term(logps, old, reference, "k3")).sum()
    counts = [count_of(chosen, SimpleNamespace(text=SimpleNamespace(response_tokens=n)))
              for n in LENGTHS]  # fmt: skip
    return total / sum(counts)


@pytest.mark.parametrize("variant", ["grpo", "dr_grpo", "dapo", "gspo", "cispo"])
def test_at_ratio_1_every_variant_has_the_gradient_of_reinforce(variant: str) -> None:
    logps, _, reference, advantages = sampled()
    lengths = torch.tensor(LENGTHS)
    our_loss(variant, logps, logps.detach(), reference, advantages, 0.0).backward()
    each = torch.repeat_interleave(advantages, lengths)
    share = torch.repeat_interleave(1 / lengths.double(), lengths)
    expected = {
        "grpo": -each * share / len(LENGTHS),
        "gspo": -each * share / len(LENGTHS),
        "dr_grpo": -each / (len(LENGTHS) * 256),
        "dapo": -each / sum(LENGTHS),
        "cispo": -each / sum(LENGTHS),
    }[variant]
    assert logps.grad is not None and torch.allclose(logps.grad, expected, rtol=0, atol=1e-15)


def in_rows(values: Tensor) -> Tensor:
    """(B, T) of (N,), padded with 0."""
    return torch.nn.utils.rnn.pad_sequence(list(values.split(LENGTHS)), batch_first=True)


class Alone:
    """What TRL asks of its accelerator, in one process."""

    num_processes, sync_gradients = 1, True

    def gather(self, value: Tensor) -> Tensor:
        return value.reshape(-1)

    gather_for_metrics = gather

    def reduce(self, value: Tensor, reduction: str) -> Tensor:
        return value


def trl_loss(trainer: Any, facts: dict[str, Any], logps: Tensor, inputs: dict[str, Any]) -> Tensor:
    """The loss of TRL's own code on given log-probabilities."""
    peer = object.__new__(trainer)
    mask = in_rows(torch.ones(sum(LENGTHS), dtype=torch.float64))
    rows = in_rows(logps)
    facts = {
        "model": SimpleNamespace(training=True),
        "accelerator": Alone(),
        "_metrics": {"train": defaultdict(list)},
        "aux_loss_enabled": False,
        "_get_per_token_logps_and_entropies": lambda *_, **__: (rows, torch.zeros_like(rows), None),
        **facts,
    }
    for name, value in facts.items():
        setattr(peer, name, value)
    empty = torch.zeros(len(LENGTHS), 0)
    given = {"prompt_ids": empty, "prompt_mask": empty, "completion_ids": mask,
             "completion_mask": mask, **inputs}  # fmt: skip
    return peer._compute_loss(peer.model, given)


@pytest.mark.parametrize(
    ("variant", "beta"),  # TRL weighs GSPO's KL by the ratio of the response, not of the token
    [("gspo", 0.0), *((one, b) for one in ("grpo", "dr_grpo", "dapo", "cispo") for b in (0, 0.3))],
)
def test_the_loss_and_its_gradient_are_trls(variant: str, beta: float) -> None:
    trl = pytest.importorskip("trl")
    logps, old, reference, advantages = sampled()
    chosen = settings(variant)
    facts = {
        "loss_type": {"gspo": "grpo"}.get(variant, variant),
        "importance_sampling_level": "sequence" if variant == "gspo" else "token",
        "epsilon_low": chosen.clip_low,
        "epsilon_high": 1 + chosen.clip_high if variant == "cispo" else chosen.clip_high,
        "beta": beta,
        "top_entropy_quantile": 1.0,
        "off_policy_mask_threshold": None,
        "use_vllm": False,
        "max_completion_length": chosen.max_new_tokens,
        "current_gradient_accumulation_steps": 1,
        "_entropy_bonus_enabled": False,
        "args": SimpleNamespace(
            delta=None, use_bias_correction_kl=True, steps_per_generation=1, report_to=[]
        ),
    }
    inputs = {
        "advantages": advantages,
        "old_per_token_logps": in_rows(old),
        "ref_per_token_logps": in_rows(reference),
        "num_items_in_batch": torch.tensor(float(sum(LENGTHS))),
    }
    theirs = trl_loss(trl.GRPOTrainer, facts, logps, inputs)
    ours = our_loss(variant, logps, old, reference, advantages, beta)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-12)
    grads = [torch.autograd.grad(one, logps)[0] for one in (ours, theirs)]
    assert torch.allclose(*grads, rtol=0, atol=1e-14)


def test_the_loss_of_whole_responses_is_trls() -> None:
    trl = pytest.importorskip("trl")
    logps, old, _, advantages = sampled(gap=0.1)
    lengths = torch.tensor(LENGTHS)
    facts = {"epsilon_low": 0.2, "epsilon_high": 0.2, "beta": 0.0, "args": SimpleNamespace()}
    inputs = {"advantages": advantages, "old_logps": response_sums(old, lengths)}
    theirs = trl_loss(trl.RLOOTrainer, facts, logps, inputs)
    ratios = response_sums(logps - old, lengths)
    ours = clipped_loss(ratios, advantages, torch.ones(4).double(), low=0.2, high=0.2) / 4
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-12)
    grads = [torch.autograd.grad(one, logps)[0] for one in (ours, theirs)]
    assert torch.allclose(*grads, rtol=0, atol=1e-14)


def test_leave_one_out_is_unbiased_and_a_baseline_with_itself_shrinks_the_gradient() -> None:
    theta = torch.tensor([0.3, -0.2, 0.9], dtype=torch.float64, requires_grad=True)
    rewards = torch.tensor([1.0, -0.5, 0.2], dtype=torch.float64)
    logps = torch.log_softmax(theta, 0)
    exact = torch.autograd.grad((logps.exp() * rewards).sum(), theta, retain_graph=True)[0]
    groups, found = torch.zeros(3, dtype=torch.long), torch.zeros(3, dtype=torch.float64)
    centred = torch.zeros(3, dtype=torch.float64)
    for picks in itertools.product(range(3), repeat=3):  # every group of three, by its chance
        chosen = list(picks)
        chance = logps[chosen].sum().exp().detach()
        for total, advantages in (
            (found, leave_one_out(rewards[chosen], groups)),
            (centred, group_relative(rewards[chosen], groups, by_deviation=False)),
        ):
            zeros = torch.zeros(3, dtype=torch.float64)
            loss = clipped_loss(
                logps[chosen] - logps[chosen].detach(), advantages, zeros + 1, low=0.2, high=0.2
            )
            total -= chance * torch.autograd.grad(loss / 3, theta, retain_graph=True)[0]
    assert torch.allclose(found, exact, rtol=0, atol=1e-12)
    assert torch.allclose(centred, exact * 2 / 3, rtol=0, atol=1e-12)  # (G - 1) / G
