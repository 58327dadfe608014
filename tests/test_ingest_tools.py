"""What becomes of exports of annotation tools: labels, and what looks like one and is none."""

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from flywheel.errors import RecordError
from flywheel.ingest import BatchManifest, land, quarantine_reasons, unaccounted, why_blocked
from flywheel.ingest.formats import named, recognise
from flywheel.ingest.formats.labels import Labels, mark, rubric_weight
from flywheel.lake import read_folder
from flywheel.layout import Layout
from flywheel.records import (
    Comparison,
    Critique,
    Demonstration,
    Ranking,
    Rating,
    RubricScore,
)
from flywheel.records.message import text_of

DATA = Path(__file__).parent.parent.parent / "shared" / "data"


def read(format: str, value: dict[str, Any]) -> Labels:
    assert recognise([value])[0] == format
    found = named(format).read(value)
    assert isinstance(found, Labels)
    return found


def landed(rows: list[dict[str, Any]], home: Path) -> tuple[BatchManifest, Layout]:
    home.mkdir(parents=True, exist_ok=True)
    (home / "rows.json").write_text(json.dumps(rows))
    (batch,) = land([home / "rows.json"], Layout(home), log=lambda _: None)
    assert batch.lines == batch.rows + batch.quarantined + batch.blanks
    assert not unaccounted(Layout(home))
    return batch, Layout(home)


# ---- Label Studio -----------------------------------------------------------------------------


def region(kind: str, value: Any, name: str = "cmp", about: str | None = None) -> dict[str, Any]:
    return {"id": "Dx", "from_name": name, "to_name": about or name, "type": kind, "value": value}


LEFT = region("pairwise", {"selected": "left"})
WHY = region("textarea", {"text": ["clearer", "shorter"]}, "why", "prompt")
TIE = region("choices", {"choices": ["tie"]}, "even", "prompt")
PAIR = {"prompt": "Cold in Oslo?", "left": "yes", "right": "no"}
ONE = {"prompt": "Cold in Oslo?", "response": "yes"}


def annotation(*regions: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": 1001,
        "completed_by": 10,
        "result": list(regions),
        "was_cancelled": False,
        "lead_time": 4.25,
        "created_at": "2026-05-01T10:00:00Z",
        "updated_at": "2026-05-01T12:00:00+01:00",
        "last_action": "submitted",
    } | more


