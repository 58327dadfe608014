"""KL estimators: values and gradients by exact enumeration, and the coefficient's controller."""

import itertools

import pytest
import torch
from torch import Tensor

from flywheel.errors import SettingsError
from flywheel.train.kl import KlCoefficient, k1, k2, k3, loss_term

TINY = {"rtol": 0.0, "atol": 1e-12}


def logits(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def divergence(a: Tensor, b: Tensor) -> Tensor:
    return (a.exp() * (a - b)).sum()


class Bandit:
    """One token of five: policy, reference and an older policy that sampled."""

    def __init__(self) -> None:
        self.theta = logits(5, seed=1).requires_grad_()
        self.policy = torch.log_softmax(self.theta, 0)
        self.reference, self.older = (torch.log_softmax(logits(5, seed=n), 0) for n in (2, 3))

    def grad(self, value: Tensor) -> Tensor:
        return torch.autograd.grad(value, self.theta, retain_graph=True)[0]


def test_values_are_exact_in_expectation_and_k3_is_never_negative() -> None:
    world = Bandit()
    x, chances = world.policy - world.reference, world.policy.exp()
    exact = divergence(world.policy, world.reference)
    assert torch.allclose((chances * k1(x)).sum(), exact, **TINY)
    assert torch.allclose((chances * k3(x)).sum(), exact, **TINY)
    assert (k3(torch.linspace(-30, 30, 1001)) >= 0).all() and (k2(x) >= 0).all()
    assert float(k3(torch.tensor(0.0))) == 0.0


def test_the_gradient_table_on_a_bandit() -> None:
    world = Bandit()
    x, chances = world.policy - world.reference, world.policy.exp().detach()
    right = world.grad(divergence(world.policy, world.reference))
    other_way = world.grad(divergence(world.reference, world.policy))
    assert torch.allclose(world.grad((chances * k1(x)).sum()), torch.zeros(5).double(), **TINY)
    assert torch.allclose(world.grad((chances * k2(x)).sum()), right, **TINY)
    assert torch.allclose(world.grad((chances * k3(x)).sum()), other_way, **TINY)
    in_reward = (chances * x.detach() * world.policy).sum()
    assert torch.allclose(world.grad(in_reward), right, **TINY)


@pytest.mark.parametrize("estimator", ["k2", "k3"])
@pytest.mark.parametrize("sampler", ["policy", "older"])
def test_the_term_in_the_loss_is_exact_on_and_off_policy(estimator: str, sampler: str) -> None:
    world = Bandit()
    old = getattr(world, sampler).detach()
    term = loss_term(world.policy, old, world.reference, estimator)
    found = world.grad((old.exp() * term).sum())
    right = world.grad(divergence(world.policy, world.reference))
    assert torch.allclose(found, right, **TINY)
    plain = {"k2": k2, "k3": k3}[estimator](world.policy - world.reference)
    if sampler == "older":  # without the ratio it is another gradient altogether
        assert not torch.allclose(world.grad((old.exp() * plain).sum()), right, atol=1e-3)


def test_the_gradient_table_on_two_tokens() -> None:
    first, second = logits(3, seed=1).requires_grad_(), logits(3, 3, seed=2).requires_grad_()
    own = torch.log_softmax(first, 0), torch.log_softmax(second, 1)
    start = torch.log_softmax(logits(3, seed=3), 0), torch.log_softmax(logits(3, 3, seed=4), 1)

    def grad(value: Tensor) -> Tensor:
        found = torch.autograd.grad(value, (first, second), allow_unused=True, retain_graph=True)
        return torch.cat([
            (torch.zeros_like(t) if g is None else g).flatten()
            for g, t in zip(found, (first, second), strict=True)
        ])  # fmt: skip

    exact = token_k2 = sequence_k2 = to_go = myopic = torch.zeros((), dtype=torch.float64)
    for a, b in itertools.product(range(3), repeat=2):
        l1, l2 = own[0][a], own[1][a, b]
        x1, x2 = l1 - start[0][a], l2 - start[1][a, b]
        chance = (l1 + l2).exp()
        exact = exact + chance * (x1 + x2)
        chance = chance.detach()
        token_k2 = token_k2 + chance * (k2(x1) + k2(x2))
        sequence_k2 = sequence_k2 + chance * k2(x1 + x2)
        to_go = to_go + chance * ((x1 + x2).detach() * l1 + x2.detach() * l2)
        myopic = myopic + chance * (x1.detach() * l1 + x2.detach() * l2)
    assert torch.allclose(grad(sequence_k2), grad(exact), **TINY)
    assert torch.allclose(grad(to_go), grad(exact), **TINY)
    assert torch.allclose(grad(token_k2), grad(myopic), **TINY)
    assert not torch.allclose(grad(token_k2), grad(exact), atol=1e-3)


def test_an_outlier_stays_finite_and_bounded() -> None:
    far = torch.tensor([-1000.0, 1000.0], requires_grad=True)
    term = loss_term(far, far.detach(), torch.zeros(2), "k3")
    assert term.tolist() == [10.0, 10.0]
    term.sum().backward()
    assert far.grad is not None and far.grad.isfinite().all()


def test_the_coefficient_is_steered_towards_its_target_and_kept_where_there_is_none() -> None:
    steered = KlCoefficient(beta=0.15, target=6.0, horizon=10_000.0)
    steered.update(6.6, 512)  # 10 % too far
    assert steered.beta == pytest.approx(0.15 * (1 + 0.1 * 512 / 10_000))
    steered.update(100.0, 512)  # clipped at 20 %
    assert steered.beta == pytest.approx(0.15 * (1 + 0.1 * 0.0512) * (1 + 0.2 * 0.0512))
    other = KlCoefficient(beta=1.0, target=6.0)
    other.restore(steered.state())
    other.update(0.0, 512)
    assert other.beta < steered.beta
    fixed = KlCoefficient(beta=0.1)
    fixed.update(100.0, 512)
    assert fixed.beta == 0.1


def test_a_coefficient_below_zero_is_refused() -> None:
    with pytest.raises(SettingsError, match="must not be negative"):
        KlCoefficient(beta=-0.1)
