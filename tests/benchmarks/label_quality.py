"""Weighing a million labels beside the libraries that do the same, equal results required.

CPU seconds of one thread, the median of three interleaved runs. The peers come with the extra
`bench` (`pip install -e .[bench]`); where one is missing, its rows are left out.
"""

import importlib.util
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from flywheel.labels.agreement import krippendorff
from flywheel.labels.bradley_terry import bradley_terry, crowd_bradley_terry
from flywheel.labels.dawid_skene import dawid_skene
from tests.benchmarks.measurement import Measurement

ITEMS, EACH, ANNOTATORS, CLASSES = 200_000, 5, 500, 3
SPAMMERS = 0.1
THINGS = 200  # compared with each other
REPEATS = 3


def measure() -> list[Measurement]:
    """Every comparison whose peer is there."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    found: list[Measurement] = []
    if importlib.util.find_spec("crowdkit"):
        found.append(dawid_skene_vs_crowdkit())
    if importlib.util.find_spec("evalica"):
        found.append(bradley_terry_vs_evalica())
    return [*found, *_own()]


def crowd() -> tuple[Any, Any, Any, Any]:
    """Item, annotator, label and truth: a tenth are spammers, the others right .6 to .95."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, CLASSES, ITEMS)
    skill = np.where(
        rng.random(ANNOTATORS) < SPAMMERS, 1 / CLASSES, rng.uniform(0.6, 0.95, ANNOTATORS)
    )
    item = np.repeat(np.arange(ITEMS), EACH)
    annotator = rng.integers(0, ANNOTATORS, len(item))
    wrong = (truth[item] + rng.integers(1, CLASSES, len(item))) % CLASSES
    return (
        item,
        annotator,
        np.where(rng.random(len(item)) < skill[annotator], truth[item], wrong),
        truth,
    )


def matches() -> tuple[Any, Any, Any, Any]:
    """First, second, outcome (0 or 1) and strengths."""
    rng = np.random.default_rng(1)
    strength = rng.normal(size=THINGS)
    first = rng.integers(0, THINGS, ITEMS * EACH)
    second = (first + rng.integers(1, THINGS, len(first))) % THINGS
    chance = 1 / (1 + np.exp(strength[second] - strength[first]))
    return first, second, (rng.random(len(first)) > chance).astype(int), strength


def dawid_skene_vs_crowdkit() -> Measurement:
    """Labels per CPU second; both must find the truth equally often."""
    import pandas as pd
    from crowdkit.aggregation import DawidSkene

    item, annotator, label, truth = crowd()
    table = pd.DataFrame({"task": item, "worker": annotator, "label": label})
    ours, theirs, right, other = _race(
        lambda: dawid_skene(item, annotator, label, classes=CLASSES, strength=1.0),
        lambda: DawidSkene(n_iter=100, tol=1e-5).fit_predict(table),
    )
    accuracy = float((right.posterior.argmax(axis=1) == truth).mean())
    peer_accuracy = float((other.sort_index().to_numpy() == truth).mean())
    if abs(accuracy - peer_accuracy) > 1e-3:
        raise AssertionError(f"the accuracies differ: {accuracy:.4f} and {peer_accuracy:.4f}")
    return Measurement(
        name="dawid_skene_vs_crowdkit",
        value=len(label) / ours,
        unit="labels per CPU s",
        peer="crowd-kit 1.4 DawidSkene",
        peer_value=len(label) / theirs,
        ratio=theirs / ours,
        conditions=f"{len(label):,} labels, {ANNOTATORS} annotators, {CLASSES} classes; accuracy "
        f"{accuracy:.4f} and {peer_accuracy:.4f}",
    )


def bradley_terry_vs_evalica() -> Measurement:
    """Comparisons per CPU second; both must find the same strengths."""
    import evalica

    first, second, outcome, strength = matches()
    winners = [evalica.Winner.X if one == 0 else evalica.Winner.Y for one in outcome]
    xs, ys = first.tolist(), second.tolist()
    ours, theirs, found, other = _race(
        lambda: bradley_terry(first, second, outcome, ridge=1e-6),
        lambda: evalica.bradley_terry(xs, ys, winners),
    )
    scores = np.log(other.scores.sort_index().to_numpy())
    gap = float(np.abs(found.strength - (scores - scores.mean())).max())
    if gap > 0.02:
        raise AssertionError(f"the strengths differ by up to {gap:.3f}")
    error = float(np.abs(found.strength - (strength - strength.mean())).max())
    return Measurement(
        name="bradley_terry_vs_evalica",
        value=len(first) / ours,
        unit="comparisons per CPU s",
        peer="evalica 0.4",
        peer_value=len(first) / theirs,
        ratio=theirs / ours,
        conditions=f"{len(first):,} comparisons of {THINGS}; strengths at most {gap:.4f} apart, "
        f"{error:.3f} from the truth; evalica reads lists, its input is made beforehand",
    )


def _own() -> list[Measurement]:
    """What no peer does at this size: alpha with its interval, and Crowd-BT."""
    item, annotator, label, _ = crowd()
    first, second, outcome, _ = matches()
    runs: list[tuple[str, Callable[[], Any], str]] = [
        (
            "krippendorff_labels_per_cpu_second",
            lambda: krippendorff(item, label, classes=CLASSES),
            "nominal, with an interval of 500 resamples",
        ),
        (
            "crowd_bradley_terry_per_cpu_second",
            lambda: crowd_bradley_terry(first, second, outcome, annotator),
            f"{THINGS} things, {ANNOTATORS} annotators, to convergence",
        ),
    ]
    found = []
    for name, run, told in runs:
        seconds = statistics.median(_cpu(run)[0] for _ in range(REPEATS))
        found.append(
            Measurement(
                name=name,
                value=len(label) / seconds,
                unit="labels per CPU s",
                peer="-",
                peer_value=float("nan"),
                ratio=float("nan"),
                conditions=f"{len(label):,} labels, {told}",
            )
        )
    return found


def _race(ours: Callable[[], Any], theirs: Callable[[], Any]) -> tuple[float, float, Any, Any]:
    """Median CPU seconds of both, and what each came to."""
    pairs = [(_cpu(ours), _cpu(theirs)) for _ in range(REPEATS)]
    mine, other = ([pair[at][0] for pair in pairs] for at in (0, 1))
    return statistics.median(mine), statistics.median(other), pairs[0][0][1], pairs[0][1][1]


def _cpu(run: Callable[[], Any]) -> tuple[float, Any]:
    started = time.process_time()
    result = run()
    return time.process_time() - started, result


if __name__ == "__main__":
    for one in measure():
        told = f"{one.value:.4g} {one.unit}, {one.ratio:.1f} x {one.peer}"
        print(f"{one.name}: {told}; {one.conditions}")
