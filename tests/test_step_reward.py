"""Process reward models: which tokens are read, what they learn, what changes nothing."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from flywheel.datasets.render import Rendered
from flywheel.errors import RecordError, SettingsError, TrainingError
from flywheel.models.load import load_backbone, load_tokenizer
from flywheel.records import Message, StepRating
from flywheel.records.message import Conversation, dump, prompt_of
from flywheel.rollout import StepRewardModel, aggregate
from flywheel.train.config_reward import StepRewardSettings
from flywheel.train.data import Reader, Steps
from flywheel.train.step_reward import judged_steps, run
from tests.models_for_tests import COLOURS, chatml, freeze, tiny
from tests.test_reward import Plain

GOOD, BAD = "it is", "it is not"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny(tmp_path_factory.mktemp("base"))


def walked(*said: str) -> Conversation:
    """An assistant's steps, each answered by a tool but the last."""
    turns: list[Message] = []
    for one in said:
        turns += [Message(role="assistant", content=one), Message(role="tool", content="black .")]
    return tuple(turns[:-1])


def rated(steps: Conversation, score: float, weight: float = 1.0, uid: str = "s") -> dict[str, Any]:
    return {
        "prompt_key": "p",
        "prompt": dump(prompt_of("say red")),
        "steps": dump(steps),
        "score_frac": score,
        "weight": weight,
        "record_uids": [uid],
    }


def attempt(steps: Conversation, outcome: str) -> dict[str, Any]:
    row = rated(steps, 0.0, uid=outcome) | {"outcome": outcome}
    return {name: row[name] for name in row if name not in ("weight", "score_frac")}


def reader(folder: Path, base: str, rows: Sequence[dict[str, Any]], most: int = 64) -> Reader:
    tokenizer = load_tokenizer(base)
    return Reader(freeze(folder, train=rows), tokenizer, [tokenizer.eos_token_id], most)


@pytest.mark.parametrize("make", [tiny, chatml])
def test_a_step_is_read_at_the_last_token_of_its_turn(tmp_path: Path, make: Any) -> None:
    base = make(tmp_path / "base")
    (one,) = reader(
        tmp_path / "d", base, [attempt(walked("say red", "say blue", "no"), "passed")], 128
    ).outcomes("train", 1.0)
    tokenizer = load_tokenizer(base)
    assert [one.text.ids[place] for place in one.places] == [tokenizer.eos_token_id] * 3
    said = [tokenizer.decode(one.text.ids[: place + 1]).split("say")[-1] for place in one.places]
    assert "red" in said[0] and "blue" in said[1] and "no" in said[2]
    assert one.places[-1] == len(one.text.ids) - 1 and one.labels == [1.0] * 3


def test_ratings_of_one_trajectory_go_forward_together(base: str, tmp_path: Path) -> None:
    whole, other = walked("say red", "say blue", "no"), walked("say red", "say green")
    rows = [
        rated(whole[:1], 1.0, 2.0, "first"),
        rated(whole, 0.0, uid="third"),
        rated(other, 0.5, uid="another second"),
        rated(whole[:3], 0.25, uid="second"),
    ]
    one, two = reader(tmp_path / "d", base, rows).step_ratings("train")
    found = sorted(zip(one.places, one.labels, one.weights, one.record_uids, strict=True))
    assert [row[1:] for row in found] == [
        (1.0, 2.0, "first"),
        (0.25, 1.0, "second"),
        (0.0, 1.0, "third"),
    ]
    assert [place for place, *_ in found] == list(one.text.ends)
    assert (two.labels, two.places) == ([0.5], [two.text.ends[1]])


def test_only_attempts_that_passed_or_failed_say_anything(base: str, tmp_path: Path) -> None:
    outcomes = ("passed", "failed", "truncated", "error", "unscored", "error")
    rows = [attempt(walked("say red", "no"), outcome) for outcome in outcomes]
    rows.append(attempt(walked("say red " * 40), "passed"))
    found = reader(tmp_path / "d", base, rows)
    assert [(one.labels, one.weights) for one in found.outcomes("train", 0.5)] == [
        ([1.0, 1.0], [0.5, 0.5]),
        ([0.0, 0.0], [0.5, 0.5]),
    ]
    assert found.dropped == {
        "outcome truncated": 1,
        "outcome error": 2,
        "outcome unscored": 1,
        "response over 64 tokens": 1,
    }


TEXTS = [Rendered([1, *range(5, 9 + 3 * n), 2], 2) for n in range(4)]
BATCH = [
    Steps(TEXTS[0], [3], [1.0], [1.0]),
    Steps(TEXTS[1], [3, 6, 8], [0.0, 0.5, 1.0], [1.0, 2.0, 0.5]),
    Steps(TEXTS[2], [2, 11], [1.0, 0.0], [1.0, 1.0]),
    Steps(TEXTS[3], [14], [0.25], [3.0]),
]


def gradient(module: Plain, batch: Sequence[Steps]) -> torch.Tensor:
    module.zero_grad()
    judged_steps().loss(module, batch)[0].backward()
    return torch.cat([one.grad.flatten() for one in module.parameters()])


def test_no_cut_into_micro_batches_changes_the_gradient(base: str) -> None:
    module = Plain(load_backbone(base)).double()
    whole = gradient(module, BATCH)
    for cut in (1, 2, 3):
        pieces = sum(gradient(module, BATCH[at : at + cut]) for at in range(0, 4, cut))
        assert float((whole - pieces).norm() / whole.norm()) <= 1e-6, cut


