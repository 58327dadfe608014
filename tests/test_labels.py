"""The estimators of labels against published examples, planted crowds, and their own limits."""

import csv
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.errors import ShapeError
from flywheel.labels.agreement import Level, krippendorff, left_out, wilson
from flywheel.labels.bias import length_bias
from flywheel.labels.bradley_terry import bradley_terry, chance, crowd_bradley_terry
from flywheel.labels.charts import dot_plot
from flywheel.labels.dawid_skene import dawid_skene, one_coin, plurality
from flywheel.labels.habits import TIE, A, B
from flywheel.labels.overview import _models, findings
from flywheel.labels.pairs import Votes, weigh

# Table 1 of Dawid and Skene (1979): 45 patients, class 1 to 4 by the first anaesthetist (three
# times) and by four others.
PATIENTS = """
1111111 3334334 1122122 2223121 2223222 2223322 1222111 3333433 2222223 2322223 4444444 2223343
1111111 2223212 1211111 1112111 1111111 1111111 2222221 2221322 2222222 2222221 2223222 2212222
1111111 1111111 2322222 1111111 1111111 1121121 1111111 3333233 1111111 2222222 2223232 4334343
2212232 2323233 3333432 1111111 1111111 1212111 2322222 1211111 2222222
"""
# Krippendorff (2011), section C: 12 units by four observers, 0 for a missing value.
UNITS = "1101 2232 3333 3333 2222 1234 4444 1121 2222 0555 0011 0030"
SHARED = Path(os.environ.get("FLYWHEEL_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
CROWDS = SHARED / "crowd_labels"


def test_the_anaesthetists_of_1979_come_out_as_published() -> None:
    seen = [
        (patient, max(0, place - 2), int(said) - 1)
        for patient, row in enumerate(PATIENTS.split())
        for place, said in enumerate(row)
    ]
    item, annotator, label = (np.array(one) for one in zip(*seen, strict=True))
    found = dawid_skene(item, annotator, label, classes=4, strength=0, tolerance=1e-9)
    assert found.prior.round(2).tolist() == [0.40, 0.42, 0.11, 0.07]  # their table 2
    first = [[0.89, 0.11, 0, 0], [0.07, 0.88, 0.05, 0], [0, 0.34, 0.66, 0], [0, 0, 0.56, 0.44]]
    assert found.errors[0].round(2).tolist() == first
    assert found.posterior[0].argmax() == 0 and found.posterior[2].argmax() == 1
    assert found.counts.sum() == pytest.approx(len(label))


@pytest.mark.parametrize(
    ("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]
)
def test_alpha_is_that_of_the_published_example(level: Level, alpha: float) -> None:
    item = [unit for unit, row in enumerate(UNITS.split()) for said in row if said != "0"]
    label = [int(said) - 1 for row in UNITS.split() for said in row if said != "0"]
    found = krippendorff(item, label, classes=5, level=level)
    assert found.alpha == pytest.approx(alpha, abs=5e-4)
    assert (found.items, found.labels) == (11, 40), "one unit has a single value"
    assert found.ci is not None and found.ci[0] < alpha < found.ci[1]


def test_alpha_in_the_limits() -> None:
    same = krippendorff([0, 0, 1, 1], [0, 0, 1, 1], classes=2)
    assert same.alpha == same.share == 1.0 and same.ci == (1.0, 1.0)
    rng = np.random.default_rng(0)
    chance_only = krippendorff(np.repeat(np.arange(3000), 2), rng.integers(0, 3, 6000), classes=3)
    assert chance_only.ci is not None and chance_only.ci[0] < 0 < chance_only.ci[1]
    assert krippendorff([0, 1], [0, 1], classes=2).alpha is None, "nobody to agree with"
    assert krippendorff([0, 0], [1, 1], classes=2).alpha is None, "one class: chance agrees too"
    assert krippendorff([], [], classes=2).items == 0


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
def test_an_interval_is_that_of_items_drawn_again(level: Level) -> None:
    draw = np.random.default_rng(3)
    item = np.repeat(np.arange(30), 3)
    label = np.clip(item % 4 + draw.integers(-1, 2, len(item)), 0, 3)
    found = krippendorff(item, label, classes=4, level=level, resamples=60)
    alphas = []
    for times in np.random.default_rng(0).multinomial(30, np.full(30, 1 / 30), size=60):
        drawn = np.repeat(np.arange(30), times)  # a copy is an item of its own
        again = krippendorff(
            np.repeat(np.arange(30), 3), label.reshape(30, 3)[drawn].ravel(), classes=4,
            level=level, resamples=0,
        )  # fmt: skip
        alphas.append(again.alpha)
    assert found.ci == pytest.approx(np.percentile(np.array(alphas), [2.5, 97.5]), abs=1e-12)


def test_interval_levels_take_the_values_that_classes_stand_for() -> None:
    item, label = [0, 0, 1, 1, 2, 2], [0, 1, 1, 2, 2, 2]
    evenly = krippendorff(item, label, classes=3, level="interval")
    doubled = krippendorff(
        item, label, classes=3, level="interval", values=np.array([1.0, 3.0, 5.0])
    )
    far = krippendorff(item, label, classes=3, level="interval", values=np.array([0, 1, 9.0]))
    assert evenly.alpha == pytest.approx(doubled.alpha) and evenly.alpha != far.alpha


def crowd(
    seed: int, items: int, skills: list[float], each: int, classes: int
) -> tuple[np.ndarray, ...]:
    """Item, annotator, label and truth of a simulated crowd."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, items)
    item = np.repeat(np.arange(items), each)
    annotator = np.concatenate([rng.permutation(len(skills))[:each] for _ in range(items)])
    right = rng.random(len(item)) < np.array(skills)[annotator]
    wrong = (truth[item] + rng.integers(1, classes, len(item))) % classes
    return item, annotator, np.where(right, truth[item], wrong), truth


def test_weighed_labels_beat_the_plurality_where_annotators_differ() -> None:
    skills = [0.95, 0.9, 0.6, 0.5, 0.4, 0.4, 0.35]
    item, who, label, truth = crowd(0, 2000, skills, 5, 3)
    heads = (plurality(item, label, 3) == truth).mean()
    weighed = dawid_skene(item, who, label, classes=3)
    coins, accuracy = one_coin(item, who, label, classes=3)
    assert (weighed.posterior.argmax(axis=1) == truth).mean() > heads + 0.05
    assert (coins.argmax(axis=1) == truth).mean() > heads + 0.05
    assert accuracy == pytest.approx(skills, abs=0.05)
    assert np.einsum("wkk->w", weighed.errors) / 3 == pytest.approx(skills, abs=0.06)
    assert weighed.posterior.sum(axis=1) == pytest.approx(1)


def test_a_strength_without_end_gives_everybody_the_matrix_of_the_crowd() -> None:
    item, who, label, _ = crowd(1, 300, [0.9, 0.6, 0.5], 3, 3)
    found = dawid_skene(item, who, label, classes=3, strength=1e12)
    assert found.errors == pytest.approx(np.broadcast_to(found.pooled, (3, 3, 3)))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 4))
def test_estimates_do_not_depend_on_the_order_of_labels_or_the_names_of_classes(
    seed: int, classes: int
) -> None:
    item, who, label, _ = crowd(seed, 40, [0.9, 0.7, 0.6, 0.5], 3, classes)
    rng = np.random.default_rng(seed)
    order, names = rng.permutation(len(item)), rng.permutation(classes)
    found = dawid_skene(item, who, label, classes=classes, rounds=8, tolerance=0)
    again = dawid_skene(
        item[order], who[order], names[label[order]], classes=classes, rounds=8, tolerance=0
    )
    assert again.posterior[:, names] == pytest.approx(found.posterior, abs=1e-6)
    one = krippendorff(item, label, classes=classes, resamples=0).alpha
    other = krippendorff(item[order], names[label[order]], classes=classes, resamples=0).alpha
    assert one == pytest.approx(other)


def test_leaving_a_label_out_is_estimating_without_it() -> None:
    item, who, label, _ = crowd(2, 50, [0.9, 0.7, 0.6], 3, 3)
    found = dawid_skene(item, who, label, classes=3)
    rest, others = left_out(item, who, label, errors=found.errors, prior=found.prior)
    assert set(others.tolist()) == {2}
    for number in (0, 71, 149):
        kept = (item == item[number]) & (np.arange(len(item)) != number)
        log = np.log(found.prior) + sum(
            np.log(found.errors[w, :, one]) for w, one in zip(who[kept], label[kept], strict=True)
        )
        assert rest[:, number] == pytest.approx((log - log[-1])[:-1])


def test_codes_that_are_none_are_refused() -> None:
    with pytest.raises(ShapeError, match="one length"):
        dawid_skene([0, 1], [0], [0, 0], classes=2)
    with pytest.raises(ShapeError, match="none of 2 classes"):
        one_coin([0], [0], [2], classes=2)
    with pytest.raises(ShapeError, match="count from 0"):
        plurality([0], [-1], 2)
    with pytest.raises(ShapeError, match="differ in length"):
        bradley_terry([0, 1], [1], [0, 0])
    with pytest.raises(ShapeError, match=r"0 \(first\), 1 \(second\) or 2"):
        bradley_terry([0], [1], [3])


def test_intervals_of_shares_stay_within_0_and_1_and_know_nothing_of_nothing() -> None:
    low, high = wilson([0.0, 1.0, 0.5, 0.5], [5, 5, 2, 0])
    assert low.round(6).tolist() == [0.0, 0.565518, 0.094531, 0.0]  # 5 of 5: Wilson (1927)
    assert high.round(6).tolist() == [0.434482, 1.0, 0.905469, 1.0]


# ---- pairs --------------------------------------------------------------------------------------


def voted(*votes: tuple[int, int, int], truth: list[int] | None = None, domain: int = 0) -> Votes:
    """Votes as (pair, annotator, vote)."""
    pair, annotator, vote = np.array(votes, np.intp).reshape(-1, 3).T
    known = truth or [-1] * (int(pair.max(initial=-1)) + 1)
    domains = np.full(len(pair), domain)
    return Votes(
        pair=pair, annotator=annotator, domain=domains, vote=vote, truth=np.array(known, np.intp)
    )


def test_lone_votes_measure_nobody_and_are_worth_the_guess() -> None:
    found = weigh(voted((0, 0, A), (1, 1, B), (2, 2, TIE)))
    # right: .45 * .9 * .75, wrong: .45 * .9 * .25, a tie called a side: .1 * .5 / 2
    whole = 0.45 * 0.9 + 0.025
    lone = (0.45 * 0.9 * 0.75 + 0.025 / 2) / whole
    assert found.probability_a == pytest.approx([lone, 1 - lone, 0.5])
    assert found.trust.compared.tolist() == [0] * 6, "three annotators, each in one domain"
    assert found.trust.accuracy == pytest.approx(0.75)
    assert found.tested.tolist() == [0, 0, 0]


def test_a_pair_that_is_turned_round_says_the_same() -> None:
    rng = np.random.default_rng(0)
    votes = [
        (pair, who, int(rng.choice(3, p=[0.6, 0.3, 0.1]))) for pair in range(60) for who in range(3)
    ]
    turned = [(pair, who, (B, A, TIE)[vote]) for pair, who, vote in votes]
    one, other = weigh(voted(*votes)), weigh(voted(*turned))
    assert one.probability_a == pytest.approx(1 - other.probability_a)
    assert one.probability_tie == pytest.approx(other.probability_tie)
    assert one.trust.accuracy == pytest.approx(other.trust.accuracy)


def test_nobody_counts_against_what_he_said_and_nothing_is_surer_than_99() -> None:
    """Annotator 9 always says the opposite of four who agree."""
    votes = [(pair, who, pair % 2) for pair in range(100) for who in range(4)]
    votes += [(pair, 9, 1 - pair % 2) for pair in range(100)] + [(100, 9, A)]
    votes = [(pair, min(who, 4), vote) for pair, who, vote in votes]
    found = weigh(voted(*votes))
    assert found.trust.accuracy[4] < 0.1, "he is known for what he is"
    assert found.probability_a[100] == pytest.approx(0.5, abs=1e-6), "and his word is worth nothing"
    assert found.probability_a[:100].min() >= 0.01 and found.probability_a.max() <= 0.99
    assert found.tested_right[0] == 4 and found.tested[0] == 5


def test_a_gold_answer_stands_against_all_votes() -> None:
    found = weigh(voted((0, 0, A), (0, 1, A), (1, 0, B), (1, 1, TIE), truth=[B, TIE]))
    assert found.probability_a == pytest.approx([0.01, 0.5])
    assert found.probability_tie == pytest.approx([0.0, 0.99])
    assert found.trust.gold.tolist()[:2] == [2, 2] and found.trust.gold_right.tolist()[:2] == [0, 1]


def test_whoever_is_weak_in_one_domain_is_trusted_less_there() -> None:
    rng = np.random.default_rng(3)
    pair = np.repeat(np.arange(3000), 3)
    who, domain = np.tile(np.arange(3), 3000), (pair % 2).astype(np.intp)
    skill = np.where((who == 0) & (domain == 1), 0.6, 0.9)
    vote = np.where(rng.random(len(pair)) < skill, A, B)  # a is always better
    votes = Votes(pair=pair, annotator=who, domain=domain, vote=vote, truth=np.full(3000, -1))
    trust = weigh(votes).trust
    by_row = dict(zip(zip(trust.annotator, trust.domain, strict=True), trust.accuracy, strict=True))
    assert by_row[0, 1] == pytest.approx(0.6, abs=0.05) and by_row[0, 0] == pytest.approx(
        0.9, abs=0.04
    )
    assert by_row[0, -1] == pytest.approx(0.75, abs=0.04)
    assert by_row[1, 0] == pytest.approx(by_row[1, 1], abs=0.04)


def test_intervals_of_accuracies_hold_the_truth_as_often_as_they_say() -> None:
    """Votes counted as if it were known which are right would hold it .84 of the time."""
    skills = [0.95, 0.85, 0.85, 0.85, 0.65, 0.65, 0.5]
    held = []
    for seed in range(40):
        pair, who, vote, truth = crowd(seed, 600, skills, 3, 2)
        trust = weigh(
            Votes(pair=pair, annotator=who, domain=who * 0, vote=vote, truth=truth * 0 - 1)
        ).trust
        low, high = wilson(trust.accuracy[:7], trust.evidence[:7])
        held.append((low <= skills) & (skills <= high))
    assert 0.9 <= np.mean(held) <= 0.98


def test_ties_are_concluded_from_ties() -> None:
    rng = np.random.default_rng(4)
    truth = rng.choice(3, 3000, p=[0.4, 0.4, 0.2])
    pair, who = np.repeat(np.arange(3000), 4), np.tile(np.arange(4), 3000)
    shares = np.array([[0.75, 0.15, 0.1], [0.15, 0.75, 0.1], [0.2, 0.2, 0.6]])
    vote = (rng.random(len(pair))[:, None] > shares[truth[pair]].cumsum(axis=1)).sum(axis=1)
    found = weigh(
        Votes(pair=pair, annotator=who, domain=who * 0, vote=vote, truth=np.full(3000, -1))
    )
    assert found.prior[TIE] == pytest.approx(0.2, abs=0.04)
    said = np.where(found.probability_tie > 0.5, TIE, np.where(found.probability_a > 0.5, A, B))
    assert (said == truth).mean() > (plurality(pair, vote, 3) == truth).mean()
    sure = found.probability_tie > 0.8
    assert (truth[sure] == TIE).mean() == pytest.approx(
        found.probability_tie[sure].mean(), abs=0.06
    )


@pytest.mark.parametrize("ties", [0.0, 0.2])
def test_longer_steps_end_where_small_ones_do_and_sooner(
    ties: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no pair is a tie, plain rounds take away a few of what is left of them, and a few."""
    rng = np.random.default_rng(7)
    pair, who = np.repeat(np.arange(4000), 3), rng.integers(0, 20, 12_000)
    truth = np.where(rng.random(4000) < ties, TIE, rng.integers(0, 2, 4000))
    right = rng.random(12_000) < np.linspace(0.6, 0.95, 20)[who]
    vote = np.where(right | (truth[pair] == TIE), truth[pair], 1 - truth[pair])
    vote = np.where(rng.random(12_000) < 0.05, TIE, vote)
    votes = Votes(pair=pair, annotator=who, domain=pair % 4, vote=vote, truth=np.full(4000, -1))
    monkeypatch.setattr("flywheel.labels.habits.ROUNDS", 3000)
    quick = weigh(votes)
    monkeypatch.setattr("flywheel.labels.habits.TOLERANCE", 1e-8)
    exact = weigh(votes)
    monkeypatch.setattr("flywheel.labels.habits.LONGEST", 1.0)
    plain = weigh(votes)
    assert np.abs(exact.probability_a - plain.probability_a).max() < 2e-5
    assert np.abs(exact.trust.accuracy - plain.trust.accuracy).max() < 2e-5
    assert exact.rounds < 0.6 * plain.rounds
    assert np.abs(quick.probability_a - plain.probability_a).mean() < 2e-3


def test_a_taste_for_length_is_told_from_a_crowd_that_is_right_to_have_it() -> None:
    """The longer response is better three times of four; only one prefers it where it is not."""
    rng = np.random.default_rng(1)
    pair, who = np.repeat(np.arange(600), 4), np.tile(np.arange(4), 600)
    longer, better_is_longer = rng.integers(0, 2, 600), rng.random(600) < 0.75
    takes_longer = better_is_longer[pair] == (rng.random(len(pair)) < 0.9)
    takes_longer |= (who == 3) & (rng.random(len(pair)) < 0.5)
    vote = np.where(takes_longer, longer[pair], 1 - longer[pair])
    bias, low, high = length_bias(pair, who, vote, longer[pair], 5)
    assert low[3] > 0.1
    assert np.all(np.abs(bias[:3]) < 0.05) and np.all(low[:3] < 0.02) and np.all(high[:3] > -0.02)
    assert np.isnan([bias[4], low[4], high[4]]).all(), "a fifth has not voted"
    turned = length_bias(pair, who, 1 - vote, longer[pair], 5)  # a taste for the shorter
    assert turned[0][3] == pytest.approx(-bias[3], abs=0.02)


# ---- strengths ----------------------------------------------------------------------------------


def test_three_wins_of_four_are_log_three_apart() -> None:
    found = bradley_terry([0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 1], ridge=1e-9)
    assert found.strength[0] - found.strength[1] == pytest.approx(np.log(3))
    assert (found.tie, found.reliability.size) == (0.0, 0)
    never_lost = bradley_terry([0, 0], [1, 1], [0, 0])
    assert np.isfinite(never_lost.strength).all() and never_lost.strength[0] > 0
    assert bradley_terry([], [], []).strength.size == 0


def test_strengths_ties_and_reliabilities_are_recovered() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(size=30)
    true -= true.mean()
    first = rng.integers(0, 30, 60_000)
    second = (first + rng.integers(1, 30, 60_000)) % 30
    won, even = chance(true[first], true[second], 0.7)
    dice = rng.random(60_000)
    outcome = np.where(dice < won, 0, np.where(dice < won + even, 2, 1))
    plain = bradley_terry(first, second, outcome)
    assert plain.strength == pytest.approx(true, abs=0.1)
    assert plain.tie == pytest.approx(0.7, abs=0.03)
    inside = np.abs(plain.strength - true) < 1.96 * np.sqrt(plain.variance)
    assert inside.mean() > 0.8
    skill = np.array([0.95, 0.8, 0.5, 0.1])
    who = rng.integers(0, 4, 60_000)
    slips = (rng.random(60_000) > skill[who]) & (outcome != 2)
    heard = np.where(slips, 1 - outcome, outcome)
    crowded = crowd_bradley_terry(first, second, heard, who)
    assert crowded.reliability == pytest.approx(skill, abs=0.03)
    error = np.abs(crowded.strength - true).max()
    assert error < 0.15 < np.abs(bradley_terry(first, second, heard).strength - true).max()


def test_many_things_are_solved_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    first, second = rng.integers(0, 40, 3000), rng.integers(40, 80, 3000)
    outcome = rng.choice(3, 3000, p=[0.5, 0.3, 0.2])
    whole = bradley_terry(first, second, outcome)
    monkeypatch.setattr("flywheel.labels.bradley_terry.DENSE", 1)
    iterated = bradley_terry(first, second, outcome)
    assert iterated.strength == pytest.approx(whole.strength, abs=1e-6)
    assert iterated.tie == pytest.approx(whole.tie, rel=1e-6)


def test_only_ties_do_not_run_away() -> None:
    found = bradley_terry([0, 0], [1, 1], [2, 2])
    assert found.strength == pytest.approx([0, 0]) and 2 < found.tie < 100


# ---- what is told --------------------------------------------------------------------------------


def test_only_what_an_interval_bears_out_is_told_of_anybody() -> None:
    fine = {
        "accuracy_frac": 0.8, "accuracy_low": 0.7, "accuracy_high": 0.9,
        "left_share": 0.6, "left_share_low": 0.4, "left_share_high": 0.7,
        "length_bias": 0.1, "length_bias_low": 0.0, "length_bias_high": 0.2,
        "is_fast": False, "median_seconds": 9.0, "fast_frac": 0.1,
        "repeated_count": 4, "self_consistency": 0.0,
    }  # fmt: skip
    assert findings(fine) == []
    nobody = dict.fromkeys(fine) | {"is_fast": False, "repeated_count": 0}
    assert findings(nobody) == [], "who only writes has no votes to speak of"
    for change, said in (
        ({"accuracy_high": 0.55}, "hardly better than a coin"),
        ({"left_share_low": 0.56}, "shown first 60%"),
        ({"left_share_low": 0.2, "left_share_high": 0.4, "left_share": 0.3}, "shown second 70%"),
        ({"length_bias_low": 0.12}, "leans to the longer"),
        ({"length_bias_low": -0.3, "length_bias_high": -0.2}, "leans to the shorter"),
        ({"is_fast": True}, "takes 9 s"),
        ({"repeated_count": 5}, "decided 100% of 5 pairs otherwise"),
    ):
        (told,) = findings(fine | change)
        assert said in told


def test_models_are_ranked_by_what_annotators_prefer() -> None:
    rows = [
        {"model_a": "new", "model_b": "old", "vote": vote, "annotator_id": who}
        for vote, who in [(1.0, "ann")] * 20 + [(0.0, "ann")] * 5 + [(0.5, "bob")] * 5
    ]
    first, last = _models(pa.Table.from_pylist(rows))
    assert (first["model"], last["model"], first["votes"]) == ("new", "old", 30)
    assert first["low"] > last["high"] and first["low"] < first["strength"] < first["high"]
    assert _models(pa.Table.from_pylist(rows[:29])) == [], "too few to speak of"


def test_a_plot_shows_what_is_known_within_its_span() -> None:
    drawn = dot_plot("<title>", [("a", 0.2, 0.5, 1.7), ("b", None, None, None)], (0, 1), 0.5)
    assert "&lt;title&gt;" in drawn and drawn.count("<circle") == 1
    assert 'x2="570.0"' in drawn, "what lies beyond the span ends at its edge"


# ---- real crowds --------------------------------------------------------------------------------


@pytest.mark.skipif(not CROWDS.exists(), reason=f"the crowd sets are not at {CROWDS}")
@pytest.mark.parametrize(
    ("name", "alpha", "heads", "coins", "weighed"),
    [("SP", 0.428, 0.890, 0.916, 0.914), ("SP_amt", 0.738, 0.944, 0.946, 0.944)],
)
def test_real_crowds_come_out_as_measured_before(
    name: str, alpha: float, heads: float, coins: float, weighed: float
) -> None:
    with (CROWDS / f"{name}.csv").open() as file:
        rows = list(csv.reader(file))
    who, item = (np.unique([row[at] for row in rows], return_inverse=True)[1] for at in (0, 1))
    label, gold = (np.array([int(row[at]) for row in rows]) for at in (2, 3))
    truth = np.zeros(item.max() + 1, int)
    truth[item] = gold
    assert krippendorff(item, label, classes=2, resamples=0).alpha == pytest.approx(alpha, abs=6e-4)
    found = (
        plurality(item, label, 2),
        one_coin(item, who, label, classes=2)[0].argmax(axis=1),
        dawid_skene(item, who, label, classes=2).posterior.argmax(axis=1),
    )
    right = [(one == truth).mean() for one in found]
    assert right == pytest.approx([heads, coins, weighed], abs=1.1e-3)