def labelled(*annotations: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": 1, "project": 83, "data": PAIR, "annotations": list(annotations)} | more


def test_a_pairwise_choice_is_a_comparison_with_its_author_time_and_reason() -> None:
    (found,) = read("label_studio", labelled(annotation(LEFT, WHY)))
    assert isinstance(found, Comparison)
    assert (found.choice, found.reason) == ("a", "clearer\nshorter")
    assert (text_of(found.response_a), text_of(found.response_b)) == ("yes", "no")  # type: ignore[arg-type]
    assert (found.annotator_id, found.annotator_kind) == ("10@label_studio", "person")
    assert (found.id, found.seconds) == ("83/1/1001/choice", 4.25)
    assert found.occurred_at == datetime(2026, 5, 1, 11, tzinfo=UTC)


def test_a_choice_of_a_tie_beside_a_pair_is_a_tie_and_right_is_b() -> None:
    right = region("pairwise", {"selected": "right"})
    both = ((LEFT, TIE), "tie"), ((TIE, right), "tie")
    for regions, choice in (((TIE,), "tie"), *both, ((right,), "b")):
        (found,) = read("label_studio", labelled(annotation(*regions)))
        assert isinstance(found, Comparison) and found.choice == choice
    with pytest.raises(RecordError, match="both sides"):
        read("label_studio", labelled(annotation(LEFT, right)))


def test_cancelled_drafts_predictions_imports_and_empty_ones_are_counted_and_no_labels() -> None:
    found = read(
        "label_studio",
        labelled(
            annotation(LEFT, was_cancelled=True),
            annotation(LEFT, last_action="imported"),
            annotation(LEFT, last_action="propagated"),
            annotation(),
            annotation(LEFT, last_action="fixed_and_accepted"),
            annotation(LEFT, last_action=None, id=7),
            drafts=[annotation(LEFT)],
            predictions=[{"model_version": "m1", "result": [LEFT]}] * 2,
        ),
    )
    assert len(found) == 2
    assert found.skipped == {
        "cancelled": 1,
        "not_submitted": 2,
        "empty": 1,
        "draft": 1,
        "prediction": 2,
    }


def test_the_guess_of_a_model_that_a_person_let_stand_says_so() -> None:
    guess = {"id": 5, "result": [LEFT | {"id": "another"}]}
    for parent, said, unchanged in ((5, LEFT, True), (5, TIE, False), (6, LEFT, None)):
        one = annotation(said, parent_prediction=parent)
        (found,) = read("label_studio", labelled(one, predictions=[guess]))
        assert found.metadata["from_prediction"] == {"id": parent, "is_unchanged": unchanged}


@pytest.mark.parametrize(
    ("who", "author"),
    [
        (10, "10@label_studio"),
        ("10", "10@label_studio"),
        ({"id": 10, "email": "jo@desk.example", "first_name": "Jo"}, "10@label_studio"),
        ({"email": "jo@desk.example"}, "jo@desk.example"),
        (None, None),
    ],
)
def test_a_person_has_one_id_however_it_was_exported(who: Any, author: str | None) -> None:
    (found,) = read("label_studio", labelled(annotation(LEFT, completed_by=who)))
    assert found.annotator_id == author
    assert found.annotator_kind == ("person" if author else "unknown")


def test_an_ordered_list_is_a_ranking_and_items_of_one_bucket_are_tied() -> None:
    items = [{"id": f"i{n}", "title": f"t{n}", "body": f"text {n}"} for n in range(3)]
    data = {"prompt": "q", "items": items}
    for ranker, texts, ranks in (
        ({"cmp": ["i2", "i0", "i1"]}, ("text 2", "text 0", "text 1"), (1, 2, 3)),
        ({"best": ["i2"], "rest": ["i0", "i1"]}, ("text 2", "text 0", "text 1"), (1, 2, 2)),
        ({"_": ["i1"], "best": ["i2"], "none": [], "rest": ["i0"]}, ("text 2", "text 0"), (1, 2)),
    ):
        one = annotation(region("ranker", {"ranker": ranker}))
        (found,) = read("label_studio", labelled(one, data=data))
        assert isinstance(found, Ranking) and found.ranks == ranks and found.responses == texts
    for wrong in (["i2", "i2"], ["i2", "i9"]):
        one = annotation(region("ranker", {"ranker": {"cmp": wrong}}))
        with pytest.raises(RecordError, match="twice, or is none"):
            read("label_studio", labelled(one, data=data))


def test_a_rating_keeps_its_own_scale_and_is_refused_without_one() -> None:
    stars = annotation(region("rating", {"rating": 4}, "stars", "response"))
    number = annotation(region("number", {"number": 7}, "points", "response"))
    ten = ONE | {"rating_min": 1, "rating_max": 10}
    for one, data, ends in ((stars, ONE, (0, 5)), (stars, ten, (1, 10)), (number, ten, (1, 10))):
        (found,) = read("label_studio", labelled(one, data=data))
        assert isinstance(found, Rating) and (found.rating_min, found.rating_max) == ends
        assert found.rating in (4, 7)
    with pytest.raises(RecordError, match="give the row rating_min and rating_max"):
        read("label_studio", labelled(number, data=ONE))
    nine = annotation(region("rating", {"rating": 9}, "stars", "response"))
    with pytest.raises(RecordError, match="outside its scale"):
        read("label_studio", labelled(nine, data=ONE))


def test_the_time_of_an_annotation_is_shared_among_its_records() -> None:
    stars = [region("rating", {"rating": 4}, name, "response") for name in ("kind", "right")]
    found = read("label_studio", labelled(annotation(*stars), annotation(stars[0]), data=ONE))
    assert [one.seconds for one in found] == [2.125, 2.125, 4.25]
    turns = [
        region("chatmessage", {"chatmessage": {"role": role, "content": "x", "createdAt": at}})
        for at, role in enumerate(("user", "assistant", "user", "assistant"))
    ]
    found = read("label_studio", labelled(annotation(*turns), annotation(LEFT, lead_time=None)))
    assert [one.seconds for one in found] == [2.125, 2.125, None]


def test_text_is_a_critique_a_correction_or_both_and_edits_are_told_by_their_name() -> None:
    why = region("textarea", {"text": ["too short"]}, "why", "response")
    better = region("textarea", {"text": ["yes, -5"]}, "corrected", "response")
    (critique,) = read("label_studio", labelled(annotation(why), data=ONE))
    assert isinstance(critique, Critique) and critique.critique == "too short"
    assert critique.corrected_response is None
    (both,) = read("label_studio", labelled(annotation(why, better), data=ONE))
    assert isinstance(both, Critique) and text_of(both.corrected_response) == "yes, -5"  # type: ignore[arg-type]
    (alone,) = read("label_studio", labelled(annotation(better), data=ONE))
    assert isinstance(alone, Demonstration) and text_of(alone.response) == "yes, -5"  # type: ignore[arg-type]


def test_a_yes_or_no_is_a_rubric_score_and_a_yes_to_a_fault_is_no_praise() -> None:
    for name, word, score, weight in (
        ("helpful", "Yes", 1, 1),
        ("helpful", "no", 0, 1),
        ("is_toxic", "yes", 1, 0),
        ("harmless", "yes", 1, 1),
    ):
        one = annotation(region("choices", {"choices": [word]}, name, "response"))
        (found,) = read("label_studio", labelled(one, data=ONE))
        assert isinstance(found, RubricScore) and found.criterion == name
        assert (found.score, found.weight) == (score, weight)
    assert [mark(word) for word in ("1", "0", "perhaps", 1, None)] == [None] * 5
    assert rubric_weight("hate_speech") == rubric_weight("not-appropriate") == 0


def test_what_is_said_of_the_prompt_is_no_judgement_of_the_response() -> None:
    stars = region("rating", {"rating": 4}, "difficulty", "prompt")
    clear = region("choices", {"choices": ["yes"]}, "clear", "prompt")
    good = region("choices", {"choices": ["yes"]}, "good", "response")
    (found,) = read("label_studio", labelled(annotation(stars, clear, good), data=ONE))
    assert isinstance(found, RubricScore) and found.criterion == "good"
    assert set(found.metadata["answers"]) == {"difficulty", "clear"}
    (found,) = read("label_studio", labelled(annotation(LEFT, stars, clear)))
    assert isinstance(found, Comparison) and found.reason is None
    of_right = region("rating", {"rating": 2}, "stars", "right")
    (rating, _) = read("label_studio", labelled(annotation(LEFT, of_right)))
    assert isinstance(rating, Rating) and text_of(rating.response) == "no"  # type: ignore[arg-type]


def test_answers_without_a_kind_stay_beside_those_with_one_and_are_refused_alone() -> None:
    topic = region("taxonomy", {"taxonomy": [["weather", "cold"]]}, "topic", "prompt")
    several = region("choices", {"choices": ["yes", "no"]}, "flags", "prompt")
    (found,) = read("label_studio", labelled(annotation(LEFT, topic, several)))
    assert set(found.metadata["answers"]) == {"topic", "flags"}
    with pytest.raises(RecordError, match="no kind of record can hold"):
        read("label_studio", labelled(annotation(topic)))


def test_a_chat_is_a_conversation_in_the_order_of_its_times() -> None:
    def message(role: str, content: str, moment: int) -> dict[str, Any]:
        said = {"role": role, "content": content, "createdAt": moment}
        return region("chatmessage", {"chatmessage": said}, "chat")

    one = annotation(message("assistant", "hi", 2), message("user", "hello", 1))
    (found,) = read("label_studio", labelled(one, data={"topic": "weather"}))
    assert isinstance(found, Demonstration) and text_of(found.conversation) == "hello"


def test_json_min_and_a_task_without_a_prompt_are_refused_with_a_remedy() -> None:
    flat = {"id": 1, "prompt": "q", "annotator": 10, "annotation_id": 5, "lead_time": 2.0}
    assert recognise([flat])[0] == "label_studio"
    with pytest.raises(RecordError, match="export as JSON"):
        named("label_studio").read(flat)
    with pytest.raises(RecordError, match="call it one of prompt"):
        read("label_studio", labelled(annotation(LEFT), data={"left": "a", "right": "b"}))
    with pytest.raises(RecordError, match="left and right"):
        read("label_studio", labelled(annotation(LEFT), data=ONE))


def test_tasks_without_a_label_block_nothing_and_are_kept_and_counted(tmp_path: Path) -> None:
    waiting = [labelled(id=n) for n in range(6)]
    skipped = [labelled(annotation(LEFT, was_cancelled=True), id=9, drafts=[annotation(LEFT)])]
    batch, layout = landed([labelled(annotation(LEFT)), *waiting, *skipped], tmp_path)
    assert (batch.lines, batch.rows, batch.quarantined, batch.set_aside) == (8, 1, 7, 7)
    assert not batch.blocked and batch.skipped == {"cancelled": 1, "draft": 1}
    assert quarantine_reasons(layout) == {"no_label": 7}
    reasons = Counter(read_folder(layout.quarantine)["reason"].to_pylist())
    assert reasons == {
        "it holds no label: nobody gave one": 6,
        "it holds no label: 1 cancelled, 1 draft": 1,
    }


def test_faulty_tasks_block_a_file_however_many_tasks_wait(tmp_path: Path) -> None:
    waiting = [labelled(id=n) for n in range(90)]
    faulty = [labelled(annotation(LEFT), data=ONE, id=100 + n) for n in range(3)]
    batch, layout = landed([*waiting, *faulty, labelled(annotation(LEFT))], tmp_path)
    assert batch.blocked and batch.rows_by_kind == {}
    assert batch.blocked_because == "3 of 4 lines were quarantined, more than the limit"
    reason = "the two sides are not found in the data; call them left and right"
    told = f"{batch.blocked_because}; most often (3 of them): {reason}"
    assert why_blocked(batch, layout) == told


def test_no_address_name_or_id_of_a_person_is_in_the_lake(tmp_path: Path) -> None:
    number = 471_100_471_100  # longer than any run of digits that a hash holds by chance
    who = {"id": number, "email": "jo@desk.example", "first_name": "Jolanthe"}
    _, layout = landed(
        [
            labelled(annotation(LEFT, completed_by=who)),
            labelled(annotation(LEFT, completed_by={"email": "jo@desk.example"}), id=2),
            labelled(annotation(LEFT, completed_by=number, id=9), id=3),
        ],
        tmp_path,
    )
    table = read_folder(layout.landing("comparison"))
    said = json.dumps(table.to_pylist(), default=str)
    assert not any(secret in said for secret in (str(number), "desk.example", "Jolanthe"))
    authors = table["annotator_id"].to_pylist()
    assert authors[0] == authors[2] != authors[1] and authors[0].startswith("p_")


# ---- Argilla ----------------------------------------------------------------------------------


def flat(question: str, answers: Any, status: list[str] | None = None, **more: Any) -> Any:
    count = len(answers)
    return {
        "id": "r1",
        "_server_id": "s1",
        "prompt": "Cold in Oslo?",
        "a": "yes",
        "b": "no",
        f"{question}.responses": answers,
        f"{question}.responses.users": [f"u{n}" for n in range(count)],
        f"{question}.responses.status": status or ["submitted"] * count,
    } | more


def test_only_what_was_submitted_to_argilla_is_a_label() -> None:
    found = read(
        "argilla",
        flat(
            "preference",
            ["a", "b", "tie", "a"],
            ["submitted", "draft", "submitted", "discarded"],
            **{"preference.suggestion": "a", "preference.suggestion.agent": "judge-1"},
        ),
    )
    assert [one.choice for one in found if isinstance(one, Comparison)] == ["a", "tie"]
    assert [one.annotator_id for one in found] == ["u0@argilla", "u2@argilla"]
    assert found.skipped == {"draft": 1, "discarded": 1, "prediction": 1}


def test_each_question_of_argilla_becomes_its_kind() -> None:
    ranks = [{"value": "b", "rank": 1}, {"value": "a", "rank": 2}]
    (ranking,) = read("argilla", flat("order", [ranks]))
    assert isinstance(ranking, Ranking) and ranking.ranks == (1, 2)
    assert [text_of(one) for one in ranking.responses] == ["no", "yes"]  # type: ignore[arg-type]
    single = {"a": None, "b": None, "response": "yes"}
    (rating,) = read("argilla", flat("stars", [4], **single, rating_min=1, rating_max=7))
    assert isinstance(rating, Rating) and (rating.rating, rating.rating_max) == (4, 7)
    (score,) = read("argilla", flat("helpful", ["yes"], **single))
    assert isinstance(score, RubricScore) and score.score == 1
    (critique,) = read("argilla", flat("comment", ["too short"], **single))
    assert isinstance(critique, Critique)
    (correction,) = read("argilla", flat("correction", ["yes, -5"], **single))
    assert isinstance(correction, Demonstration)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (flat("p", ["a", "b"], ["submitted"]), "lists of one length"),
        (flat("p", ["a"], **{"p.responses.users": None}), "lists of one length"),
        (flat("stars", [4], a=None, b=None, response="yes"), "rating_min and rating_max"),
        (flat("labels", [["x", "y"]]), "no kind of record"),
        (flat("spans", [[{"start": 0, "end": 2, "label": "x"}]]), "no kind of record"),
        (
            {"fields": {"prompt": "q"}, "responses": {"p": [{"value": "a", "user_id": "u"}]}},
            "do not tell drafts from labels",
        ),
    ],
)
def test_what_argilla_does_not_tell_is_refused(value: dict[str, Any], reason: str) -> None:
    assert recognise([value])[0] == "argilla"
    with pytest.raises(RecordError, match=reason):
        named("argilla").read(value)


