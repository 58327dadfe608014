"""Rates, ratios and their intervals: hand values, coverage, clusters, what is refused."""

import math

import numpy as np
import pytest

from flywheel.errors import EvaluationError
from flywheel.evaluate.statistics import stats
from flywheel.evaluate.statistics.stats import agreement, outcomes, rate, rates, ratio, ratios


def test_a_rate_is_the_mean_and_its_interval_holds_it() -> None:
    found = rate([1.0, 0.0, 1.0, 1.0], list("abcd"))
    assert found.value == 0.75 and found.low <= 0.75 <= found.high
    assert (found.count, found.clusters) == (4, 4)


def test_three_wins_of_three_show_nothing_yet() -> None:
    # with two wins and two losses added: 5 of 7. P(at most 2 of 7 draws win) is .023, so that the
    # 2.5 % quantile is 3/7 at most; seven of seven leave 9 of 11 and P(at most 5) is .014: 6/11
    found = rate([1.0] * 3, range(3), resamples=20000)
    assert found.value == found.high == 1.0
    assert found.low == pytest.approx(3 / 7)
    assert rate([1.0] * 7, range(7), resamples=20000).low == pytest.approx(6 / 11)
    assert rate([0.0] * 3, range(3), resamples=20000).ci == [0.0, pytest.approx(4 / 7)]


def test_outcomes_that_all_agree_have_an_interval_at_any_number_of_prompts() -> None:
    for count in (1, 2, 30, 600):
        low, high = rate([1.0] * count, range(count)).ci
        assert low < 1.0 == high
    # four wins among 26 ties are four of four: a sign test gives p = .125
    assert rate([1.0] * 4 + [0.5] * 26, range(30)).low < 0.5
    assert rate([1.0] * 8 + [0.5] * 22, range(30)).low > 0.5  # p = .008


def test_many_answers_to_one_prompt_are_no_more_evidence_than_one() -> None:
    assert rate([1.0] * 300, [0, 1, 2] * 100, resamples=20000).low == pytest.approx(3 / 7)


def test_a_difference_of_two_rates_has_its_own_scale() -> None:
    found = rate([0.0, 1.0, -1.0, 0.0] * 25, range(100), scale=(-1, 1))
    assert found.value == 0.0 and found.low < -0.1 < 0.1 < found.high
    assert rate([1.0] * 3, range(3), scale=(-1, 1)).low < 0 < rate([1.0] * 3, range(3)).low
    with pytest.raises(EvaluationError, match="between 0 and 1, got -1 to 1"):
        rate([1.0, -1.0], "ab")


def test_a_loss_per_token_weighs_each_response_by_its_tokens() -> None:
    # 2 nats on 1 token and 8 on 9: 10 nats on 10 tokens, while the mean of the means is 1.44
    found = ratio([2.0, 8.0], [1, 9], "ab")
    assert found.value == 1.0
    assert found.low == pytest.approx(8 / 9) and found.high == 2.0
    with pytest.raises(EvaluationError, match="a positive size for each of 2 sums"):
        ratio([2.0, 8.0], [1, 0], "ab")


def test_responses_to_one_group_of_prompts_are_resampled_together() -> None:
    generator = np.random.default_rng(2)
    base = generator.normal(1, 0.5, 40)
    apart = ratio(list(base) * 5, [3] * 200, range(200))
    together = ratio(list(base) * 5, [3] * 200, list(range(40)) * 5)
    assert together.high - together.low > 1.8 * (apart.high - apart.low)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator, covered = np.random.default_rng(1), 0
    for trial in range(200):
        found = rate(generator.random(150) < 0.6, range(150), resamples=400, seed=trial)
        covered += found.low <= 0.6 <= found.high
    assert 180 <= covered <= 199  # 190 expected


def test_answers_to_one_prompt_are_not_counted_as_independent() -> None:
    values = list(np.random.default_rng(0).random(40) < 0.5)
    apart = rate(values * 5, range(200))
    together = rate(values * 5, list(range(40)) * 5)
    assert together.high - together.low > 1.8 * (apart.high - apart.low)


