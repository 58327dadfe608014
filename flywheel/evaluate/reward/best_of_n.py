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
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from flywheel.errors import EvaluationError
from flywheel.evaluate.graders.graders import BY_REWARD, Asked, score_all
from flywheel.evaluate.policies import loaded, seed_of
from flywheel.evaluate.reward.curves import Floats, Measured, curved, resampled, turn_at
from flywheel.evaluate.reward.ways import Way, has_gold
from flywheel.evaluate.settings import BEST_OF_FRAC, EvaluateSettings
from flywheel.process.clock import pieces
from flywheel.rollout import Response, RewardModel, sample

TOLD = (1, 2, 4, 8, 16, 32, 64)  # n that are told of; all are used


def pools_of(asked: Sequence[Asked], settings: EvaluateSettings) -> list[list[Response]]:
    """Answers of the SFT policy to the first of these prompts: as many as there is time for."""
    policy = loaded(settings.sft)
    samples: list[list[Response]] = []
    for piece in pieces(asked, settings.seconds_of(BEST_OF_FRAC)):
        samples += sample(
            policy,
            [one.prompt for one in piece],
            samples=settings.best_of_samples,
            temperature=settings.temperature,
            max_new_tokens=settings.max_new_tokens,
            seed=[seed_of(settings.seed, "best of n", one.key) for one in piece],
        )
    print(f"best of n: {settings.best_of_samples} answers to {len(samples)} prompts", flush=True)
    return samples


def best_of_n(
    asked: Sequence[Asked], start: Sequence[str], reward: RewardModel, settings: EvaluateSettings
) -> tuple[dict[str, Any] | None, Way]:
    """What the best of n of the SFT policy's samples is worth, and its answers for people to judge.

    Args:
        asked: The prompts; either all of them have a gold, or none.
        start: One more answer of the SFT policy to each, which the best of n are held against.
        reward: The proxy.
        settings: Of the evaluation.

    Returns:
        As `described`, None where there is no gold; the way, with the n of `TOLD`.
    """
    samples = pools_of(asked, settings)
    asked = asked[: len(samples)]
    proxy = proxies_of(asked, samples, reward, settings)
    if has_gold(asked[0]):
        pools = pooled(asked, samples, proxy, reward, settings)
        found = described(pools, settings)
    else:
        pools, found = _measured(asked, samples, proxy, proxy), None
    told = [n for n in TOLD if n <= settings.best_of_samples]
    ends = [n - 1 for n in told]
    chosen = [proxy[:, :n].argmax(axis=1) for n in told[1:]]
    texts = [[row[at].text for row, at in zip(samples, one, strict=True)] for one in chosen]
    return found, Way(
        kind="best of n",
        form="best_of_n",
        places=told,
        asked=[*asked],
        texts=[list(start[: len(asked)]), *texts],
        proxy=pools.proxy[:, ends],
        nats=pools.nats[:, ends],
    )


def proxies_of(
    asked: Sequence[Asked],
    samples: Sequence[Sequence[Response]],
    reward: RewardModel,
    settings: EvaluateSettings,
) -> Floats:
    """(P, N) what the reward model says of every sample."""
    put = [
        replace(one, grader=BY_REWARD) for one, row in zip(asked, samples, strict=True) for _ in row
    ]
    flat = [answer for row in samples for answer in row]
    return np.reshape(score_all(put, flat, reward, settings.max_tokens), (len(asked), -1))


def pooled(
    asked: Sequence[Asked],
    samples: Sequence[Sequence[Response]],
    proxy: Floats,
    reward: RewardModel,
    settings: EvaluateSettings,
) -> Measured:
    """Of the best of 1, 2, ..., N on each prompt, by the prompt's own grader: (P, N) each.

    Raises:
        EvaluationError: A score is not a finite number, so that no curve is to be drawn.
    """
    put = [one for one, answers in zip(asked, samples, strict=True) for _ in answers]
    flat = [answer for answers in samples for answer in answers]
    gold = score_all(put, flat, reward, settings.max_tokens)
    for one, *scores in zip(put, gold, proxy.ravel().tolist(), strict=True):
        if not all(map(math.isfinite, scores)):
            raise EvaluationError(
                f"the best of n needs a score for every answer, and one to prompt {one.key} has "
                f"{scores} by {one.grader} and the reward model; repair that grader"
            )
    return _measured(asked, samples, proxy, np.reshape(gold, proxy.shape))


def _measured(
    asked: Sequence[Asked], samples: Sequence[Sequence[Response]], proxy: Floats, gold: Floats
) -> Measured:
    rows = [
        (*best(own, said), strayed([one.text for one in row], own.tolist()))
        for row, said, own in zip(samples, gold, proxy, strict=True)
    ]
    proxies, golds, nats = (np.array(column) for column in zip(*rows, strict=True))
    return Measured(proxies, golds, nats, [one.group for one in asked])


def best(proxy: Sequence[float] | Floats, gold: Sequence[float] | Floats) -> tuple[Floats, Floats]:
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


def strayed(texts: Sequence[str], proxy: Sequence[float] | Floats) -> Floats:
    """(N,) nats between the best of 1, 2, ..., N of these answers and one of them."""
    counts: dict[tuple[float, str], int] = {}
    for one in zip(proxy, texts, strict=True):
        counts[one] = counts.get(one, 0) + 1
    shares = np.array([counts[one] for one in sorted(counts)]) / len(texts)
    return divergence(shares, np.arange(1, len(texts) + 1))


def divergence(shares: Floats, n: npt.ArrayLike) -> Floats:
    """Nats between the best of n and one draw: shares of all outcomes, from worst to best."""
    through, many = shares.cumsum(), np.asarray(n)[..., None]
    chosen = through**many - np.maximum(through - shares, 0) ** many
    odds = np.divide(chosen, shares, out=np.ones_like(chosen), where=chosen > 0)
    return np.asarray((chosen * np.log(odds)).sum(axis=-1))


def described(pools: Measured, settings: EvaluateSettings) -> dict[str, Any]:
    """The curve, both of its forms and its turn; intervals are resampled over groups of prompts.

    Returns:
        As `curves.curved`, with points of the n of `TOLD`; prompts, groups and samples.
    """
    size = pools.gold.shape[1]
    found = curved(pools.means(), resampled(pools, settings), "best_of_n")
    points = [
        {"n": n, "root_nats_at_most": math.sqrt(math.log(n) - (n - 1) / n)} | found["points"][n - 1]
        for n in TOLD
        if n <= size
    ]
    counts = {"prompts": len(pools.gold), "groups": len(set(pools.groups)), "samples": size}
    return found | counts | {"points": points}


def turn_of_best(found: dict[str, Any], imitated: int) -> dict[str, Any]:
    """As `turn_of`, of a policy that imitates the best of n: it is held against the curve above.

    Args:
        found: `described`, or what people say of the same way.
        imitated: The n that it imitates; the nearest that was told of stands for it.
    """
    told = [one["n"] for one in found["points"]]
    return turn_at(found, min(range(len(told)), key=lambda at: abs(math.log(told[at] / imitated))))