def test_an_answer_of_no_kind_stays_beside_what_its_author_said_and_takes_no_other(
    tmp_path: Path,
) -> None:
    both = flat("better", ["a", "b"]) | flat("issues", [["toxic", "rude"], [], ["rude"]])
    both |= {"how.responses": ["badly"], "how.responses.users": ["u1"]}
    both |= {"how.responses.status": ["submitted"]}
    found = read("argilla", both)
    assert [one.choice for one in found if isinstance(one, Comparison)] == ["a", "b"]
    mine, others = (one.metadata for one in found)
    assert mine == {"question": "better", "answers": {"issues": ["toxic", "rude"]}}
    assert others["answers"] == {"issues": [], "how": "badly"}
    assert found.skipped == {"without_kind": 4}
    batch, _ = landed([both] * 9, tmp_path)
    assert (batch.rows, batch.skipped) == (9, {"without_kind": 36})


def test_questions_that_nobody_answered_are_no_label(tmp_path: Path) -> None:
    nobody = flat("p", ["a"]) | {"p.responses": None, "p.responses.users": None}
    batch, _ = landed([flat("p", ["a"]), nobody | {"p.responses.status": None}] * 2, tmp_path)
    assert (batch.rows, batch.set_aside, batch.blocked) == (2, 2, False)


