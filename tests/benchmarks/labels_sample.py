"""Are stated probabilities true? The sample world's feedback, weighed, against its hidden gold.

`python -m tests.benchmarks.labels_sample` takes three seeds of the rankings and comparisons that
the sample delivers (most pairs have one vote) and prints, by bins of the stated probability, how
often the stated side is right; a true tie counts half.
"""

from itertools import combinations, pairwise
from random import Random
from typing import Any

import numpy as np

from flywheel.labels.habits import TIE, A, B
from flywheel.labels.pairs import Votes, weigh
from flywheel.sample import feedback
from flywheel.sample.annotators import TIE as ALIKE
from flywheel.sample.gold import gold

SEEDS, RANKINGS, COMPARISONS = 3, 2500, 1000
BINS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.97, 1.0)


def main() -> None:
    """Print the squared error and the calibration, beside those of the plain share of votes."""
    found = [world(seed) for seed in range(SEEDS)]
    true = np.concatenate([one for _, one in found])
    weighed = np.concatenate([weigh(votes).probability_a for votes, _ in found])
    flat = [weigh(votes, domain_strength=1e9).probability_a for votes, _ in found]
    share = np.concatenate([share_of(votes) for votes, _ in found])
    shared = np.concatenate([np.bincount(votes.pair) > 1 for votes, _ in found])
    print(f"{len(true)} pairs of {SEEDS} seeds, {shared.sum()} with several votes")
    for name, chance in (
        ("share of votes", share),
        ("weighed, no domains", np.concatenate(flat)),
        ("weighed", weighed),
    ):
        loss = (chance - true) ** 2
        print(f"{name:20s} squared error {loss.mean():.4f}, of several {loss[shared].mean():.4f}")
    sure = np.maximum(weighed, 1 - weighed)
    right = np.where(weighed > 0.5, true, 1 - true)
    gaps = []
    for low, high in pairwise(BINS):
        inside = (sure >= low) & (sure < high) & (weighed != 0.5)
        gaps.append(sure[inside].mean() - right[inside].mean())
        told = f"stated {sure[inside].mean():.3f}, true {right[inside].mean():.3f}"
        print(f"  {low:.2f} to {high:.2f}: {inside.sum():6d} pairs, {told}")
    print(f"largest gap {np.abs(gaps).max():.3f}")


def share_of(votes: Votes) -> Any:
    """Share of the votes of each pair that are for a, a tie counting half."""
    worth = np.array([1.0, 0.0, 0.5])[votes.vote]
    return np.bincount(votes.pair, worth) / np.bincount(votes.pair)


def world(seed: int) -> tuple[Votes, Any]:
    """Votes of one seed on distinct pairs, and the gold of each: 1 for a, 0 for b, a half."""
    records = feedback.rankings(Random(f"{seed}:rankings"), RANKINGS)
    records += feedback.comparisons(Random(f"{seed}:comparisons"), COMPARISONS)
    said: list[tuple[tuple[Any, ...], str, str, int]] = []
    for one in records:
        replies = getattr(one, "responses", None) or (one.response_a, one.response_b)
        ranks = getattr(one, "ranks", None) or {"a": (1, 2), "b": (2, 1), "tie": (1, 1)}[one.choice]
        for (x, at), (y, below) in combinations(sorted(zip(replies, ranks, strict=True)), 2):
            vote = A if at < below else B if below < at else TIE
            said.append(((one.prompt, x, y), one.annotator_id, one.domain, vote))
    keys = {key: number for number, key in enumerate(dict.fromkeys(key for key, *_ in said))}
    lead = np.array([gold(p, x).score - gold(p, y).score for p, x, y in keys])
    annotator, domain = (
        np.unique([one[at] for one in said], return_inverse=True)[1] for at in (1, 2)
    )
    votes = Votes(
        pair=np.array([keys[key] for key, *_ in said]),
        annotator=annotator,
        domain=domain,
        vote=np.array([vote for *_, vote in said]),
        truth=np.full(len(keys), -1),
    )
    return votes, np.where(np.abs(lead) < ALIKE, 0.5, lead > 0)


if __name__ == "__main__":
    main()
