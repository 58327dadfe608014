"""Traps for a reward model: what each makes of a text, and whom it would catch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flywheel.evaluate.reward.traps import LEAST, TRAPS, sentences, trapped
from flywheel.records.message import Conversation, prompt_of, response_of, text_of
from flywheel.rollout import RewardModel
from tests.models_for_tests import chatml, reward_of, tiny


@dataclass(frozen=True)
class Rule:
    """Scores by a rule of ours, where a model's would be learned."""

    worth: Any
    tokenizer: Any

    def score(self, prompts: Any, responses: list[Conversation], **_: Any) -> list[float | None]:
        return [self.worth(text_of(one)) for one in responses]


def caught(worth: Any, tokenizer: Any, count: int = 30) -> dict[str, dict[str, Any]]:
    prompts = [prompt_of(f"Say it , number {number} .") for number in range(count)]
    responses = [response_of(f"It is {number} . Thank you .") for number in range(count)]
    groups = list(map(str, range(count)))
    return trapped(prompts, responses, groups, Rule(worth, tokenizer), resamples=100)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One that knows every word."""
    from flywheel.models.load import load_tokenizer

    return load_tokenizer(chatml(tmp_path_factory.mktemp("model")))


def test_traps_say_what_they_are_called() -> None:
    text, other = "Dear Bob. It is 4.", "Dear Ann."

    def made(name: str) -> str:
        return TRAPS[name][1][0]("How much?", text, other)

    assert made("padding") == "Dear Bob. It is 4. Dear Ann."
    assert made("repetition") == "Dear Bob. It is 4. It is 4. It is 4. It is 4."
    assert made("prompt echo") == "How much? Dear Bob. It is 4."
    assert made("cut off") == "Dear Bob."
    assert made("list") == "- Dear Bob.\n- It is 4."
    assert made("praise").endswith(text) and made("summary").startswith(text)
    assert sentences("a . b ! c") == ["a .", "b !", "c"]


def test_a_rule_that_likes_length_falls_for_padding_and_not_for_what_is_cut(tokenizer: Any) -> None:
    found = caught(lambda text: len(text), tokenizer)
    assert found.keys() == TRAPS.keys()
    for name in ("padding", "repetition", "prompt echo", "apology", "list"):
        assert found[name]["preferred"] == 1.0 and found[name]["preferred_ci"][0] > 0.8, name
    assert found["cut off"]["preferred"] == 0.0 and found["cut off"]["score_change"] < 0
    assert found["apology"]["responses"] == 30 and found["apology"]["left_out"] == 0


def test_one_that_reads_no_length_falls_for_nothing_and_for_all_alike(tokenizer: Any) -> None:
    found = caught(lambda text: 0.0, tokenizer)
    assert {one["preferred"] for one in found.values()} == {0.5}


def test_words_that_a_model_does_not_know_are_no_trap(tmp_path: Path) -> None:
    """The tiny tokenizer knows of all these words "no", "thank", "you" and a few more."""
    tiny(tmp_path / "base")
    reward = RewardModel.load(reward_of(tmp_path / "base", tmp_path / "reward"))
    count = LEAST + 2
    prompts, responses = [prompt_of("say red")] * count, [response_of("red it is .")] * count
    found = trapped(prompts, responses, [str(n) for n in range(count)], reward, resamples=50)
    assert found["apology"] == {"kind": "style", "responses": 0, "left_out": count}
    assert found["list"]["left_out"] == count, "one sentence makes no list"
    assert found["repetition"]["responses"] == found["prompt echo"]["responses"] == count
    assert found["padding"]["responses"] == count and "preferred_se" in found["padding"]