# ---- MLflow -----------------------------------------------------------------------------------


def assessed(kind: str = "HUMAN", **told: Any) -> dict[str, Any]:
    return {
        "assessment_id": "a1",
        "assessment_name": "helpful",
        "trace_id": "tr1",
        "source": {"source_type": kind, "source_id": "u_4f2c"},
        "create_time": "2026-05-01T10:00:00Z",
        "last_update_time": "2026-05-02T10:00:00Z",
        "metadata": {"rubric_version": "3"},
    } | told


ASKED = {"request": "Cold in Oslo?", "response": "yes"}


def test_feedback_of_people_models_and_programs_is_kept_apart() -> None:
    kinds = (
        ("HUMAN", "person", "u_4f2c@mlflow"),
        ("LLM_JUDGE", "model", "u_4f2c"),
        ("CODE", "program", "u_4f2c"),
        ("OTHER", "unknown", "u_4f2c@mlflow"),
    )
    for told, kind, author in kinds:
        (found,) = read("mlflow", assessed(told, feedback={"value": "yes"}, **ASKED))
        assert isinstance(found, RubricScore) and (found.score, found.criterion) == (1, "helpful")
        assert (found.annotator_kind, found.annotator_id) == (kind, author)
        assert found.guideline_version == "3"
        assert found.occurred_at == datetime(2026, 5, 2, 10, tzinfo=UTC)


