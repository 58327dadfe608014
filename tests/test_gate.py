"""The gate: what it promotes, holds and rejects, and the numbers that it gives."""

import copy
import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from flywheel.errors import PromotionError, SettingsError
from flywheel.layout import Layout
from flywheel.models.publish import content_hash
from flywheel.promotion import (
    Decision,
    GateSettings,
    approve,
    decide,
    decide_and_record,
    evidence_of,
    rollback,
    title_holder,
)


def told(win_rate: float, groups: int = 300) -> dict[str, Any]:
    """What `versus.against` tells: that share of groups won, the others lost."""
    won = round(win_rate * groups)
    return {
        "win_rate": win_rate,
        "ci": [win_rate - 0.05, win_rate + 0.05],
        "outcomes": [1.0] * won + [0.0] * (groups - won),
        "prompts": groups,
        "groups": groups,
    }


def placed(root: float, high: float | None, drop: float) -> dict[str, Any]:
    """What `overoptimisation.turn_of` tells."""
    return {"root_nats": root, "peak_ci": [0.5, high], "drop": drop, "spread": 0.1}


def part(name: str, win_rate: float, groups: int = 100) -> dict[str, Any]:
    return {"axis": "domain", "name": name, **told(win_rate, groups)}


def result(win_rate: float = 0.65, groups: int = 300, **changes: Any) -> dict[str, Any]:
    policy = {
        "opponent": "champion",
        **told(win_rate, groups),
        "length_controlled": {"win_rate": win_rate, "ci": [win_rate - 0.05, win_rate + 0.05]},
        "judged_by_model": False,
        "mean_response_tokens": 20.0,
        "opponent_response_tokens": 20.0,
        "ended_frac": 1.0,
        "distinct_frac": {"policy": 0.9, "champion": 0.9},
        "grader": "refund_desk",
        "versus": {"sft": told(0.55)},
        "proxy": told(0.52),
        "slices": [part("chat", 0.65), part("mail", 0.6)],
        "unread": None,
        "turn": None,
        "by_people": [],
    }
    return {
        "policy": {**policy, **changes},
        "reward_model": ahead(0.08, 0.05, 0.11),
        "people": {},
        "broken_invariants": {},
        "no_say": [],
        "unknown_ancestors": [],
        "evaluation_sets": [],
        "look": "seed 0",
        "generation": "g0002",
        "policy_content_hash": "b",
        "champion_content_hash": "",
    }


def whole() -> dict[str, Any]:
    """A result that promotes, and tells all that one can tell."""
    judged = told(0.65) | {"annotators": 4}
    facts = result(
        unread=told(0.65),
        turn=placed(1.0, 1.9, drop=0.4),
        by_people=[{"turn": placed(1.0, 1.9, drop=0.4)}],
        judged_by_model=True,
    )
    asked = {"name": "desk", "version": 1, "content_hash": "c"}
    return facts | {"people": {"champion": judged}, "evaluation_sets": [asked]}


def ahead(difference: float, low: float, high: float, groups: int = 300) -> dict[str, Any]:
    lead = {"baseline": "shortest_wins", "difference": difference, "ci": [low, high]}
    return {"accuracy": 0.57 + difference, "groups": groups, "over_length": lead}


FACTS = json.loads(msgspec.json.encode(evidence_of(whole())))  # what the gate reads of it
MAY_BE_GONE = ("people", "champion")  # nobody compared these two
Place = tuple[str | int, ...]


def places(part: Any, here: Place = ()) -> Iterator[Place]:
    """Every key and every place of a list, of long ones the first."""
    several = part if isinstance(part, dict) else range(len(part)) if len(part) < 5 else [0]
    for name in several:
        yield (*here, name)
        if isinstance(part[name], dict | list):
            yield from places(part[name], (*here, name))


def spoilt(place: Place, *value: Any) -> dict[str, Any]:
    """The facts with another value at a place, or with none."""
    facts = copy.deepcopy(FACTS)
    part: Any = facts
    for name in place[:-1]:
        part = part[name]
    if value:
        part[place[-1]] = value[0]
    else:
        del part[place[-1]]
    return facts


@pytest.mark.parametrize("place", list(places(FACTS)), ids=str)
def test_nothing_is_decided_on_a_result_with_a_hole_or_without_a_number(place: Place) -> None:
    assert decide(FACTS, GateSettings()).decision == "PROMOTE"
    names = [one for one in place if isinstance(one, str)][-2:]  # of a table's entry, the table's
    told = rf"not: .*({'|'.join(names)}).*; materialize held_out_evaluation again"
    wrong = [spoilt(place, math.nan)]
    if isinstance(place[-1], str) and place != MAY_BE_GONE:
        wrong.append(spoilt(place))
    for facts in wrong:
        with pytest.raises(PromotionError, match=told):
            decide(facts, GateSettings())


