"""Invariants of a challenger: each is broken on purpose, and told with what broke it."""

import dataclasses
import gzip
import math
from pathlib import Path
from typing import Any

import pytest

from flywheel.errors import EvaluationError, ManifestError, SettingsError
from flywheel.evaluate.graders.graders import Asked
from flywheel.evaluate.graders.rules import write_rules
from flywheel.evaluate.invariants import (
    broken_invariants,
    records_of,
    told_of_people,
    verify_weights,
)
from flywheel.evaluate.settings import EvaluateSettings
from flywheel.evaluate.versus import Answers
from flywheel.models.publish import publish
from flywheel.process.content import model_hash
from flywheel.records.message import dump, prompt_of, response_of
from flywheel.rollout import Response
from tests.models_for_tests import freeze, tiny

LONG = "what does the desk say of a sealed bike that came late and is still in its box"
ASKED = [Asked("k", "g", prompt_of(LONG), "exact", "", "", record_uids=("e1",))]
FINE = Answers([Response("it is .", 3, True, -1.0)], [1.0])


def checkpoint(folder: Path, *, model: str, records: dict[str, int], parents: list[Any]) -> str:
    """A published checkpoint whose manifest names records with their times, and parents."""

    def write(draft: Path) -> None:
        for path in Path(model).iterdir():
            (draft / path.name).write_bytes(path.read_bytes())
        lines = "".join(f"{uid}\t{times}\n" for uid, times in records.items())
        (draft / "records.gz").write_bytes(gzip.compress(lines.encode()))

    named = [{"model": one, "content_hash": model_hash(one)} for one in parents]
    publish(folder, write, {"records": {"file": "records.gz"}, "parents": named})
    return str(folder)


def prepared(
    tmp_path: Path, *, sft: dict[str, int], policy: dict[str, int], taught: str
) -> EvaluateSettings:
    base = tiny(tmp_path / "base")
    start = checkpoint(tmp_path / "sft", model=base, records=sft, parents=[base])
    mine = checkpoint(tmp_path / "policy", model=base, records=policy, parents=[start])
    rows = [{"prompt": dump(prompt_of(taught)), "response": dump(response_of("it is ."))}]
    nothing = freeze(tmp_path / "preference", train=[], test=[])
    return EvaluateSettings(
        generation="g0001",
        base=base,
        sft=start,
        policy=mine,
        reward_model=start,
        evaluation_dataset=str(tmp_path / "not read here"),
        preference_dataset=nothing,
        demonstration_dataset=freeze(tmp_path / "demonstration", train=rows, test=rows[:0]),
    )


def test_a_clean_challenger_breaks_nothing(tmp_path: Path) -> None:
    settings = prepared(tmp_path, sft={"d1": 2}, policy={"p1": 1, "e1": 0}, taught="say red")
    assert broken_invariants(settings, ASKED, FINE) == {}
    verify_weights(settings)
    assert records_of(Path(settings.policy)) == {"d1", "p1"}  # e1 was in no step


def test_records_of_the_test_are_found_in_the_challenger_and_in_its_parents(tmp_path: Path) -> None:
    for place, records in enumerate(({"sft": {"e1": 1}}, {"policy": {"e1": 3}})):
        chosen = {"sft": {"d1": 1}, "policy": {"p1": 1}} | records
        settings = prepared(tmp_path / str(place), **chosen, taught="say red")
        told = broken_invariants(settings, ASKED, FINE)
        assert told == {"trained on the test": "1 of 1 tested records, e.g. 'e1'"}


@pytest.mark.parametrize("learnt", ["in a step", "by an ancestor", "never"])
def test_held_out_pairs_that_the_reward_model_learnt_are_found(tmp_path: Path, learnt: str) -> None:
    settings = prepared(tmp_path, sft={"d1": 1}, policy={"p1": 1}, taught="say red")
    held = [{"record_uids": ["c1", "c2"]}, {"record_uids": ["c2", "c3", "c4"]}]
    pairs = freeze(tmp_path / "pairs", train=[{"record_uids": ["c9"]}], test=held)
    records = {"c9": 2, "c1": 0} | ({} if learnt == "never" else {"c3": 2, "c1": 1})
    taught = checkpoint(
        tmp_path / "reward", model=settings.base, records=records, parents=[settings.base]
    )
    if learnt == "by an ancestor":
        taught = checkpoint(
            tmp_path / "again", model=settings.base, records={"c9": 1}, parents=[taught]
        )
    told = broken_invariants(
        dataclasses.replace(settings, reward_model=taught, preference_dataset=pairs), ASKED, FINE
    )
    name, what = "reward model trained on its test", "2 of 4 records of its held-out pairs"
    assert told == ({} if learnt == "never" else {name: f"{what}, e.g. 'c1', 'c3'"})


def test_an_evaluation_prompt_inside_a_training_row_is_found(tmp_path: Path) -> None:
    settings = prepared(tmp_path, sft={}, policy={}, taught=f"please tell me {LONG} , thank you")
    told = broken_invariants(settings, ASKED, FINE)
    assert list(told) == ["test in the training text"]
    assert told["test in the training text"].startswith("1 of 1 prompts, e.g. 'what does the desk")