def test_a_trace_yields_all_its_assessments_and_an_error_is_no_zero() -> None:
    scaled = {"rating_min": "1", "rating_max": "5"}
    found = read(
        "mlflow",
        {
            "trace_id": "tr1",
            "request": json.dumps({"messages": [{"role": "user", "content": "Cold in Oslo?"}]}),
            "response": "yes",
            "assessments": [
                assessed(feedback={"value": 4}, metadata=scaled, rationale="nearly"),
                assessed(feedback={"value": None, "error": {"error_code": "timeout"}}),
                assessed(feedback={"value": False}, valid=False),
                assessed(feedback=None, expectation={"value": "yes, -5"}),
            ],
        },
    )
    rating, critique, better = found
    assert isinstance(rating, Rating) and (rating.rating, rating.rating_max) == (4, 5)
    assert text_of(rating.conversation) == "Cold in Oslo?"
    assert isinstance(critique, Critique) and critique.critique == "nearly"
    assert isinstance(better, Demonstration) and text_of(better.response) == "yes, -5"  # type: ignore[arg-type]
    assert found.skipped == {"failed": 1, "superseded": 1}


def test_facts_and_words_take_no_other_assessment_of_their_trace() -> None:
    facts = assessed(expectation={"value": ["one", "two"]}, assessment_name="expected_facts")
    tone = assessed("LLM_JUDGE", feedback={"value": "friendly"}, assessment_name="tone")
    trace = {"trace_id": "tr1", **ASKED}
    found = read(
        "mlflow", trace | {"assessments": [facts, tone, assessed(feedback={"value": True})]}
    )
    (score,) = found
    assert isinstance(score, RubricScore)
    assert score.metadata["answers"] == {"expected_facts": ["one", "two"]}
    assert found.skipped == {"without_kind": 2}
    with pytest.raises(RecordError, match="must be text"):
        read("mlflow", trace | {"assessments": [facts, tone]})


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (assessed(feedback={"value": True}), "does not say what was judged"),
        (assessed(feedback={"value": 4}, **ASKED), "rating_min and rating_max"),
        (assessed(feedback={"value": ["x"]}, **ASKED), "must be a number"),
        (assessed(**ASKED), "feedback or an expectation"),
        (assessed(feedback={"value": 1}, expectation={"value": "x"}, **ASKED), "one of them"),
        (assessed(expectation={"value": {"facts": []}}, **ASKED), "must be text"),
    ],
)
def test_what_an_assessment_does_not_tell_is_refused(value: dict[str, Any], reason: str) -> None:
    assert recognise([value])[0] == "mlflow"
    with pytest.raises(RecordError, match=reason):
        named("mlflow").read(value)


