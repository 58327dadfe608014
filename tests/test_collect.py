"""The annotation queue: the least certain, an always-random share, and only what may be asked."""

import json
from pathlib import Path
from typing import Any

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


def filled(folder: Path, generation: str, **changes: Any) -> tuple[dict, list[dict]]:
    """The queue of one generation, by the same policies and seed as every other."""
    settings = QueueSettings(
        generation=generation,
        policy=tiny(folder / "policy"),
        sft=tiny(folder / "sft", seed=1),
        reward_model=reward_of(folder / "policy", folder / "reward"),
        preference_dataset=preferences(folder / "preference"),
        output=str(folder / "queue" / f"{generation}.jsonl"),
        **{"length": 3, "max_new_tokens": 6} | changes,
    )
    result = launch("flywheel.collect.run", settings, folder / generation, log=lambda line: None)
    lines = [json.loads(line) for line in Path(result["queue"]).read_text().splitlines()]
    assert len(lines) == result["lines"]
    return result, lines


def test_a_queue_holds_candidates_of_both_policies_on_training_prompts(tmp_path: Path) -> None:
    _, lines = filled(tmp_path, "g0001")
    assert len(lines) == 3
    for line in lines:
        assert line["prompt"][0]["content"].startswith("say ")
        assert len(line["responses"]) == len(set(line["responses"])) == len(line["models"]) > 1
        assert len(line["scores"]) == len(line["responses"])
        assert {model.split(":")[0] for model in line["models"]} <= {"policy", "sft"}


def prompts_of(lines: list[dict]) -> set[str]:
    return {line["prompt"][0]["content"] for line in lines}


def test_what_one_generation_asked_the_next_does_not_ask_again(tmp_path: Path) -> None:
    _, first = filled(tmp_path, "g0001", length=2)
    result, second = filled(tmp_path, "g0002", length=2)
    assert len(prompts_of(first)) == len(prompts_of(second)) == 2
    assert not prompts_of(first) & prompts_of(second)
    assert result["asked_before"] == 0 and result["random"] == 1
    assert filled(tmp_path, "g0001", length=2, candidates=6)[1]  # a later queue asks nothing before


def test_prompts_come_back_to_fill_a_queue_that_would_be_too_short(tmp_path: Path) -> None:
    _, first = filled(tmp_path, "g0001", length=3)
    result, second = filled(tmp_path, "g0002", length=3)
    assert result["asked_before"] == 2  # four prompts, one of them new
    assert len(prompts_of(second) - prompts_of(first)) == 1


def test_a_prompt_comes_back_only_with_an_answer_that_nobody_was_asked_about(
    tmp_path: Path,
) -> None:
    filled(tmp_path, "g0001", length=4)
    result, lines = filled(tmp_path, "g0002", length=4)  # the same policies draw the same answers
    assert result["asked_before"] == result["without_a_new_answer"] == 4 and not lines
    result, lines = filled(tmp_path, "g0003", length=4, seed=5)
    assert len(lines) == 4 and result["random"] == 1


def test_a_queue_that_was_deleted_is_filled_again(tmp_path: Path) -> None:
    result, lines = filled(tmp_path, "g0001")
    Path(result["queue"]).unlink()
    assert filled(tmp_path, "g0001")[1] == lines
