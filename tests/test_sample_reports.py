"""The reports over seeds: hand values of the intervals, and claims that fail when they should."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flywheel.sample.deliver import compose
from flywheel.sample.measure import Estimate, average, evaluation_requests, pool, wins
from flywheel.sample.seeds import claims, greedy, home_of


def estimate(value: float, half: float = 0.02) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half)


def test_a_win_counts_one_and_a_tie_half() -> None:
    found = wins([1.0, 0.5, 0.2, 0.9], [0.5, 0.5, 0.4, 0.1])
    assert found.value == pytest.approx(2.5 / 4)
    assert wins([1.0] * 3, [0.0] * 3).low < 0.5  # three of three show nothing yet


def test_the_interval_of_a_mean_by_hand() -> None:
    found = average([0.0, 1.0] * 50)  # standard deviation .5025, error .05025
    assert found.value == 0.5
    assert found.high - found.value == pytest.approx(1.96 * 0.05025, rel=1e-3)


def test_pooling_takes_the_wider_of_prompts_and_seeds() -> None:
    alike = pool([estimate(0.6)] * 4)  # seeds agree: .02 / 2 remains of the prompts' error
    assert alike.high - alike.value == pytest.approx(0.01)
    apart = pool([estimate(0.5), estimate(0.7)])  # sd .1414, t(1) 12.706
    assert apart.high - apart.value == pytest.approx(12.706 * 0.1414 / 2**0.5, rel=1e-3)
    assert pool([estimate(0.6)]).high == pytest.approx(0.62)


def test_the_evaluation_prompts_of_a_seed_are_those_delivered() -> None:
    delivered = compose(seed=7, scale=1.0)[0]["evaluation_prompts.jsonl"].splitlines()
    asked = [one.text for one in evaluation_requests(7)]
    assert asked == [json.loads(line)["prompt"] for line in delivered]
    assert len(set(asked)) == 600


def turn(
    *,
    over_base: float,
    over_sft: float,
    accuracy: float,
    longest: float = 0.43,
    caught: bool = True,
) -> dict[str, Any]:
    def win(value: float) -> dict[str, Any]:
        return {"win_rate": value, "ci": [value - 0.02, value + 0.02]}

    return {
        "policy": {"versus": {"base": win(over_base), "sft": win(over_sft)}},
        "reward_model": {
            "accuracy": accuracy,
            "ci": [accuracy - 0.02, accuracy + 0.02],
            "longest_wins": longest,
            "longest_wins_ci": [longest - 0.02, longest + 0.02],
            "over_length": {"difference": accuracy - 0.57, "ci": [accuracy - 0.6, accuracy - 0.54]},
        },
        "faults": [{"passed": caught}],
    }


def verdicts(turns: list[dict[str, Any]], sft: float) -> list[bool | None]:
    gold = {name: estimate(sft) for name in ("base", "sft", "policy")}
    return [one.passed for one in claims(turns, [gold] * len(turns))]


def test_claims_hold_on_good_turns_and_fail_one_by_one() -> None:
    good = [turn(over_base=0.9, over_sft=0.64, accuracy=0.67)] * 3
    assert verdicts(good, sft=0.77) == [True, True, True, None, None, True, None, True, True]
    weak = [turn(over_base=0.66, over_sft=0.505, accuracy=0.48, caught=False)] * 3
    assert verdicts(weak, sft=0.895) == [False, False, False, None, None, True, None, False, False]


def test_one_seed_whose_intervals_overlap_fails_the_claim_on_the_longest() -> None:
    apart = turn(over_base=0.9, over_sft=0.64, accuracy=0.67, longest=0.62)
    touching = turn(over_base=0.9, over_sft=0.64, accuracy=0.67, longest=0.64)
    assert verdicts([apart, apart], sft=0.77)[5] is True
    assert verdicts([apart, touching], sft=0.77)[5] is False


def test_greedy_gold_is_what_the_turn_graded(tmp_path: Path) -> None:
    folder = home_of(3, tmp_path).evaluation("g0001")
    folder.mkdir(parents=True)
    rows = [
        {"policy": name, "greedy": greedily, "score": score}
        for name, mean in (("base", 0.4), ("sft", 0.6), ("policy", 0.8))
        for score in (mean - 0.1, mean + 0.1)
        for greedily, score in ((True, score), (False, 0.0))
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "samples.parquet")
    found = greedy(3, "g0001", tmp_path)
    assert {name: round(one.value, 9) for name, one in found.items()} == {
        "base": 0.4,
        "sft": 0.6,
        "policy": 0.8,
    }
    assert found["sft"].low < 0.6 < found["sft"].high