# ---- OASST ------------------------------------------------------------------------------------


def node(id: str, text: str, *replies: dict[str, Any], **more: Any) -> dict[str, Any]:
    role = "prompter" if id.startswith("p") else "assistant"
    return {"message_id": id, "role": role, "text": text, "replies": list(replies)} | more


def tree(*replies: dict[str, Any], **more: Any) -> Labels:
    root = node("p0", "q", *replies, **more)
    found = read("oasst", {"message_tree_id": "t1", "tree_state": "x", "prompt": root})
    bare = named("oasst").read(root)
    assert [text_of(one.conversation) for one in bare] == [text_of(o.conversation) for o in found]
    return found


def test_ranked_siblings_are_a_ranking_and_one_without_a_rank_is_not_the_worst() -> None:
    ranking, demonstration = tree(
        node("a1", "second", rank=1), node("a2", "first", rank=0), node("a3", "unranked")
    )
    assert isinstance(ranking, Ranking) and ranking.annotator_id is None
    assert (ranking.responses, ranking.ranks) == (("second", "first"), (2, 1))
    assert ranking.annotator_kind == "unknown" and ranking.group == "oasst t1"
    assert isinstance(demonstration, Demonstration)
    assert demonstration.response == "first"


def test_the_votes_behind_a_rank_are_taken_instead_of_it() -> None:
    votes = [
        {"type": "ranking", "user_id": "u1", "ranking": [1, 0], "ranked_message_ids": ["a2", "a1"]},
        {"type": "ranking", "user_id": "u2", "ranking": [0, 1], "ranked_message_ids": ["a1", "a2"]},
        {"type": "ranking", "user_id": "u3", "not_rankable": True}
        | {"ranked_message_ids": ["a1", "a2"]},
    ]
    found = tree(node("a1", "one", rank=0), node("a2", "two", rank=1), events={"ranking": votes})
    rankings = [one for one in found if isinstance(one, Ranking)]
    assert [(one.annotator_id, one.responses) for one in rankings] == [
        ("u1@oasst", ("two", "one")),
        ("u2@oasst", ("one", "two")),
    ]


