"""The best of n from one pool: by hand, by enumeration, how far it strays, where gold turns."""

import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from flywheel.errors import EvaluationError
from flywheel.evaluate.graders.graders import Asked
from flywheel.evaluate.reward.best_of_n import (
    best,
    chances,
    described,
    divergence,
    pooled,
    proxies_of,
    strayed,
    turn_of_best,
)
from flywheel.evaluate.reward.curves import Measured, draws, numbered, resampled
from flywheel.evaluate.reward.overoptimisation import is_past, peak_of_form
from flywheel.records.message import prompt_of
from flywheel.rollout import Response, RewardModel
from tests.models_for_tests import reward_of, tiny
from tests.test_evaluate import unset


def test_the_best_of_n_is_the_mean_over_all_choices_of_n_from_the_pool() -> None:
    rng = np.random.default_rng(0)
    proxy, gold = rng.normal(size=(2, 7))
    proxies, golds = best(proxy, gold)
    for n in range(1, 8):
        chosen = [max(one, key=lambda at: proxy[at]) for one in combinations(range(7), n)]
        assert proxies[n - 1] == pytest.approx(np.mean(proxy[chosen]))
        assert golds[n - 1] == pytest.approx(np.mean(gold[chosen]))
    assert chances(7).sum(axis=1) == pytest.approx(1)


def test_samples_that_the_proxy_holds_equal_share_their_chances() -> None:
    # of 1, 1, 2 by the proxy: the best of two is the third in two choices of three
    assert best([1, 1, 2], [0, 6, 3])[1].tolist() == pytest.approx([3, (3 + 3 + 3) / 3, 3])
    assert best([1, 1, 1], [0, 6, 3])[1].tolist() == pytest.approx([3, 3, 3])


def test_how_far_the_best_of_n_strays_is_that_of_its_outcomes() -> None:
    fifty = np.full(50, 1 / 50)
    for n in (4, 64, 256):
        assert 0.9 < divergence(fifty, n) / min(math.log(n) - (n - 1) / n, math.log(50)) <= 1
    assert divergence(fifty, 4) == pytest.approx(0.6356, abs=1e-3)
    assert divergence(fifty, 100_000) == pytest.approx(math.log(50)), "the best one, for certain"
    assert divergence(fifty, 1) == pytest.approx(0)
    assert strayed(["a", "a", "b"], [1.0, 1.0, 2.0])[1] == pytest.approx(
        4 / 9 * math.log((4 / 9) / (2 / 3)) + 5 / 9 * math.log((5 / 9) / (1 / 3))
    )
    assert strayed(["a"] * 5, [1.0] * 5) == pytest.approx(0), "one answer has nowhere to go"


def pools(bend: float, prompts: int = 80, size: int = 16) -> Measured:
    """Gold that lies on d (.4 - bend d), with noise of each prompt's own."""
    rng = np.random.default_rng(1)
    numbers = np.arange(1, size + 1)
    nats = np.log(numbers) - (numbers - 1) / numbers
    roots = np.sqrt(nats)
    gold = 0.5 + roots * (0.4 - bend * roots) + rng.normal(0, 0.05, (prompts, 1))
    gold = gold + rng.normal(0, 0.02, (prompts, 1)) * roots
    return Measured(
        np.tile(roots, (prompts, 1)),
        gold,
        np.tile(nats, (prompts, 1)),
        list(map(str, range(prompts))),
    )


def test_curves_drawn_anew_are_means_of_the_groups_that_were_drawn() -> None:
    whole, settings = pools(0.3, prompts=9, size=4), unset(resamples=100)
    whole = Measured(whole.proxy, whole.gold, whole.nats, list("aabbbcdde"))
    found, places = resampled(whole, settings), numbered(whole.groups)
    assert len(found) == 25
    for means, times in zip(found, draws(5, settings), strict=True):
        for mean, one in zip(means, (whole.proxy, whole.gold, whole.nats), strict=True):
            assert mean == pytest.approx(np.average(one, axis=0, weights=times[places]))


def test_the_turn_of_a_curve_has_an_interval_over_prompts() -> None:
    found = described(pools(0.3), unset(resamples=400))
    true = 0.4 / 0.6
    assert (found["alpha"], found["beta"]) == (
        pytest.approx(0.4, abs=0.02),
        pytest.approx(0.3, abs=0.01),
    )
    assert found["form_peak"] == pytest.approx(true, abs=0.02)
    low, high = found["form_peak_ci"]
    assert low < true < high and high - low < 0.1
    assert found["peak_ci"][0] <= found["peak"] <= found["peak_ci"][1] < 1
    assert [one["n"] for one in found["points"]] == [1, 2, 4, 8, 16]
    first = found["points"][0]
    assert first["root_nats"] == 0 and first["ci"][0] < first["gold"] < first["ci"][1]
    assert first["se"] == pytest.approx(0.05 / math.sqrt(80), rel=0.3)


def test_gold_that_rises_to_the_last_n_has_no_turn() -> None:
    found = described(pools(0.0), unset(resamples=400))
    assert (
        found["peak"] is None and found["peak_ci"][1] is None and found["form_peak_ci"][1] is None
    )


def test_one_that_imitates_the_best_of_too_many_is_past_the_turn() -> None:
    turned = described(pools(0.3), unset(resamples=400))
    assert is_past(turn_of_best(turned, 16)) and not is_past(turn_of_best(turned, 2))
    assert not is_past(turn_of_best(described(pools(0.0), unset(resamples=400)), 16))
    assert is_past(None) is None


def test_a_form_that_never_turns_has_no_peak() -> None:
    rising = [(0.0, 0.0, 0.5), (1.0, 1.0, 0.7), (2.0, 2.0, 0.9)]
    assert peak_of_form(rising, "best_of_n") is None
    assert peak_of_form(rising[:2], "best_of_n") is None
    curve = [(d, d, d * (0.11 - 0.08 * math.log(d)) if d else 0.0) for d in (0.0, 0.5, 1.5, 3.0)]
    assert peak_of_form(curve, "reinforcement") == pytest.approx(math.exp(0.11 / 0.08 - 1))


def test_a_pool_without_gold_is_refused(tmp_path: Path) -> None:
    tiny(tmp_path / "base")
    reward = RewardModel.load(reward_of(tmp_path / "base", tmp_path / "reward"))
    asked = [Asked("k", "g", prompt_of("say red"), "people", None, "")]
    samples = [[Response("red it is .", 4, True, -1.0)] * 2]
    with pytest.raises(EvaluationError, match=r"prompt k has \[nan, .* by people and the reward"):
        proxy = proxies_of(asked, samples, reward, unset())
        pooled(asked, samples, proxy, reward, unset(best_of_samples=2))
