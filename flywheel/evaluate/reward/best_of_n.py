"""What a reward model is worth to follow: gold and proxy of the best of n, over the way from n = 1.

From one pool of N samples of the SFT policy to a prompt, the best of n is told for every n up to
N: of samples in the order of the proxy, the i-th is the best of n with chance
`C(i - 1, n - 1) / C(N, n)`, so that all choices of n count and not one of them. Samples that the
proxy holds equal share their chances.

How far the best of n strays from the policy is at most `log n - (n - 1) / n` nats, and that only
where no answer comes twice (arXiv:2401.01879); from the pool itself it is
`sum_i q_i log(q_i / p_i)`, `q_i = F_i^n - (F_i - p_i)^n`, over the different answers in the order
of the proxy. The pool is finite, so that this is a little low for n near N.

Dimension key
    P   prompts
    N   samples of each
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from flywheel.errors import EvaluationError
from flywheel.evaluate.graders.graders import BY_REWARD, PAIRWISE, Asked, score_all
from flywheel.evaluate.policies import seed_of
from flywheel.evaluate.reward.overoptimisation import Point, fitted, peak_of_form, turn
from flywheel.evaluate.settings import BEST_OF_FRAC, EvaluateSettings
from flywheel.process.clock import pieces
from flywheel.rollout import Policy, Response, RewardModel, sample

Floats = npt.NDArray[np.float64]
TOLD = (1, 2, 4, 8, 16, 32, 64)  # n that are told of; all are used


@dataclass(frozen=True, slots=True)
class Pools:
    """Of the best of 1, 2, ..., N on each prompt: (P, N) each, and the prompts' groups."""

    proxy: Floats
    gold: Floats
    nats: Floats
    groups: list[str]

    @property
    def roots(self) -> Floats:
        """(N,) root of the mean divergence."""
        return np.asarray(np.sqrt(self.nats.mean(axis=0)))


def best_of_n(
    asked: Sequence[Asked], reward: RewardModel, settings: EvaluateSettings
) -> dict[str, Any] | None:
    """Gold against proxy for the best of n of the SFT policy's samples, and where gold turns.

    Returns:
        As `described`, on the prompts whose grader gives one answer a score and is not the reward
        model: no other has a gold. None where there is no such prompt, or no pool is asked for.
    """
    graded = [one for one in asked if one.grader not in (BY_REWARD, *PAIRWISE)]
    graded = graded[: settings.best_of_prompts]
    if not graded or settings.best_of_samples < 2:
        return None
    policy = Policy.load(settings.sft)
    samples: list[list[Response]] = []
    for piece in pieces(graded, settings.seconds_of(BEST_OF_FRAC)):
        samples += sample(
            policy,
            [one.prompt for one in piece],
            samples=settings.best_of_samples,
            temperature=settings.temperature,
            max_new_tokens=settings.max_new_tokens,
            seed=[seed_of(settings.seed, "best of n", one.key) for one in piece],
        )
    print(f"best of n: {settings.best_of_samples} answers to {len(samples)} prompts", flush=True)
    return described(pooled(graded[: len(samples)], samples, reward, settings), settings)


def pooled(
    asked: Sequence[Asked],
    samples: Sequence[Sequence[Response]],
    reward: RewardModel,
    settings: EvaluateSettings,
) -> Pools:
    """Score every sample by the prompt's own grader and by the reward model.

    Raises:
        EvaluationError: A score is not a finite number, so that no curve is to be drawn.
    """
    put = [one for one, answers in zip(asked, samples, strict=True) for _ in answers]
    flat = [answer for answers in samples for answer in answers]
    gold = score_all(put, flat, reward, settings.max_tokens)
    by_reward = [replace(one, grader=BY_REWARD) for one in put]
    proxy = score_all(by_reward, flat, reward, settings.max_tokens)
    for one, *scores in zip(put, gold, proxy, strict=True):
        if not all(map(math.isfinite, scores)):
            raise EvaluationError(
                f"the best of n needs a score for every answer, and one to prompt {one.key} has "
                f"{scores} by {one.grader} and the reward model; repair that grader"
            )
    size = settings.best_of_samples
    rows = []
    for place in range(0, len(flat), size):
        mine = slice(place, place + size)
        texts = [one.text for one in flat[mine]]
        rows.append((*best(proxy[mine], gold[mine]), strayed(texts, proxy[mine])))
    proxies, golds, nats = (np.array(column) for column in zip(*rows, strict=True))
    return Pools(proxies, golds, nats, [one.group for one in asked])


def best(proxy: Sequence[float], gold: Sequence[float]) -> tuple[Floats, Floats]:
    """(N,) each: mean proxy and gold of the best of 1, 2, ..., N by the proxy."""
    scores, values = np.asarray(proxy, float), np.asarray(gold, float)
    order = np.argsort(scores, kind="stable")
    scores, values = scores[order], values[order]
    _, place, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    shared = (np.bincount(place, values) / sizes)[place]  # the proxy does not tell them apart
    weights = chances(len(scores))
    return weights @ scores, weights @ shared


