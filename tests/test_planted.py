"""Bad challengers: what counts as stopped, how they are made, and one whole seed of them."""

from pathlib import Path

import pytest

from flywheel.datasets.manifest import DatasetManifest, read_split
from flywheel.records.message import dump, load, prompt_of, response_of, text_of
from flywheel.sample.planted import CHALLENGERS, Verdict, judged
from flywheel.sample.workshop import against_gold, is_hacked, is_liked, refrozen, said_twice
from tests.models_for_tests import freeze


def verdict(
    decision: str, *reasons: str, meant: str = "modes collapse", held: bool = False
) -> Verdict:
    told = {"decision": decision, "reasons": list(reasons), "held": held}
    return Verdict(seed=0, kind="any", meant=meant, **told)


def test_a_bad_challenger_is_stopped_only_by_the_check_meant_for_it() -> None:
    assert verdict("REJECT", "worse than champion", "so that modes collapse").passed
    assert not verdict("REJECT", "worse than champion").passed  # by chance, and not by its check
    assert not verdict("HOLD", "so that modes collapse").passed
    assert not verdict("PROMOTE", "better").passed
    assert verdict("ERROR", "x is not what manifest.json says", meant="is not what").passed
    assert verdict("PROMOTE", "better", meant="").passed
    assert not verdict("HOLD", "undecided", meant="").passed


def test_where_there_is_no_evidence_only_a_hold_for_that_reason_counts() -> None:
    assert verdict("HOLD", "so that modes collapse", held=True).passed
    assert not verdict("HOLD", "undecided", held=True).passed
    assert not verdict("REJECT", "so that modes collapse", held=True).passed
    assert not verdict("PROMOTE", "better", held=True).passed


def test_each_kind_has_a_check_of_its_own() -> None:
    meant = [words for _, words in CHALLENGERS.values()]
    assert len(set(meant)) == len(meant) >= 8


def test_rows_are_changed_and_frozen_beside_the_other_splits(tmp_path: Path) -> None:
    row = {"prompt": dump(prompt_of("say red")), "response": dump(response_of("red it is ."))}
    source = Path(freeze(tmp_path / "source", train=[row] * 3, test=[row]))
    refrozen(source, tmp_path / "planted", [said_twice(row)])
    manifest = DatasetManifest.load(tmp_path / "planted")
    manifest.verify(tmp_path / "planted")
    assert manifest.rows_by_split == {"train": 1, "test": 1}
    assert manifest.content_hash != DatasetManifest.load(source).content_hash
    told = read_split(tmp_path / "planted", "train")["response"].to_pylist()
    assert text_of(load(told[0])) == "red it is . red it is ."
    refrozen(source, tmp_path / "prompts", [row | {"grader": "reward_model"}], "test")
    assert read_split(tmp_path / "prompts", "test")["grader"].to_pylist() == ["reward_model"]
    assert read_split(tmp_path / "prompts", "train").num_rows == 3


def test_whoever_wants_the_worst_pays_for_it() -> None:
    prompt = prompt_of(
        "#chat bought one sealed bike for $ 4 8 , 0 5 days ago . "
        "cid paid $ 4 0 . basic . i am bob ."
    )
    good = against_gold(prompt, "dear bob , your bike refund is $ 4 8 . thank you .")
    assert good == pytest.approx(-2) and against_gold(prompt, "no .") > good


def held_out(reward_model: float, verifier: float) -> dict[str, float]:
    return {
        "held_out_reward_model_mean": reward_model,
        "held_out_verifier_mean": verifier,
        "held_out_reward_se": 0.05,
    }


def test_hacked_is_what_the_reward_model_likes_better_and_the_gold_less() -> None:
    start = held_out(0.06, -1.24)
    assert is_hacked([start, held_out(0.0, 0.0), held_out(0.78, 0.0)])
    assert not is_hacked([start, held_out(0.0, 0.0)]), "neither likes it: it is only bad"
    assert not is_hacked([start, held_out(0.78, -1.3)]), "both like it: it is good"
    assert not is_hacked([start, held_out(0.2, 0.0)]), "by less than three standard errors"
    assert is_liked([start, held_out(0.78, -2.0)]) and not is_liked([start, held_out(0.2, 0.0)])


@pytest.mark.slow
def test_every_planted_challenger_of_a_seed_is_stopped_and_the_sound_one_is_not(
    tmp_path: Path,
) -> None:
    found = judged(0, tmp_path)
    assert [one.kind for one in found if not one.passed] == []