def test_another_tokenizer_or_template_is_found(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    settings = prepared(tmp_path, sft={}, policy={}, taught="say red")
    path = tmp_path / "policy" / "tokenizer.json"
    path.write_text(path.read_text().replace('"red"', '"swap"').replace('"green"', '"red"'))
    assert "tokens have another id" in broken_invariants(settings, ASKED, FINE)["other tokenizer"]

    again = prepared(tmp_path / "again", sft={}, policy={}, taught="say red")
    tokenizer = AutoTokenizer.from_pretrained(again.policy)
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    tokenizer.save_pretrained(again.policy)
    assert "chat template" in broken_invariants(again, ASKED, FINE)["other tokenizer"]


def test_weights_that_are_not_finite_or_not_those_of_the_manifest_are_found(tmp_path: Path) -> None:
    settings = prepared(tmp_path, sft={}, policy={}, taught="say red")
    lost = Answers([dataclasses.replace(FINE.responses[0], logprob=math.nan)], [1.0])
    assert "1 of 1 answers" in broken_invariants(settings, ASKED, lost)["not finite"]
    path = Path(settings.policy) / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    sound, broken = settings.sft, settings.policy
    for role in ("base", "sft", "policy", "champion"):
        others = dict.fromkeys(("base", "sft", "policy", "champion"), sound) | {role: broken}
        with pytest.raises(ManifestError, match=r"model\.safetensors is not what manifest\.json s"):
            verify_weights(dataclasses.replace(settings, **others))


def spoken(*texts: str) -> Answers:
    return Answers([Response(text, 3, True, -1.0) for text in texts], [1.0] * len(texts))


def test_personal_data_that_the_prompt_does_not_hold_is_found() -> None:
    prompts = ["", "i am ann@desk.co , card 4111 1111 1111 1111", "call me", "i am x@y.co"]
    answers = [
        "write to bob@desk.co or 4111-1111-1111-1111",
        "dear ANN@desk.co , your card is 4111111111111111",  # the prompt's, written otherwise
        "thank you .",
        "dear x@y.co , ask z@y.co",
    ]
    assert told_of_people(prompts, answers) == {
        0: ["bob@desk.co", "4111-1111-1111-1111"],
        3: ["z@y.co"],
    }


def test_a_challenger_that_tells_of_people_breaks_an_invariant(tmp_path: Path) -> None:
    settings = prepared(tmp_path, sft={}, policy={}, taught="say red")
    told = broken_invariants(settings, ASKED, spoken("ask bob@desk.co"))
    assert told == {
        "personal data": "1 of 1 answers tell what their prompt does not (email), to prompts "
        "e.g. 'k'"
    }
    often = dataclasses.replace(settings, most_personal_data_frac=0.5)
    three = [dataclasses.replace(ASKED[0], key=key) for key in "abc"]
    assert not broken_invariants(often, three, spoken("ask bob@desk.co", "x", "y"))
    assert broken_invariants(often, three, spoken("ask bob@desk.co", "b@desk.co", "y"))


def test_what_looks_for_personal_data_is_shown_to_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = prepared(tmp_path, sft={}, policy={}, taught="say red")
    monkeypatch.setattr("flywheel.evaluate.invariants.PLANTED", "nobody")
    with pytest.raises(EvaluationError, match="what looks for personal data is blind"):
        broken_invariants(settings, ASKED, FINE)


def ruled(tmp_path: Path, **rules: dict[str, Any]) -> EvaluateSettings:
    settings = prepared(tmp_path, sft={}, policy={}, taught="say red")
    write_rules(rules, tmp_path / "rules.json")
    return dataclasses.replace(settings, rules=str(tmp_path / "rules.json"))


def test_answers_that_break_a_rule_of_the_users_own_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "rules_of_a_test.py").write_text(
        "def polite(prompt, text): return 'hate' not in text and 'late' in prompt[0].content\n"
    )
    settings = ruled(
        tmp_path,
        doses={"forbid": r"\d+ mg", "example": "take 50 mg"},
        ends={"require": r"\.$", "example": "it is"},
        rare={"forbid": "rare", "example": "rare", "most_frac": 0.5},
        polite={
            "check": "rules_of_a_test:polite",
            "example": "i hate it",
            "example_prompt": "it came late",
        },
    )
    three = [dataclasses.replace(ASKED[0], key=key) for key in "abc"]
    assert not broken_invariants(settings, three, spoken("fine .", "it is rare .", "yes ."))
    told = broken_invariants(settings, three, spoken("5 mg .", "i hate it", "10 mg"))
    assert told == {
        "rule doses": "2 of 3 answers break it, to prompts e.g. 'a', 'c'",
        "rule ends": "2 of 3 answers break it, to prompts e.g. 'b', 'c'",
        "rule polite": "1 of 3 answers break it, to prompts e.g. 'b'",
    }


def test_a_rule_that_lets_its_example_pass_is_an_error(tmp_path: Path) -> None:
    settings = ruled(tmp_path, doses={"forbid": r"\d+ mcg", "example": "take 50 mg"})
    with pytest.raises(EvaluationError, match="the rule doses lets its own example pass"):
        broken_invariants(settings, ASKED, FINE)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"forbid": "a", "require": "b", "example": "a"}, "one of forbid, require and check"),
        ({"example": "a"}, "one of forbid, require and check"),
        ({"forbid": "(", "example": "a"}, "is no pattern"),
        ({"forbid": "a"}, "needs example"),
        ({"forbid": "a", "example": "a", "most_frac": 1.0}, "most_frac"),
        ("a", "has a table for each rule"),
    ],
)
def test_what_is_no_rule_is_refused(tmp_path: Path, rule: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        write_rules({"one": rule}, tmp_path / "rules.json")


def test_a_function_that_fails_is_an_error_and_no_clean_answer(tmp_path: Path) -> None:
    settings = ruled(tmp_path, fails={"check": "math:sqrt", "example": "a"})
    with pytest.raises(EvaluationError, match="math:sqrt failed: TypeError"):
        broken_invariants(settings, ASKED, FINE)