def test_a_standard_error_adds_up_what_a_cluster_is_off_together() -> None:
    # mean .5; clusters are off by 1 - .5 = .5, 1 - 1 = 0 and 0 - .5 = -.5, of four observations
    found = rate([1.0, 1.0, 0.0, 0.0], ["a", "b", "b", "c"])
    assert found.standard_error == pytest.approx(math.sqrt(3 / 2 * (0.25 + 0 + 0.25)) / 4)
    values = [0.2, 0.9, 0.4, 0.7, 0.1]
    alone = rate(values, range(5)).standard_error
    assert alone == pytest.approx(np.std(values, ddof=1) / math.sqrt(5))
    assert rate(values * 4, [*range(5)] * 4).standard_error == pytest.approx(alone)
    tokens = [2.0, 5.0, 3.0]  # a ratio of 1: off by 1, -2 and 1, of ten tokens
    off = ratio([3.0, 3.0, 4.0], tokens, range(3)).standard_error
    assert off == pytest.approx(math.sqrt(3 / 2 * (1 + 4 + 1)) / 10)
    assert rate([1.0, 0.0], ["a", "a"]).standard_error is None


def test_nothing_to_average_is_an_error_and_not_zero() -> None:
    with pytest.raises(EvaluationError, match="got 0 and 0"):
        rate([], [])
    with pytest.raises(EvaluationError, match="got 2 and 1"):
        rate([1.0, 0.0], ["a"])


def test_a_score_that_is_not_a_number_is_an_error_and_not_a_defeat() -> None:
    for broken in (float("nan"), float("inf")):
        with pytest.raises(EvaluationError, match="1 of 4 are not"):
            outcomes([1.0, broken], [0.0, 1.0])
        with pytest.raises(EvaluationError, match="1 of 2 are not"):
            rate([1.0, broken], "ab")


def test_a_tie_is_half_a_win() -> None:
    assert outcomes([1.0, 0.0, 0.3], [0.0, 1.0, 0.3]) == [1.0, 0.0, 0.5]


def test_agreement_is_that_of_two_annotators_drawn_from_those_who_decided() -> None:
    assert agreement(3, 0) == 1.0
    assert agreement(2, 1) == pytest.approx(1 / 3)  # 1 of 3 pairs of votes
    assert agreement(1, 1) == 0.0
    with pytest.raises(EvaluationError, match="two annotators who decided, got 1"):
        agreement(1, 0)


def test_an_interval_is_that_of_clusters_drawn_one_by_one_whether_draws_are_kept_or_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(4)
    sums, sizes = rng.normal(3, 1, 40), rng.integers(1, 6, 40).astype(float)
    drawn = np.random.default_rng(9).integers(40, size=(200, 40))
    expected = np.quantile(sums[drawn].sum(1) / sizes[drawn].sum(1), [0.025, 0.975])
    for kept in (stats.KEPT, 0):
        monkeypatch.setattr(stats, "KEPT", kept)
        found = ratio(sums.tolist(), sizes.tolist(), range(40), resamples=200, seed=9)
        assert found.ci == pytest.approx(expected.tolist(), abs=1e-12)


def test_statistics_told_together_are_those_told_alone() -> None:
    rng = np.random.default_rng(5)
    groups = rng.integers(30, size=80).tolist()
    won, lead = rng.random(80).tolist(), rng.uniform(-1, 1, 80).tolist()
    sizes = rng.integers(1, 9, 80).astype(float).tolist()
    assert rates([(won, (0, 1)), (lead, (-1, 1))], groups) == [
        rate(won, groups),
        rate(lead, groups, scale=(-1, 1)),
    ]
    assert ratios([(lead, sizes), (won, sizes)], groups, seed=3) == [
        ratio(lead, sizes, groups, seed=3),
        ratio(won, sizes, groups, seed=3),
    ]
    assert rates([], groups) == ratios([], groups) == []