@cache
def chances(size: int) -> Floats:
    """(N, N) chance that the best of n, row n - 1, is the i-th of N in ascending order."""
    return np.array(
        [
            [math.comb(i, n - 1) / math.comb(size, n) for i in range(size)]
            for n in range(1, size + 1)
        ]
    )


def strayed(texts: Sequence[str], proxy: Sequence[float]) -> Floats:
    """(N,) nats between the best of 1, 2, ..., N of these answers and one of them."""
    counts: dict[tuple[float, str], int] = {}
    for one in zip(proxy, texts, strict=True):
        counts[one] = counts.get(one, 0) + 1
    shares = np.array([counts[one] for one in sorted(counts)]) / len(texts)
    return np.array([divergence(shares, n) for n in range(1, len(texts) + 1)])


def divergence(shares: Floats, n: int) -> float:
    """Nats between the best of n and one draw: shares of all outcomes, from worst to best."""
    through = shares.cumsum()
    chosen = through**n - np.maximum(through - shares, 0) ** n
    kept = chosen > 0
    return float((chosen[kept] * np.log(chosen[kept] / shares[kept])).sum())


def described(pools: Pools, settings: EvaluateSettings) -> dict[str, Any]:
    """The curve, both of its forms and its turn; intervals are resampled over groups of prompts.

    Returns:
        points, one for each n of `TOLD`; alpha and beta of `d (alpha - beta d)`, and form_peak with
        its ci; peak, where the curve itself turns, with its ci, whose upper end is None where
        gold may still rise; prompts, groups and samples.
    """
    size = pools.gold.shape[1]
    names = {name: at for at, name in enumerate(dict.fromkeys(pools.groups))}
    places = np.array([names[one] for one in pools.groups])
    rng = np.random.default_rng(settings.seed)
    drawn = []
    for _ in range(max(settings.resamples // 4, 20)):  # each fits two curves
        times = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
        weight = times[places]
        drawn.append([np.average(one, axis=0, weights=weight) for one in _columns(pools)])
    whole = fitted(points_of(*(one.mean(axis=0) for one in _columns(pools))), "best_of_n")
    proxies, golds, nats = (np.array(one) for one in zip(*drawn, strict=True))
    curves = [points_of(*one) for one in zip(proxies, golds, nats, strict=True)]
    turns = [_or_never(turn(np.array([(d, gold) for d, _, gold in one]))) for one in curves]
    forms = [_or_never(peak_of_form(one, "best_of_n")) for one in curves]
    form_peak = peak_of_form(list(whole.points), "best_of_n")
    ends = np.quantile(golds, [0.025, 0.975], axis=0)
    return {
        "points": [
            {
                "n": n,
                "root_nats": pools.roots[n - 1],
                "root_nats_at_most": math.sqrt(math.log(n) - (n - 1) / n),
                "proxy": pools.proxy[:, n - 1].mean(),
                "gold": pools.gold[:, n - 1].mean(),
                "ci": ends[:, n - 1].tolist(),
                "se": golds[:, n - 1].std(ddof=1),
            }
            for n in TOLD
            if n <= size
        ],
        "alpha": whole.alpha,
        "beta": whole.beta,
        "form_peak": form_peak,
        "form_peak_ci": _ends(forms),
        "peak": whole.peak,
        "peak_ci": _ends(turns),
        "prompts": len(pools.gold),
        "groups": len(names),
        "samples": size,
    }


def points_of(proxy: Floats, gold: Floats, nats: Floats) -> list[Point]:
    """The curve as `overoptimisation.fitted` takes it: n = 1 strays by nothing and is the start."""
    return [*zip(np.sqrt(nats).tolist(), proxy.tolist(), gold.tolist(), strict=True)]


def turn_of_best(found: dict[str, Any], pools_n: int) -> dict[str, Any]:
    """As `turn_of`, of a policy that imitates the best of n: it is held against the curve above.

    Args:
        found: `described`.
        pools_n: The n that it imitates; the nearest that was told of stands for it.
    """
    points = found["points"]
    mine = min(points, key=lambda one: abs(math.log(one["n"] / pools_n)))
    top = max(points, key=lambda one: one["gold"])
    return {
        "root_nats": mine["root_nats"],
        "peak": found["peak"],
        "peak_ci": found["peak_ci"],
        "drop": top["gold"] - mine["gold"],
        "spread": math.hypot(top["se"], mine["se"]),  # more than that of their difference
        "points": [(one["root_nats"], one["proxy"], one["gold"]) for one in points],
    }


def _columns(pools: Pools) -> tuple[Floats, Floats, Floats]:
    return pools.proxy, pools.gold, pools.nats


def _or_never(peak: float | None) -> float:
    return math.inf if peak is None else peak


def _ends(values: Sequence[float]) -> list[float | None]:
    ends = np.quantile(values, [0.025, 0.975], method="nearest")
    return [float(one) if math.isfinite(one) else None for one in ends]
