"""What weighing annotators is worth on real labels: `python -m tests.benchmarks.labels_study`.

Every strength of the shrinkage is shown, the plurality beside it. The strength is chosen on one
half of the gold (of UKP: eight of sixteen debates) and judged on the other, with a paired 95 %
interval of the gain over the plurality, resampled over items (of UKP: over debates). Gold enters no
estimate. UKP's gold is itself concluded from the same votes (MACE): agreement with it is not yet
accuracy.

Data: ../shared/data, or FLYWHEEL_SHARED_DATA; nothing of it is kept here.
"""

import csv
import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flywheel.labels.agreement import krippendorff
from flywheel.labels.dawid_skene import dawid_skene, one_coin, plurality
from flywheel.labels.habits import TIE, A, B
from flywheel.labels.pairs import Votes, Weighed, weigh

DATA = Path(os.environ.get("FLYWHEEL_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
STRENGTHS = (0.01, 1.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0)
DOMAIN_STRENGTHS = (50.0, 100.0, 1e9)
Right = npt.NDArray[np.float64]  # 1, 0 or a half per item


def main() -> None:
    """Print every table whose data are there."""
    for name in ("SP", "SP_amt", "CF_amt"):
        crowd_set(name)
    ukp()
    pandalm()


def codes(values: list[Any]) -> npt.NDArray[np.intp]:
    """Values as 0, 1, 2, ..."""
    return np.unique(values, return_inverse=True)[1]


def crowd_set(name: str) -> None:
    """Labels of a crowd on items with one right class."""
    with (DATA / "crowd_labels" / f"{name}.csv").open() as file:
        rows = list(csv.reader(file))
    who, item = codes([row[0] for row in rows]), codes([row[1] for row in rows])
    label, gold = (np.array([int(row[at]) for row in rows]) for at in (2, 3))
    classes = int(label.max()) + 1
    truth = np.zeros(item.max() + 1, int)
    truth[item] = gold
    alpha = krippendorff(item, label, classes=classes)
    print(
        f"\n{name}: {len(label)} labels, {len(truth)} items, {who.max() + 1} annotators,", end=" "
    )
    print(told(alpha))
    right = {"one coin": one_coin(item, who, label, classes=classes)[0].argmax(axis=1) == truth}
    for strength in STRENGTHS:
        found = dawid_skene(item, who, label, classes=classes, strength=strength)
        right[f"Dawid-Skene {strength:g}"] = found.posterior.argmax(axis=1) == truth
    heads = plurality(item, label, classes) == truth
    compare(heads, right, np.arange(len(truth)))


def ukp() -> None:
    """Votes on pairs of arguments, with ties."""
    with gzip.open(DATA / "ukp_convarg1" / "pairs.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    code = {"a1": A, "a2": B, "equal": TIE}
    labels = [(at, one) for at, row in enumerate(rows) for one in row["labels"]]
    pair = np.array([at for at, _ in labels])
    vote = np.array([code[one["value"]] for _, one in labels])
    who = codes([one["worker_id"] for _, one in labels])
    debate = codes([row["debate_title"] for row in rows])
    gold = np.array([code.get(row["gold_label"], -1) for row in rows])
    alpha = krippendorff(pair, vote, classes=3)
    print(
        f"\nUKPConvArg1: {len(vote)} votes, {len(rows)} pairs, {who.max() + 1} annotators,", end=" "
    )
    print(told(alpha))
    votes = Votes(
        pair=pair, annotator=who, domain=debate[pair], vote=vote, truth=np.full(len(rows), -1)
    )
    found = {
        f"weighed {strength:g}/{by_domain:g}": weigh(
            votes, strength=strength, domain_strength=by_domain
        )
        for strength in STRENGTHS[1:]
        for by_domain in DOMAIN_STRENGTHS
    }
    heads = plurality(pair, vote, 3)
    sides = np.array([np.bincount(pair[vote == one], minlength=len(rows)) for one in (A, B)])
    two_way = np.where(sides[A] == sides[B], 0.5, (sides[A] > sides[B]) == (gold == A))
    decided, known = (gold == A) | (gold == B), gold >= 0
    print(" decided gold, by side (strength / strength of domains; the plurality of a and b alone,")
    print(" an even split counting half)")
    compare(
        two_way[decided],
        {name: side(one, gold)[decided] for name, one in found.items()},
        debate[decided],
    )
    print(
        " gold with its ties, three ways (the plurality as votes fall, the lowest class at the top)"
    )
    three = {name: (best(one) == gold)[known] for name, one in found.items()}
    three |= {
        f"Dawid-Skene {strength:g}": (
            dawid_skene(pair, who, vote, classes=3, strength=strength).posterior.argmax(axis=1)
            == gold
        )[known]
        for strength in STRENGTHS
    }
    compare((heads == gold)[known], three, debate[known])
    worth = np.array([1.0, 0.0, 0.5])[gold[known]]
    share = (
        sides[A] + (np.bincount(pair, minlength=len(rows)) - sides.sum(axis=0)) / 2
    ) / np.bincount(pair)
    for name, chance in (
        ("share of votes", share),
        *((name, found[name].probability_a) for name in ("weighed 3/100", "weighed 3/1e+09")),
    ):
        loss = ((chance[known] - worth) ** 2).mean()
        print(f"  squared error of the soft label, {name}: {loss:.4f}")
    used = found["weighed 3/100"]
    one = krippendorff(pair[vote != TIE], vote[vote != TIE], classes=2, resamples=0)
    print(
        f"  ceiling: a vote for a side takes that of the weighted others "
        f"{used.tested_right.sum() / used.tested.sum():.3f} of {used.tested.sum()} times; two such "
        f"votes agree {one.share:.3f} of the time"
    )


def pandalm() -> None:
    """Three annotators on 999 pairs of answers; the columns are positions, not proven persons."""
    rows = json.loads((DATA / "pandalm" / "testset-v1.json").read_text())
    said = np.array([[int(row[f"annotator{one}"]) for one in (1, 2, 3)] for row in rows])
    vote = np.array([TIE, A, B])[said]
    pair, who = np.repeat(np.arange(len(rows)), 3), np.tile(np.arange(3), len(rows))
    alpha = krippendorff(pair, vote.ravel(), classes=3)
    unanimous = (vote == vote[:, :1]).all(axis=1).mean()
    print(
        f"\nPandaLM: {len(rows)} pairs, three annotators, all agree {unanimous:.3f}, {told(alpha)}"
    )
    found = weigh(
        Votes(
            pair=pair,
            annotator=who,
            domain=who * 0,
            vote=vote.ravel(),
            truth=np.full(len(rows), -1),
        )
    )
    same = (best(found) == plurality(pair, vote.ravel(), 3)).mean()
    print(
        f"  accuracies {np.round(found.trust.accuracy[:3], 3)}; ties {found.prior[TIE]:.3f}; the "
        f"weighed conclusion is the plurality's in {same:.4f}; a vote takes the side of the others "
        f"{found.tested_right.sum() / found.tested.sum():.3f} of {found.tested.sum()} times"
    )


def side(found: Weighed, gold: npt.NDArray[np.intp]) -> Right:
    """Whether the likelier side is the gold one; a half where neither is."""
    chance = found.probability_a
    return np.where(chance == 0.5, 0.5, (chance > 0.5) == (gold == A))


def best(found: Weighed) -> npt.NDArray[np.intp]:
    """The likeliest of the three truths."""
    a = found.probability_a - found.probability_tie / 2
    return np.argmax([a, 1 - a - found.probability_tie, found.probability_tie], axis=0)


def told(alpha: Any) -> str:
    """Alpha with its interval."""
    return f"alpha {alpha.alpha:.3f} ({alpha.ci[0]:.3f} to {alpha.ci[1]:.3f})"


def compare(heads: Any, right: dict[str, Any], group: npt.NDArray[np.intp]) -> None:
    """All rates; then the best on one half of the groups, judged on the other."""
    print(f"  plurality {heads.mean():.4f}")
    for name, one in right.items():
        print(f"  {name:24s} {one.mean():.4f}")
    rng = np.random.default_rng(0)
    groups = np.unique(group)
    first = np.isin(group, rng.permutation(groups)[: len(groups) // 2])
    chosen = max(right, key=lambda name: right[name][first].mean())
    gain = right[chosen][~first].astype(float) - heads[~first]
    low, high = interval(gain, codes(list(group[~first])), rng.integers)
    print(
        f"  chosen on one half: {chosen}; on the other {right[chosen][~first].mean():.4f} against "
        f"{heads[~first].mean():.4f}, a gain of {gain.mean():+.4f} ({low:+.4f} to {high:+.4f})"
    )


def interval(
    gain: Right, group: npt.NDArray[np.intp], draw: Callable[..., Any]
) -> tuple[float, float]:
    """95 % of the mean gain, whole groups resampled."""
    count = int(group.max()) + 1
    sums, sizes = np.bincount(group, gain), np.bincount(group)
    taken = [draw(0, count, count) for _ in range(2000)]
    low, high = np.percentile([sums[one].sum() / sizes[one].sum() for one in taken], [2.5, 97.5])
    return float(low), float(high)


if __name__ == "__main__":
    main()
