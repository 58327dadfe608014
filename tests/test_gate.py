"""The gate: what it promotes, holds and rejects, and the numbers that it gives."""

from typing import Any

import pytest

from flywheel.evaluate.stats import rate
from flywheel.promotion import GateSettings, decide


def result(**changes: Any) -> dict[str, Any]:
    policy = {
        "opponent": "champion",
        "win_rate": 0.6,
        "ci": [0.55, 0.65],
        "prompts": 300,
        "groups": 300,
        "mean_response_tokens": 20.0,
        "opponent_response_tokens": 20.0,
        "ended_frac": 1.0,
        "grader": "refund_desk",
        "versus": {"sft": {"win_rate": 0.55, "ci": [0.5, 0.6]}},
    }
    return {"policy": {**policy, **changes}, "reward_model": ahead(0.08, 0.05, 0.11)}


def ahead(difference: float, low: float, high: float, groups: int = 300) -> dict[str, Any]:
    lead = {"baseline": "shortest_wins", "difference": difference, "ci": [low, high]}
    return {"accuracy": 0.57 + difference, "groups": groups, "over_length": lead}


@pytest.mark.parametrize(
    ("changes", "decision", "reason"),
    [
        ({}, "PROMOTE", "lower bound 0.550 is above 0.5"),
        ({"win_rate": 0.4, "ci": [0.35, 0.45]}, "REJECT", "worse than champion"),
        ({"versus": {"sft": {"win_rate": 0.4, "ci": [0.3, 0.49]}}}, "HOLD", "SFT policy"),
        ({"versus": {"sft": {"win_rate": 0.5, "ci": [0.4, 0.5]}}}, "PROMOTE", "lower bound"),
        ({"win_rate": 0.55, "ci": [0.5, 0.6]}, "HOLD", "0.500 is not above 0.5"),
        ({"win_rate": 0.45, "ci": [0.4, 0.5]}, "HOLD", "undecided against champion"),
        ({"win_rate": 0.9, "ci": [0.8, 0.95], "ended_frac": 0.79}, "REJECT", "79% of answers"),
        ({"ended_frac": 0.8, "mean_response_tokens": 30.0}, "PROMOTE", "lower bound"),
        ({"ended_frac": 0.5}, "REJECT", "50% of answers end"),
        ({"mean_response_tokens": 31.0}, "REJECT", "1.5 times"),
        ({"win_rate": 0.52, "ci": [0.48, 0.56]}, "HOLD", "about 1200 prompts would settle it"),
        ({"win_rate": 0.5, "ci": [0.45, 0.55]}, "HOLD", "undecided against champion"),
        ({"groups": 29}, "HOLD", "29 groups of prompts decide nothing"),
        ({"groups": 29, "win_rate": 0.1, "ci": [0, 0.2]}, "HOLD", "29 groups of prompts"),
        ({"groups": 3, "ended_frac": 0.1}, "HOLD", "3 groups of prompts"),
        ({"groups": 3, "mean_response_tokens": 99.0}, "HOLD", "3 groups of prompts"),
    ],
)
def test_the_gate_gives_its_numbers(changes: dict, decision: str, reason: str) -> None:
    found = decide(result(**changes), GateSettings())
    assert found.decision == decision
    assert any(reason in one for one in found.reasons), found.reasons


@pytest.mark.parametrize(
    ("reward", "decision", "reason"),
    [
        (ahead(0.08, 0.001, 0.16), "PROMOTE", "lower bound"),
        (ahead(0.08, 0.0, 0.16), "HOLD", "not shown to be better than 'the shorter wins'"),
        (ahead(-0.08, -0.16, 0.0), "HOLD", "ahead by -0.080 (-0.160 to +0.000)"),
        (ahead(-0.08, -0.16, -0.001), "REJECT", "worse than 'the shorter wins': accuracy 0.490"),
        (ahead(-0.08, -0.16, -0.001, groups=29), "HOLD", "29 groups of held-out pairs"),
        (ahead(0.08, 0.05, 0.11, groups=29), "HOLD", "29 groups of held-out pairs"),
    ],
)
@pytest.mark.parametrize("grader", ["reward_model", "refund_desk"])
def test_a_reward_model_must_beat_the_better_rule_of_length(
    grader: str, reward: dict, decision: str, reason: str
) -> None:
    found = decide(result(grader=grader) | {"reward_model": reward}, GateSettings())
    assert found.decision == decision and reason in found.reasons[0]


def test_a_hold_gives_every_reason() -> None:
    facts = result(win_rate=0.5, ci=[0.45, 0.55], versus={"sft": {"win_rate": 0, "ci": [0, 0]}})
    found = decide(facts | {"reward_model": ahead(0.0, -0.1, 0.1)}, GateSettings())
    assert found.decision == "HOLD" and len(found.reasons) == 3


def test_three_wins_of_three_promote_nobody() -> None:
    for count, decision in ((3, "HOLD"), (12, "PROMOTE")):
        won = rate([1.0] * count, range(count))
        facts = result(win_rate=won.value, ci=won.ci, prompts=count, groups=count)
        assert decide(facts, GateSettings(least_prompts=1)).decision == decision