@pytest.mark.parametrize(
    ("changes", "decision", "reason"),
    [
        ({}, "PROMOTE", "the lower bound is above 0.5"),
        ({"win_rate": 0.38}, "REJECT", "worse than champion: win rate 0.380"),
        ({"versus": {"sft": told(0.35)}}, "HOLD", "worse than the SFT policy it came from"),
        ({"versus": {"sft": told(0.48)}}, "PROMOTE", "lower bound"),
        ({"win_rate": 0.5}, "HOLD", "undecided: win rate 0.500"),
        ({"win_rate": 0.45}, "HOLD", "undecided: win rate 0.450"),
        ({"win_rate": 0.9, "ended_frac": 0.79}, "REJECT", "79% of answers"),
        ({"ended_frac": 0.8, "mean_response_tokens": 30.0}, "PROMOTE", "lower bound"),
        ({"ended_frac": 0.5}, "REJECT", "50% of answers end"),
        ({"mean_response_tokens": 31.0}, "REJECT", "1.5 times"),
        ({"distinct_frac": {"policy": 0.45, "champion": 0.9}}, "PROMOTE", "lower bound"),
        ({"distinct_frac": {"policy": 0.44, "champion": 0.9}}, "REJECT", "modes collapse"),
        ({"win_rate": 0.56}, "HOLD", "more groups of prompts like these would settle it"),
        ({"groups": 29}, "HOLD", "29 groups of prompts decide nothing"),
        ({"groups": 29, "win_rate": 0.1}, "HOLD", "29 groups of prompts"),
        ({"groups": 3, "ended_frac": 0.1}, "HOLD", "3 groups of prompts"),
        ({"groups": 3, "mean_response_tokens": 99.0}, "HOLD", "3 groups of prompts"),
        ({"slices": [part("chat", 0.8), part("mail", 0.2)]}, "REJECT", "worse on domain 'mail'"),
        ({"slices": [part("chat", 0.8), part("mail", 0.35)]}, "HOLD", "'mail' may be worse"),
        ({"slices": [part("mail", 0.35, groups=29)]}, "PROMOTE", "lower bound"),
        ({"slices": [part("mail", 0.0, groups=29)]}, "REJECT", "worse on domain 'mail'"),
        ({"versus": {"sft": told(0.35)}, "proxy": told(0.9)}, "REJECT", "past the turn"),
        ({"turn": placed(2.0, 1.9, drop=0.4)}, "REJECT", "gold turned at 0.50 to 1.90 and has"),
        ({"turn": placed(1.0, 1.9, drop=0.4)}, "PROMOTE", "lower bound"),  # it may be before it
        ({"turn": placed(2.0, 1.9, drop=0.2)}, "PROMOTE", "lower bound"),  # no fall is shown
        ({"turn": placed(9.0, None, drop=0.4)}, "PROMOTE", "lower bound"),
        ({"judged_by_model": True}, "PROMOTE", "lower bound"),
        ({"judged_by_model": True, "mean_response_tokens": 25.0}, "REJECT", "a model judges"),
        (
            {"judged_by_model": True}
            | {"length_controlled": {"win_rate": 0.54, "ci": [0.49, 0.59]}},
            "HOLD",
            "at equal length the win rate is 0.540",
        ),
        ({"versus": {"sft": told(0.35)}, "proxy": None}, "HOLD", "worse than the SFT policy"),
    ],
)
def test_the_gate_gives_its_numbers(changes: dict, decision: str, reason: str) -> None:
    found = decide(result(**changes), GateSettings())
    assert found.decision == decision, found.reasons
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


def test_a_broken_invariant_rejects_whatever_else_was_measured() -> None:
    broken = {"broken_invariants": {"trained on the test": "3 of 40 evaluation prompts"}}
    for groups in (3, 300):
        found = decide(result(win_rate=0.9, groups=groups) | broken, GateSettings())
        assert found.decision == "REJECT"
        assert found.reasons[0] == "trained on the test: 3 of 40 evaluation prompts"


def test_a_hold_gives_every_reason() -> None:
    facts = result(win_rate=0.5, versus={"sft": told(0.3)}, slices=[part("mail", 0.35)])
    found = decide(facts | {"reward_model": ahead(0.0, -0.1, 0.1)}, GateSettings())
    assert found.decision == "HOLD" and len(found.reasons) == 4


