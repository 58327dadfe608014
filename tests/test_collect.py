"""The annotation queue: the least certain, an always-random share, and only what may be asked."""

import json
from pathlib import Path

import pytest

from flywheel.collect.queue import choose, uncertainty_of
from flywheel.collect.settings import QueueSettings
from flywheel.errors import SettingsError
from flywheel.process.launch import launch
from tests.models_for_tests import preferences, reward_of, tiny


def test_equal_scores_are_a_coin_toss_and_a_wide_gap_is_none() -> None:
    assert uncertainty_of([1.0, 1.0, -5.0]) == pytest.approx(0.25)
    assert uncertainty_of([9.0, -9.0]) < 1e-6


def test_the_rest_is_the_least_certain_and_the_share_is_random() -> None:
    scores = [[0.0, float(gap)] for gap in range(100)]
    chosen = choose(scores, length=20, random_frac=0.2, seed=3)
    blind = [one.place for one in chosen if one.reason == "random"]
    rest = [one.place for one in chosen if one.reason == "uncertain"]
    assert len(blind) == 4 and len(rest) == 16
    assert rest == sorted(set(range(100)) - set(blind))[:16]
    assert {one.probability for one in chosen} == {0.04}


def test_the_random_share_asks_every_prompt_alike() -> None:
    scores = [[0.0, 10.0 * (place % 2)] for place in range(10)]
    asked = [0] * 10
    for seed in range(2000):
        for one in choose(scores, length=4, random_frac=0.5, seed=seed):
            asked[one.place] += one.reason == "random"
    assert min(asked) > 330 and max(asked) < 470  # 400 expected


def test_a_short_list_is_asked_whole() -> None:
    assert len(choose([[0.0, 1.0]] * 3, length=10, random_frac=0.2, seed=0)) == 3
    assert choose([], length=10, random_frac=0.2, seed=0) == []


@pytest.mark.parametrize(
    "wrong", [{"random_frac": 0.0}, {"candidates": 1}, {"length": 0}, {"prompts": 0}]
)
def test_the_random_share_cannot_be_switched_off_nor_the_queue_be_empty(wrong: dict) -> None:
    inputs = dict.fromkeys(("generation", "policy", "sft", "reward_model"), "x")
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        QueueSettings(**inputs, preference_dataset="d", output="o", **wrong)


def test_a_queue_holds_candidates_of_both_policies_on_training_prompts(tmp_path: Path) -> None:
    settings = QueueSettings(
        generation="g0001",
        policy=tiny(tmp_path / "policy"),
        sft=tiny(tmp_path / "sft", seed=1),
        reward_model=reward_of(tmp_path / "policy", tmp_path / "reward"),
        preference_dataset=preferences(tmp_path / "preference"),
        output=str(tmp_path / "queue" / "g0001.jsonl"),
        length=3,
        max_new_tokens=6,
    )
    result = launch("flywheel.collect.run", settings, tmp_path / "run", log=lambda line: None)
    lines = [json.loads(line) for line in Path(result["queue"]).read_text().splitlines()]
    assert len(lines) == result["lines"] == 3
    for line in lines:
        assert line["prompt"][0]["content"].startswith("say ")
        assert len(line["responses"]) == len(set(line["responses"])) == len(line["models"]) > 1
        assert len(line["scores"]) == len(line["responses"])
        assert {model.split(":")[0] for model in line["models"]} <= {"policy", "sft"}