def test_only_the_best_path_is_imitated_and_nothing_deleted_machine_made_or_refused() -> None:
    found = tree(
        node("a1", "best", node("p1", "and?", node("a3", "only")), rank=0),
        node("a2", "worse", node("p2", "and?", node("a4", "below worse")), rank=1),
        node("a5", "gone", rank=0, deleted=True),
    )
    told = [one for one in found if isinstance(one, Demonstration)]
    assert [one.response for one in told] == ["best", "only"]
    assert text_of(told[1].conversation) == "q\nbest\nand?"
    for fault in ({"synthetic": True}, {"review_result": False}, {"deleted": True}):
        assert not [one for one in tree(node("a1", "x", **fault)) if isinstance(one, Demonstration)]


def test_labels_of_many_are_scores_and_faults_among_them_weigh_nothing() -> None:
    labels = {"quality": {"value": 0.75, "count": 4}, "toxicity": {"value": 0.5, "count": 2}}
    found = [one for one in tree(node("a1", "x", labels=labels)) if isinstance(one, RubricScore)]
    assert [(one.criterion, one.score, one.weight) for one in found] == [
        ("quality", 0.75, 1),
        ("toxicity", 0.5, 0),
    ]
    assert found[0].metadata == {"votes": 4}


def test_a_tree_of_nothing_but_a_prompt_holds_no_label() -> None:
    assert tree() == [] and tree().skipped == {"unranked": 1}


@pytest.mark.parametrize("name", ["en_100_tree.jsonl", "en_100_message.jsonl"])
def test_the_real_trees_hold_212_ranked_groups_and_754_pairs(name: str, tmp_path: Path) -> None:
    path = DATA / "open_assistant" / name
    if not path.exists():
        pytest.skip(f"{path} is not there: the shared data lie beside a checkout of the project")
    (batch,) = land([path], Layout(tmp_path), log=lambda _: None)
    assert (batch.format, batch.rows, batch.quarantined) == ("oasst", 100, 0)
    ranks = read_folder(Layout(tmp_path).landing("ranking"))["ranks"].to_pylist()
    assert len(ranks) == 212 and sum(map(len, ranks)) == 641
    assert sum(len(one) * (len(one) - 1) // 2 for one in ranks) == 754


def test_the_two_real_files_of_the_same_trees_say_the_same_once(tmp_path: Path) -> None:
    folder = DATA / "open_assistant"
    if not folder.exists():
        pytest.skip(f"{folder} is not there: the shared data lie beside a checkout of the project")
    paths = [folder / f"en_100_{name}.jsonl" for name in ("tree", "message")]
    first, again = land(paths, Layout(tmp_path), log=lambda _: None)
    assert first.rows_by_kind == again.rows_by_kind == first.new_rows_by_kind
    assert set(again.new_rows_by_kind.values()) == {0}