def test_the_loss_is_the_weighted_mean_of_cross_entropies_of_steps(base: str) -> None:
    module = Plain(load_backbone(base)).double()
    objective = judged_steps()
    with torch.no_grad():
        total = float(objective.loss(module, BATCH)[0])
        by_hand = 0.0
        for one in BATCH:
            states = module.backbone(torch.tensor([one.text.ids])).last_hidden_state[0]
            scores = (states @ module.head.weight[0] + module.head.bias)[one.places]
            for score, label, weight in zip(scores.tolist(), one.labels, one.weights, strict=True):
                good = 1 / (1 + math.exp(-score))
                by_hand -= weight * (label * math.log(good) + (1 - label) * math.log(1 - good))
    assert total == pytest.approx(by_hand, rel=1e-6)
    assert sum(map(objective.count, BATCH)) == 9.5


def test_hard_labels_are_a_classification_of_tokens_with_the_others_ignored(base: str) -> None:
    module = Plain(load_backbone(base))
    batch = [Steps(TEXTS[1], [3, 6, 8], [0.0, 1.0, 1.0], [1.0] * 3), BATCH[2]]
    labels = torch.full((2, len(TEXTS[2].ids)), -100)
    for row, one in enumerate(batch):
        labels[row, one.places] = torch.tensor(one.labels).long()
    ids = torch.zeros_like(labels)
    for row, one in enumerate(batch):
        ids[row, : len(one.text.ids)] = torch.tensor(one.text.ids)
    with torch.no_grad():
        hidden = module.backbone(input_ids=ids, use_cache=False).last_hidden_state
        logits = F.pad(module.head(hidden), (1, 0))  # two classes, the first of them at 0
        published = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
        ours = judged_steps().loss(module, batch)[0] / 5
    assert float(ours) == pytest.approx(float(published), abs=1e-6)


def chosen(base: str, folder: Path, **changes: Any) -> StepRewardSettings:
    return StepRewardSettings(model=base, output=str(folder / "prm"), max_tokens=64, **changes)


def walks(rng: Random, count: int) -> list[Conversation]:
    said = [
        [f"{rng.choice(COLOURS)} {rng.choice((GOOD, BAD))}" for _ in range(3)] for _ in range(count)
    ]
    return [walked(*one) for one in said]


def test_a_planted_fault_of_steps_is_learnt_from_ratings_and_from_outcomes(
    base: str, tmp_path: Path
) -> None:
    rng = Random(0)
    rows = [
        rated(steps[: 2 * turn + 1], float(BAD not in steps[2 * turn].content), uid=str(turn))
        | {"prompt_key": str(number)}
        for number, steps in enumerate(walks(rng, 120))
        for turn in range(3)
    ]
    attempts = [
        attempt(steps, "failed" if any(BAD in step.content for step in steps) else "passed")
        for steps in walks(rng, 80)
    ] + [attempt(walked("say red"), "truncated")]
    settings = chosen(
        base,
        tmp_path,
        dataset=freeze(tmp_path / "step_rating", train=rows[:300], validation=rows[300:]),
        trajectories=freeze(tmp_path / "trajectory", train=attempts, validation=[]),
        outcome_weight=0.1,
        epochs=8.0,
        batch=16,
        learning_rate=1e-2,
    )
    result = run(settings, tmp_path)
    assert result["validation_accuracy_frac"] >= 0.95 and result["validation_steps"] == 60
    assert result["rated_steps"] == 300 + 240
    assert result["outcomes"]["dropped"] == {"outcome truncated": 1}
    manifest = json.loads((tmp_path / "prm" / "manifest.json").read_text())
    assert manifest["kind"] == "step_reward_model"
    assert manifest["datasets"].keys() == {"step_rating", "trajectory"}
    model = StepRewardModel.load(result["checkpoint"])
    steps = walked(f"red {GOOD}", f"blue {BAD}", f"green {GOOD}")
    long = walked("say red " * 40)
    (found, none) = model.score_steps([prompt_of("say red")] * 2, [steps, long], max_tokens=64)
    assert none is None and found is not None
    good, bad, good_again = found
    assert 0 < bad < 0.5 < min(good, good_again) and max(good, good_again) < 1
    alone = model.score_steps([prompt_of("say red")], [steps[:3]], max_tokens=64)[0]
    assert alone == pytest.approx(found[:2], abs=1e-5)  # nothing after a step is read


def test_a_trajectory_is_as_good_as_its_steps_say() -> None:
    steps = [0.9, 0.5, 0.8]
    found = [aggregate(steps, how) for how in ("product", "min", "last")]
    assert found == pytest.approx([0.36, 0.5, 0.8])
    with pytest.raises(SettingsError, match="product, min or last; got 'mean'"):
        aggregate(steps, "mean")


def test_without_a_step_to_learn_from_the_run_says_what_to_land(base: str, tmp_path: Path) -> None:
    nothing = freeze(tmp_path / "t", train=[attempt(walked("say red"), "error")], validation=[])
    with pytest.raises(TrainingError, match=r"(?s)'outcome error': 1.*land step ratings or"):
        run(chosen(base, tmp_path, trajectories=nothing), tmp_path)
    with pytest.raises(SettingsError, match="needs dataset, trajectories, or both"):
        chosen(base, tmp_path)


def test_a_rating_of_a_step_ends_with_that_step_and_lies_on_its_scale() -> None:
    scale = {"prompt": "p", "rating_min": -1.0, "rating_max": 1.0}
    with pytest.raises(RecordError, match="must be the assistant's, found one of 'tool'"):
        StepRating(steps=(*walked("a", "b")[:2],), rating=0.0, **scale)
    with pytest.raises(RecordError, match=r"rating 2\.0 lies outside its scale -1.0"):
        StepRating(steps=walked("a"), rating=2.0, **scale)
