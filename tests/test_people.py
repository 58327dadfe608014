"""People compare answers of an evaluation: asked blind, matched by words, and nothing trains."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flywheel.collect.pairs import ask_people, queue_of
from flywheel.dedup import mark
from flywheel.errors import EvaluationError
from flywheel.evaluate.graders.graders import Asked
from flywheel.evaluate.graders.others import compared_by_others
from flywheel.evaluate.graders.people import judged_by_people, votes_of
from flywheel.evaluate.settings import EvaluateSettings
from flywheel.evaluate.versus import Answers, compare
from flywheel.layout import Layout
from flywheel.promotion import GateSettings, decide
from flywheel.records.message import dump, prompt_of, response_of
from flywheel.rollout import Response
from flywheel.warehouse import publish_read_copy, read_table
from tests.models_for_tests import freeze
from tests.small_lake import dbt, key, row, write_lake
from tests.test_gate import result
from tests.test_judge import settings_of

COUNT = 60


def evaluated(layout: Layout, *, people: int = 0, champion: bool = True) -> None:
    """What an evaluation leaves behind: answers of all policies to its prompts, some alike."""
    prompts = [
        {
            "prompt": dump(prompt_of(f"question {at}")),
            "prompt_key": f"key{at}",
            "grader": "people" if at >= COUNT - people else "exact",
        }
        for at in range(COUNT)
    ]
    freeze(layout.dataset("evaluation", "g0002"), test=prompts)
    names = ["base", "sft", "policy", *(["champion"] if champion else [])]
    rows = [
        {
            "prompt_key": f"key{at}",
            "policy": name,
            "greedy": greedy,
            "response": "the same" if at < 3 else f"{name} says {at}",
        }
        for at in range(COUNT)
        for name in names
        for greedy in (False, True)
        if not (greedy and name == "champion")
    ]
    path = layout.evaluation("g0002") / "samples.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def asked_lines(layout: Layout, **options: Any) -> list[dict[str, Any]]:
    facts = ask_people(layout, "g0002", **options)
    assert Path(facts["queue"]) == queue_of(layout, "g0002")
    lines = [json.loads(line) for line in Path(facts["queue"]).read_text().splitlines()]
    assert len(lines) == facts["lines"] and facts["alike"] == 3
    return lines


def test_people_are_asked_blind_and_in_random_order(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    evaluated(layout)
    lines = asked_lines(layout, pairs=100)
    assert len(lines) == COUNT - 3  # what both answered alike needs nobody
    assert all(set(line) == {"queue_id", "prompt", "responses", "reason"} for line in lines)
    first = Counter(line["responses"][0].split()[0] for line in lines)
    assert set(first) == {"policy", "champion"} and min(first.values()) > 15
    for line in lines:
        number = line["prompt"][0]["content"].split()[1]
        assert sorted(line["responses"]) == [f"champion says {number}", f"policy says {number}"]


def test_asked_for_more_the_first_are_the_same_and_people_come_first(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    evaluated(layout, people=5, champion=False)
    few, many = asked_lines(layout, pairs=10), asked_lines(layout, pairs=20)
    assert many[:10] == few and len(many) == 20
    numbers = {int(line["prompt"][0]["content"].split()[1]) for line in few[:5]}
    assert numbers == set(range(COUNT - 5, COUNT))
    assert asked_lines(layout, pairs=10, seed=1) != few
    assert {text.split()[0] for line in few for text in line["responses"]} == {"policy", "base"}


def test_a_generation_that_was_not_evaluated_asks_nobody(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="g0002 was not evaluated"):
        ask_people(Layout(tmp_path), "g0002")


def vote(number: int, at: int, a: str, b: str, said: float, who: str = "ann") -> dict[str, Any]:
    return {
        "judgement_id": f"j{number}",
        "prompt_key": f"k{at}",
        "response_a": dump(response_of(a)),
        "response_b": dump(response_of(b)),
        "vote": said,
        "voter": who,
        "annotator_kind": "person",
        "cost_usd": 0.5,
    }


def answers_of(name: str, count: int, *, score: float = 0.0) -> Answers:
    texts = [f"{name} {at}" for at in range(count)]
    return Answers([Response(text, 2, True, -1.0) for text in texts], [score] * count)


def asked_of(count: int, grader: str = "people") -> list[Asked]:
    return [Asked(f"k{at}", f"g{at}", prompt_of("q"), grader, "x", "") for at in range(count)]


def test_votes_count_for_who_said_these_words_whatever_the_order() -> None:
    votes = votes_of(
        [
            vote(1, 0, "mine 0", "base 0", 1.0),
            vote(2, 1, "base 1", "mine 1", 1.0),
            vote(3, 2, "mine 2", "base 2", 1.0),
            vote(4, 2, "base 2", "mine 2", 0.5, "bob"),
            vote(5, 3, "mine 3", "an older answer", 1.0),  # not of these two
            vote(6, 9, "mine 0", "base 0", 1.0),  # not of this prompt
        ]
    )
    mine, base = answers_of("mine", 5), answers_of("base", 5)
    found, told = judged_by_people(votes, mine, base, asked_of(5), settings_of())
    assert found == [1.0, 0.0, 0.75, None, None] and told
    assert told["win_rate"] == pytest.approx(1.75 / 3) and told["prompts"] == 3
    assert told["judgements"] == 4 and told["annotators"] == 2 and told["cost_usd"] == 2.0
    assert told["waiting"] == 2
    assert told["outcomes"] == [1.0, 0.0, 0.75]
    assert judged_by_people(votes_of([]), mine, base, asked_of(5), settings_of())[1] is None


def test_people_are_persons_and_counted_where_they_have_a_name() -> None:
    rows = [vote(at, at, f"mine {at}", f"base {at}", 1.0) for at in range(5)]
    for at, kind in ((3, "program"), (4, "unknown")):
        rows[at]["annotator_kind"] = kind
    rows[1]["voter"] = rows[2]["voter"] = None
    mine, base = answers_of("mine", 5), answers_of("base", 5)
    found, told = judged_by_people(votes_of(rows), mine, base, asked_of(5), settings_of())
    assert found == [1.0, 1.0, 1.0, None, None] and told
    assert (told["judgements"], told["annotators"], told["waiting"]) == (3, 1, 2)


def test_answers_alike_are_a_tie_that_nobody_is_asked_about() -> None:
    mine, base = answers_of("mine", 5), answers_of("base", 5)
    base.responses[3:] = mine.responses[3:]
    votes = votes_of([vote(at, at, f"mine {at}", f"base {at}", 1.0) for at in range(2)])
    found, told = judged_by_people(votes, mine, base, asked_of(5), settings_of())
    assert found == [1.0, 1.0, None, 0.5, 0.5] and told
    assert told["win_rate"] == 0.75 and told["prompts"] == 4 and told["waiting"] == 1
    graded, told = judged_by_people(votes, mine, base, asked_of(5, "exact"), settings_of())
    assert graded == [1.0, 1.0, None, None, None] and told and told["win_rate"] == 1.0
    silent, told = judged_by_people(votes_of([]), mine, base, asked_of(5), settings_of())
    assert silent == [None] * 3 + [0.5] * 2 and told is None


def test_the_grader_is_held_against_people() -> None:
    votes = votes_of([vote(at, at, f"mine {at}", f"base {at}", float(at < 3)) for at in range(4)])
    mine, base = answers_of("mine", 4, score=1.0), answers_of("base", 4)
    _, told = judged_by_people(votes, mine, base, asked_of(4, "exact"), settings_of())
    assert told and told["grader_agrees"]["agreement"] == 0.75
    assert told["grader_agrees"]["prompts"] == 4


def outcome(
    folder: Path, rows: list[dict[str, Any]], count: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    path = folder / "judgements.parquet"
    schema = pa.Table.from_pylist([vote(0, 0, "a", "b", 1.0)]).schema
    pq.write_table(pa.Table.from_pylist(rows, schema), path)
    settings: EvaluateSettings = settings_of(judgements=str(path))
    answers = {name: answers_of(name, count) for name in ("policy", "base", "sft")}
    asked = asked_of(count)
    answers, others = compared_by_others(answers, asked, pa.table({}), settings)
    return compare(answers, asked, settings), others


def test_prompts_left_to_people_are_decided_by_them_or_not_at_all(tmp_path: Path) -> None:
    policy, others = outcome(tmp_path, [], 40)
    assert policy["groups"] == 0 and others["people"] == {}
    (reason,) = others["no_say"]
    assert reason.startswith("40 prompts are left to people, who have judged none")
    rows = [vote(at, at, f"policy {at}", f"base {at}", float(at < 30)) for at in range(40)]
    policy, others = outcome(tmp_path, rows, 50)
    assert policy["win_rate"] == 0.75 and policy["groups"] == policy["prompts"] == 40
    assert others["no_say"] == [] and others["people"]["base"]["waiting"] == 10
    assert policy["versus"]["sft"]["outcomes"] == [] and not policy["judged_by_model"]


def test_the_gate_rejects_what_people_prefer_less_and_holds_without_a_word() -> None:
    fine = result()
    assert decide(fine, GateSettings()).decision == "PROMOTE"
    told = {"outcomes": [0.0] * 80 + [1.0] * 20, "prompts": 100, "annotators": 4}
    found = decide(fine | {"people": {"champion": told}}, GateSettings())
    assert found.decision == "REJECT" and "4 people prefer champion" in found.reasons[0]
    unnamed = decide(fine | {"people": {"champion": told | {"annotators": 0}}}, GateSettings())
    assert unnamed.reasons[0].startswith("unnamed people prefer champion")
    few = told | {"outcomes": [0.0] * 29}
    assert decide(fine | {"people": {"champion": few}}, GateSettings()).decision == "PROMOTE"
    held = decide(fine | {"no_say": ["judge x has no say"]}, GateSettings())
    assert held.decision == "HOLD" and held.reasons == ["judge x has no say"]


def test_what_people_say_of_a_test_reaches_the_evaluation_and_no_training_mart(
    tmp_path: Path,
) -> None:
    asked, other = "what becomes of a sealed bike that came too late ?", "how are you today ?"
    pair = {"response_a": "good", "response_b": "bad", "choice": "a"}
    rows = [
        row("evaluation_prompt", "e1", prompt=asked, evaluation_set="desk", grader="people"),
        row("comparison", "c1", prompt=asked, annotator_id="ann", **pair),
        row("comparison", "c2", prompt=asked, annotator_id="bob", **pair | {"choice": "tie"}),
        row("comparison", "c3", prompt=other, annotator_id="ann", **pair),
    ]
    layout = write_lake(tmp_path, rows)
    dbt(layout, "run", "--exclude", "tag:after_dedup")
    publish_read_copy(layout.warehouse, layout.warehouse_copy)
    mark(layout.warehouse_copy, layout, log=lambda _: None)
    dbt(layout, "run", "--select", "tag:after_dedup")
    publish_read_copy(layout.warehouse, layout.warehouse_copy)
    votes = read_table(layout.warehouse_copy, "marts.fct_evaluation_judgements").to_pylist()
    assert {one["record_uid"] for one in votes} == {"c1", "c2"}
    assert {one["prompt_key"] for one in votes} == {key(asked)}
    trained = read_table(layout.warehouse_copy, "marts.fct_preferences")
    assert trained["record_uids"].to_pylist() == [["c3"]]
    left = read_table(layout.warehouse_copy, "marts.fct_excluded").to_pylist()
    assert {(one["record_uid"], one["status"]) for one in left} == {
        ("c1", "contaminated"),
        ("c2", "contaminated"),
    }
    found = votes_of(votes)[key(asked), "good", "bad"]
    assert sorted(one for one, _ in found) == [0.5, 1.0]
