"""Simulated annotators of known skill, judged through the dbt project."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flywheel.layout import Layout
from flywheel.warehouse import read_table
from tests.small_lake import dbt, row, write_lake

SKILL = {
    "expert": 0.95,
    **{f"careful-{i}": 0.85 for i in range(3)},
    **{f"hasty-{i}": 0.65 for i in range(2)},
    "spammer": 0.5,
    "newcomer": 0.95,  # shares three pairs
    "loner": 0.95,  # shares none
}
PAIRS = 1500
COUNTED = "intermediate.int_votes_counted_by_pair"
SCORED = "intermediate.int_annotators_scored"


def votes(seed: int) -> list[dict[str, Any]]:
    """Comparisons of `good-i` with `bad-i`: three annotators on each pair, the loner apart."""
    rng = random.Random(seed)
    crowd = [who for who in SKILL if who not in ("loner", "newcomer")]
    judged = [(f"{i}", who) for i in range(PAIRS) for who in rng.sample(crowd, 3)]
    judged += [(f"{i}", "newcomer") for i in range(3)]
    judged += [(f"alone-{i}", "loner") for i in range(100)]
    found = []
    for number, (pair, who) in enumerate(judged):
        shown = rng.sample([f"good-{pair}", f"bad-{pair}"], 2)
        is_first_better = shown[0].startswith("good")
        is_right = rng.random() < SKILL[who]
        found.append(
            row(
                "comparison",
                f"c{number}",
                prompt=f"which of {pair} ?",
                response_a=shown[0],
                response_b=shown[1],
                choice="a" if is_first_better == is_right else "b",
                annotator_id=who,
            )
        )
    return found


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return counted(write_lake(tmp_path_factory.mktemp("home"), votes(0)))


def counted(layout: Layout) -> Layout:
    dbt(layout, "run", "--select", "+int_votes_counted_by_pair")
    return layout


def scores(layout: Layout) -> dict[str, dict[str, Any]]:
    return {one["annotator_id"]: one for one in read_table(layout.warehouse, SCORED).to_pylist()}


def test_the_skill_of_annotators_who_share_pairs_is_recovered(judged: Layout) -> None:
    found = scores(judged)
    for who, skill in SKILL.items():
        if who not in ("loner", "newcomer"):
            assert found[who]["accuracy_frac"] == pytest.approx(skill, abs=0.06), (
                who
            )  # two or three errors
    assert found["spammer"]["weight"] < 0.25
    weights = [found[who]["weight"] for who in ("spammer", "hasty-0", "careful-0", "expert")]
    assert weights == sorted(weights)


def test_who_shares_few_or_no_pairs_is_taken_for_one_of_the_crowd(judged: Layout) -> None:
    found = scores(judged)
    crowd = np.mean([s for who, s in SKILL.items() if who not in ("loner", "newcomer")])
    assert (found["loner"]["compared_count"], found["loner"]["agreement_frac"]) == (0, None)
    assert found["loner"]["accuracy_frac"] == pytest.approx(crowd, abs=0.03)
    moved = abs(found["newcomer"]["accuracy_frac"] - found["loner"]["accuracy_frac"])
    assert moved <= 3 / (3 + 10), "three labels against ten of the prior"


def test_a_stated_probability_is_how_often_the_stated_side_is_right(judged: Layout) -> None:
    stated, right = [], []
    for pair in read_table(judged.warehouse, COUNTED).to_pylist():
        if not pair["prompt"].count("alone"):
            p = pair["probability_a"]
            stated.append(max(p, 1 - p))
            right.append((p > 0.5) == ("good" in pair["response_a"]))
    assert len(stated) == PAIRS
    for low, high in ((0.5, 0.8), (0.8, 0.95), (0.95, 1.0)):
        inside = [low <= p < high for p in stated]
        gap = np.mean(np.array(stated)[inside]) - np.mean(np.array(right)[inside])
        assert abs(gap) < 0.05, (low, high, sum(inside))
    assert all(0.01 <= p <= 0.99 for p in stated)


def test_scores_do_not_depend_on_the_order_of_the_votes(judged: Layout, tmp_path: Path) -> None:
    shuffled = votes(0)
    random.Random(1).shuffle(shuffled)
    other = counted(write_lake(tmp_path, shuffled))
    assert scores(other) == scores(judged)
    chances = [
        {
            one["pair_key"]: one["probability_a"]
            for one in read_table(home.warehouse, COUNTED).to_pylist()
        }
        for home in (judged, other)
    ]
    assert chances[0] == chances[1]
