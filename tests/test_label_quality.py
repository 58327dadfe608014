"""Simulated annotators of known skill, judged through the dbt project and its marks."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from flywheel.errors import SettingsError
from flywheel.labels import marks, weigh_labels
from flywheel.labels.habits import STRENGTH
from flywheel.labels.pairs import Votes
from flywheel.layout import Layout
from flywheel.warehouse import read_table
from tests.small_lake import dbt, key, row, write_lake

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
    dbt(layout, "run", "--select", "+int_votes_counted_by_pair", "+int_ratings_unioned")
    weigh_labels(layout.warehouse, layout, log=lambda _: None)
    return layout


def scores(layout: Layout) -> dict[str, dict[str, Any]]:
    table = pq.read_table(layout.derived("annotator_reliability")).to_pylist()
    return {one["annotator_id"]: one for one in table if one["is_overall"]}


def posteriors(layout: Layout) -> dict[str, dict[str, Any]]:
    table = pq.read_table(layout.derived("pair_posteriors")).to_pylist()
    return {one["pair_key"]: one for one in table}


def test_the_skill_of_annotators_who_share_pairs_is_recovered(judged: Layout) -> None:
    found = scores(judged)
    for who, skill in SKILL.items():
        if who not in ("loner", "newcomer"):
            assert found[who]["accuracy_frac"] == pytest.approx(skill, abs=0.06), (
                who
            )  # two or three errors
    assert found["spammer"]["accuracy_frac"] < 0.56
    order = [found[who]["accuracy_frac"] for who in ("spammer", "hasty-0", "careful-0", "expert")]
    assert order == sorted(order)


def test_who_shares_few_or_no_pairs_is_taken_for_one_of_the_crowd(judged: Layout) -> None:
    found = scores(judged)
    crowd = np.mean([s for who, s in SKILL.items() if who not in ("loner", "newcomer")])
    assert (found["loner"]["compared_count"], found["loner"]["agreement_frac"]) == (0, None)
    assert found["loner"]["accuracy_frac"] == pytest.approx(crowd, abs=0.03)
    moved = abs(found["newcomer"]["accuracy_frac"] - found["loner"]["accuracy_frac"])
    assert moved <= 3 / (3 + STRENGTH), "three labels against three of the crowd"


def test_a_stated_probability_is_how_often_the_stated_side_is_right(judged: Layout) -> None:
    stated, right, weighed = [], [], posteriors(judged)
    for pair in read_table(judged.warehouse, COUNTED).to_pylist():
        if not pair["prompt"].count("alone"):
            p = weighed[pair["pair_key"]]["probability_a"]
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
    assert posteriors(other) == posteriors(judged)


def test_a_vote_left_out_sides_with_the_others_as_often_as_its_annotator_is_right(
    judged: Layout,
) -> None:
    """Two others are right together less often than an expert is, which bounds what he can show."""
    found = scores(judged)
    share = {
        who: found[who]["tested_votes_right"] / found[who]["tested_votes"]
        for who in found
        if found[who]["tested_votes"]
    }
    assert share["expert"] > share["careful-0"] > share["hasty-0"] > share["spammer"]
    assert share["spammer"] == pytest.approx(0.5, abs=0.05)
    pairs = posteriors(judged).values()
    assert sum(one["tested_votes"] for one in pairs) == sum(
        one["tested_votes"] for one in found.values()
    )
    assert sum(one["tested_votes_right"] for one in pairs) == sum(
        one["tested_votes_right"] for one in found.values()
    )
    assert all(one["tested_votes_for_a"] <= one["tested_votes"] for one in pairs)


def test_gold_pairs_measure_annotators_and_are_no_votes(tmp_path: Path) -> None:
    """ann is right on both gold pairs and bob on one; both agree elsewhere, so gold decides."""
    said = [("g1", "a", "a"), ("g2", "a", "b"), ("open", "a", "a")]
    rows = [
        row(
            "comparison",
            f"{who}-{pair}",
            prompt=pair,
            response_a="x",
            response_b="y",
            choice=choice,
            annotator_id=who,
        )
        for pair, *choices in said
        for who, choice in zip(("ann", "bob"), choices, strict=True)
    ]
    rows += [
        row(
            "comparison",
            f"key-{pair}-{choice}",
            prompt=pair,
            response_a="x",
            response_b="y",
            choice=choice,
            annotator_id=f"keeper-{choice}",
            metadata='{"gold": true}',
        )
        for pair, choice in (("g1", "a"), ("g2", "a"), ("alone", "b"), ("torn", "a"), ("torn", "b"))
    ]
    layout = counted(write_lake(tmp_path, rows))
    found = scores(layout)
    assert found.keys() == {"ann", "bob"}, "who keeps the key is not judged by it"
    assert (found["ann"]["gold_count"], found["ann"]["gold_right_count"]) == (2, 2)
    assert (found["bob"]["gold_count"], found["bob"]["gold_right_count"]) == (2, 1)
    assert found["ann"]["accuracy_frac"] > found["bob"]["accuracy_frac"]
    prompts = {one["pair_key"]: one for one in read_table(layout.warehouse, COUNTED).to_pylist()}
    chances = {
        prompts[name]["prompt"].split('"')[-2]: one["probability_a"]
        if prompts[name]["response_a_key"] == key("x")
        else 1 - one["probability_a"]
        for name, one in posteriors(layout).items()
    }
    assert chances["g1"] == chances["g2"] == pytest.approx(0.99)
    assert chances["alone"] == pytest.approx(0.01)
    assert 0.6 < chances["open"] < 0.99
    assert chances["torn"] == 0.5, "answers that contradict each other are none"


def test_agreement_is_measured_by_domain_and_guideline_and_of_ratings_too(tmp_path: Path) -> None:
    """In `law` under v1 all agree; in `art` under v2 they are as good as coins."""
    rng, rows = random.Random(0), []
    for number in range(60):
        for who in ("ann", "bob"):
            for domain, version in (("law", "v1"), ("art", "v2")):
                chosen = "ab"[number % 2] if domain == "law" else rng.choice("ab")
                uid = f"{domain}-{number}-{who}"
                told = {
                    "prompt": f"{domain} {number}",
                    "domain": domain,
                    "guideline_version": version,
                    "annotator_id": who,
                }
                rows.append(
                    row("comparison", uid, response_a="x", response_b="y", choice=chosen, **told)
                )
                stars = number % 5 + 1 if domain == "law" else rng.randint(1, 5)
                rows.append(
                    row(
                        "rating",
                        f"r-{uid}",
                        response="x",
                        rating=stars,
                        rating_min=1,
                        rating_max=5,
                        **told,
                    )
                )
    layout = counted(write_lake(tmp_path, rows))
    found = {
        (one["kind"], one["domain"], one["guideline_version"]): one
        for one in pq.read_table(layout.derived("label_agreement")).to_pylist()
    }
    slices = {
        ("all", "all"),
        ("law", "all"),
        ("art", "all"),
        ("all", "v1"),
        ("all", "v2"),
        ("law", "v1"),
        ("art", "v2"),
    }
    assert found.keys() == {(kind, *one) for kind in ("comparison", "rating") for one in slices}
    for kind in ("comparison", "rating"):
        law, art = found[kind, "law", "v1"], found[kind, "art", "v2"]
        assert law["alpha"] == law["agreement_frac"] == 1.0
        assert art["alpha_low"] < 0 < art["alpha_high"] < 0.5
        assert found[kind, "all", "v2"] | {"domain": "art"} == art
        assert law["item_count"] == 60 and law["label_count"] == 120
    assert found["rating", "all", "all"]["level"] == "interval"


def test_nothing_to_weigh_is_no_error_and_a_strength_of_nothing_is_one(tmp_path: Path) -> None:
    layout = counted(write_lake(tmp_path, [row("demonstration", "d", prompt="p", response="r")]))
    assert scores(layout) == posteriors(layout) == {}
    with pytest.raises(SettingsError, match=r"\[labels\]"):
        weigh_labels(layout.warehouse, layout, strength=0.0)


def test_votes_without_a_name_say_nothing_of_how_far_people_agree() -> None:
    def alpha(names: list[str]) -> float:
        """Of one pair on which two agree, one on which two do not, and two on which others do."""
        zeros = np.zeros(8, np.intp)
        read = marks._Read(
            votes=Votes(
                pair=np.array([0, 0, 1, 1, 2, 2, 3, 3]),
                annotator=np.array([0, 1, 0, 1, 2, 3, 2, 3]),
                domain=zeros,
                vote=np.array([0, 0, 0, 1, 1, 1, 0, 0]),
                truth=np.full(4, -1),
            ),
            longer=zeros,
            guideline=zeros,
            pairs=["one", "two", "three", "four"],
            annotators=["ann", "bob", *names],
            domains=[None],
            guidelines=[None],
        )
        (row,) = marks._of_comparisons(read)
        assert row["item_count"] == (4 if names[0] == "cid" else 2)
        return float(row["alpha"])

    assert alpha([marks.ANONYMOUS, marks.ANONYMOUS]) < alpha(["cid", "dee"])