def test_three_wins_of_three_promote_nobody() -> None:
    for count, decision in ((3, "HOLD"), (12, "PROMOTE")):
        facts = result(win_rate=1.0, groups=count, slices=[])
        assert decide(facts, GateSettings(least_prompts=1)).decision == decision


def test_each_further_challenger_needs_more_evidence() -> None:
    facts = result(win_rate=0.61)
    said = [decide(facts, GateSettings(), number).decision for number in (1, 3, 30)]
    assert said == ["PROMOTE", "PROMOTE", "HOLD"]


def test_an_older_evaluation_is_to_be_made_again() -> None:
    facts = result()
    del facts["policy"]["outcomes"]
    with pytest.raises(PromotionError, match="materialize held_out_evaluation again"):
        decide(facts, GateSettings())


def test_settings_out_of_range_are_refused() -> None:
    for bad in ({"level": 0.0}, {"level": 1.0}, {"slice_margin": 0.0}, {"slice_margin": 0.5}):
        with pytest.raises(SettingsError, match="slice_margin"):
            GateSettings(**bad)
    for bar in (0.0, 0.4, 1.0, 1.2):
        with pytest.raises(SettingsError, match="win_rate_above"):
            GateSettings(win_rate_above=bar)


def test_an_ancestor_that_is_gone_holds() -> None:
    found = decide(result() | {"unknown_ancestors": ["abcdef0123456789"]}, GateSettings())
    assert found.decision == "HOLD" and "its ancestor abcdef012345 is not here" in found.reasons[0]


def test_the_number_of_a_challenger_counts_weights_and_begins_anew_with_a_champion(
    tmp_path: Path,
) -> None:
    layout = Layout(tmp_path)

    def judged(generation: str, weights: str, win_rate: float, look: str = "") -> int:
        folder = layout.evaluation(generation)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "result.json").write_text(
            json.dumps({"of": [weights, win_rate], "evaluation_sets": []})
        )
        checkpoint = layout.checkpoint("policy", generation)
        checkpoint.mkdir(parents=True, exist_ok=True)
        (checkpoint / "weights").write_text(weights)
        files = {"weights": hashlib.sha256(weights.encode()).hexdigest()}
        hashed = content_hash(files)
        (checkpoint / "manifest.json").write_text(
            json.dumps({"content_hash": hashed, "files": files})
        )
        numbers = []

        def decided(number: int) -> Decision:
            numbers.append(number)
            return decide(result(win_rate=win_rate), GateSettings(), number)

        decide_and_record(
            layout,
            generation,
            decided,
            content_hash=hashed,
            compared_with=title_holder(layout).content_hash if title_holder(layout) else "",
            human_approval=False,
            look=look,
        )
        return numbers[0]

    assert judged("g0001", "a", 0.8) == 1  # promoted: a reign begins
    assert judged("g0002", "b", 0.5) == 1
    assert judged("g0002", "b", 0.52) == 1  # looked at again
    assert judged("g0003", "c", 0.4) == 2
    assert judged("g0002", "b", 0.51) == 1
    assert judged("g0002", "b", 0.515, look="another seed") == 3  # another draw of its luck
    assert judged("g0004", "d", 0.8) == 4  # promoted
    assert judged("g0005", "e", 0.5) == 1
    rollback(layout, by="ada", reason="tone")
    assert judged("g0006", "f", 0.5) == 5  # the old champion goes on counting
    judged("g0004", "d", 0.9)  # as good as ever, and a person has sent it away
    assert title_holder(layout).generation == "g0001"
    approve(layout, "g0004", by="ada", reason="read again")
    assert title_holder(layout).generation == "g0004"


def test_the_gate_itself_promotes_no_equal_more_often_than_its_level() -> None:
    """Twenty looks at each of 400 challengers that are no better."""
    rng = np.random.default_rng(0)
    promoted = 0
    for _ in range(400):
        drawn = rng.choice([0.0, 0.5, 1.0], size=600, p=[0.4, 0.2, 0.4])
        for look in range(30, 601, 30):
            facts = result(groups=look, slices=[])
            facts["policy"] |= {"outcomes": drawn[:look].tolist(), "groups": look}
            if decide(facts, GateSettings()).decision == "PROMOTE":
                promoted += 1
                break
    assert promoted / 400 <= 0.05 + 2 * (0.05 * 0.95 / 400) ** 0.5
