import base64
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from assets.labels import label_quality
from assets.quality import label_weights
from assets.resources import Home
from flywheel.dedup import mark
from flywheel.labels import weigh_labels
from flywheel.layout import Layout
from flywheel.privacy import Policy, screen_texts
from flywheel.records.message import Message, dump, prompt_of, text_of
from flywheel.warehouse import (
    freeze,
    groups_in_two_splits,
    newest_batch_number,
    open_texts_to_screen,
    publish_read_copy,
    read_table,
)
from tests.small_lake import PROJECT, dbt, key, row, write_lake

ASKED = "please tell me in a few plain words why the old lamp on my desk went dark"
NOON = datetime(2026, 1, 1, 12)
TOOLS = [{"name": "f", "parameters": {"of": 1.0}}]
ARMED: dict[str, Any] = {"metadata": json.dumps({"tools": TOOLS})}
WEIGHED = ("pair_posteriors", "annotator_reliability", "label_agreement")
LONG = "the lamp went dark because the wire in its foot broke when the desk was moved"


def judged(uid: str, who: str, choice: str, **more: Any) -> Mapping[str, Any]:
    sides = {"response_a": "good", "response_b": "bad"} | more
    return row("comparison", uid, prompt="which ?", choice=choice, annotator_id=who, **sides)


def stepped(uid: str, who: str | None, rating: float, **more: Any) -> Mapping[str, Any]:
    scale = {"rating": rating, "rating_min": -1, "rating_max": 1, "step_count": 1}
    return row(
        "step_rating", uid, annotator_id=who, **{"prompt": "do", "steps": "done"} | scale | more
    )


def again(uid: str, delivered: Mapping[str, Any], batch_id: str = "b000001-x") -> dict[str, Any]:
    """The same event as another row."""
    return {**delivered, "record_uid": uid, "batch_id": batch_id}


ROWS = [
    row("demonstration", "d1", prompt="why ?", response=LONG, annotator_id="ann", cost_usd=2.0),
    row("demonstration", "d2", prompt="why ?", response=LONG, annotator_id="bob"),
    row("demonstration", "d3", prompt="why ?", response=f"{LONG} again", annotator_id="bob"),
    row("demonstration", "d4", prompt=f"{ASKED} now", response="no idea"),
    row("demonstration", "d5", prompt="how ?", response="so", group_hint="lamps"),
    again("d6", row("demonstration", "d5", prompt="how ?", response="so", group_hint="lamps")),
    row("evaluation_prompt", "e1", prompt=ASKED, evaluation_set="desk-v1", grader="g") | ARMED,
    row("evaluation_prompt", "e2", prompt=ASKED, evaluation_set="desk-v1", grader="g"),
    judged("c1", "ann", "a", model_a="m1", occurred_at=NOON, cost_usd=1.0, **ARMED),
    judged("c2", "bob", "b", response_a="bad", response_b="good", model_b="m1", reason="<b>so</b>"),
    judged("c3", "cem", "b"),
    judged("c4", "cem", "b"),
    judged("c5", "ann", "a", response_b="good"),
    row("comparison", "c6", prompt=ASKED, response_a="x", response_b="y", choice="a"),
    row(
        "ranking",
        "k1",
        prompt="which ?",
        responses=["good", "fair", "bad"],
        ranks=[1, 1, 2],
        models=["m1", "m2", "m3"],
        annotator_id="dee",
        cost_usd=3.0,
    ),
    row(
        "critique",
        "q1",
        prompt="how ?",
        response="thus",
        critique="vague",
        corrected_response="thus and so",
        annotator_id="eve",
        **ARMED,
    ),
    row("critique", "q2", prompt="how ?", response="thus", critique="vague"),
    row("interaction", "i1", prompt="when ?", response="soon", model="m1", thumbs="down"),
    row("interaction", "i2", prompt="when ?", response="later", edited_response="at nine"),
    row("interaction", "i3", prompt="when ?", response="never"),
    row("rating", "r1", prompt="how ?", response="so", rating=4, rating_min=1, rating_max=5),
    row("rubric_score", "s1", prompt="how ?", response="so", criterion="brief", score=1, weight=2)
    | ARMED,
    row("trajectory", "t1", prompt="do", steps="done", outcome="passed", task_id="x", trial=1)
    | ARMED,
    row("trajectory", "t2", prompt="do", steps="done", outcome="passed", task_id="x", trial=1),
    row("trajectory", "t3", prompt="do it", steps="did", outcome="failed", task_id="x", trial=2),
    stepped("p1", "ann", 1, occurred_at=NOON),
    stepped("p2", "ann", -1, occurred_at=datetime(2026, 1, 2), **ARMED),
    stepped("p3", "bob", 1, cost_usd=0.5),
    stepped("p4", "bob", 1, cost_usd=0.5),
    stepped("p5", None, 0),
    stepped("p6", "ann", 0, prompt=ASKED),
]
TOLD = (("good", "bad"), ("thus and so", "thus"))  # pairs whose first vote tells of tools
MARTS = (
    "demonstrations",
    "preferences",
    "ratings",
    "trajectories",
    "step_ratings",
)  # that are trained on
PAIR = {
    "pair_id": "p1",
    "topic_stance": "ban-lamps_yes",
    "debate_title": "Ban Lamps",
    "arg1": {"id": "a1", "text": "they burn"},
    "arg2": {"id": "a2", "text": "they glare"},
    "labels": [
        {"worker_id": "w1", "value": "a1", "reason": "true", "submitted": "2016-01-31 16:59:52.0"},
        {"worker_id": "w2", "value": "a2", "reason": "so"},
        {"worker_id": "w3", "value": "equal", "reason": "both"},
        {"worker_id": "w4", "value": "both_bad", "reason": "neither"},
    ],
}


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """The home after staging, deduplication and marts, all tests of the project passed."""
    return conclude(write_lake(tmp_path_factory.mktemp("home"), ROWS, raw=[PAIR]))


def conclude(layout: Layout, but: Sequence[str] = ()) -> Layout:
    """Build staging, mark, build the marts; `but` are nodes to leave out."""
    dbt(layout, "build", "--exclude", "tag:after_dedup", *but)
    publish_read_copy(layout.warehouse, layout.warehouse_copy)
    mark(layout.warehouse_copy, layout, log=lambda _: None)
    weigh_labels(layout.warehouse_copy, layout, log=lambda _: None)
    screen(layout)
    dbt(layout, "build", "--select", "tag:after_dedup", *(("--exclude", *but) if but else ()))
    publish_read_copy(layout.warehouse, layout.warehouse_copy)
    return layout


def screen(layout: Layout, policy: str = "exclude", **sources: str) -> None:
    with open_texts_to_screen(layout.warehouse_copy) as texts:
        screen_texts(texts, layout, Policy(policy=policy, sources=sources), log=lambda _: None)


def rows(layout: Layout, table: str, by: str) -> dict[str, dict[str, Any]]:
    return {one[by]: one for one in read_table(layout.warehouse_copy, table).to_pylist()}


def pair(layout: Layout, *sides: str) -> dict[str, Any]:
    wanted = sorted(map(key, sides))
    (found,) = (
        one
        for one in rows(layout, "marts.fct_preferences", "preference_id").values()
        if [one["response_a_key"], one["response_b_key"]] == wanted
    )
    return found


def test_every_record_that_reaches_no_mart_is_left_out_with_its_reason(built: Layout) -> None:
    kept = rows(built, "marts.fct_demonstrations", "demonstration_id")
    assert kept.keys() == {"d1", "d5", "q1", "i2"}, "corrections are demonstrations too"
    out = rows(built, "marts.fct_excluded", "exclusion_id")
    assert {uid: (one["status"], one["pointer"]) for uid, one in out.items()} == {
        "d2:1": ("duplicate_of", "d1"),
        "d3:1": ("near_duplicate", "d1"),
        "d4:1": ("contaminated", key(ASKED)),
        "d6:2": ("duplicate_of", "d5"),
        "c3:1": ("duplicate_of", "c4"),
        "c5:1": ("void", None),
        "c6:1": ("contaminated", key(ASKED)),
        f"{key('ukp_convarg1|p1|4|w4')}:1": ("void", None),
        "t2:1": ("duplicate_of", "t1"),
        "p1:1": ("conflict", "p2"),
        "p3:1": ("duplicate_of", "p4"),
        "p6:1": ("contaminated", key(ASKED)),
        "e2:1": ("duplicate_of", "e1"),
        "q2:1": ("unused", None),
        "i3:1": ("unused", None),
    }
    assert out["c6:1"]["reason"] == "exact overlap with desk-v1"


def test_a_pair_holds_the_votes_of_all_forms_whichever_way_it_was_shown(built: Layout) -> None:
    found = pair(built, "good", "bad")
    good_is_a = found["response_a_key"] == key("good")
    votes = (found["votes_a"], found["votes_b"], found["ties"])
    assert votes == ((3, 1, 0) if good_is_a else (1, 3, 0))  # ann, bob, dee against cem
    assert (found["probability_a"] > 0.5) == good_is_a
    assert found["is_conflict"]
    assert found["weight"] == 1.0
    assert found["record_uids"] == ["c1", "c2", "c4", "k1"]
    assert found["annotator_ids"] == ["ann", "bob", "cem", "dee"]
    assert found["model_a" if good_is_a else "model_b"] == "m1"


def test_a_ranking_gives_its_pairs_a_share_of_weight_and_cost(built: Layout) -> None:
    tied = pair(built, "good", "fair")
    assert (tied["ties"], tied["probability_a"], tied["weight"]) == (1, 0.5, 0.5)
    assert tied["cost_usd"] == 1.0


def test_a_correction_beats_what_it_corrects(built: Layout) -> None:
    for better, worse in (("thus and so", "thus"), ("at nine", "later")):
        found = pair(built, better, worse)
        assert (found["probability_a"] > 0.5) == (found["response_a_key"] == key(better))


def test_a_raw_source_joins_the_comparisons(built: Layout) -> None:
    found = pair(built, "they burn", "they glare")
    assert (found["votes_a"], found["votes_b"], found["ties"]) == (1, 1, 1)
    assert (found["source"], found["domain"]) == ("ukp_convarg1", "Ban Lamps")
    assert not any("w1" in who for who in found["annotator_ids"]), "worker ids are hashed"


def test_single_responses_are_rated_as_a_share_of_full_marks(built: Layout) -> None:
    found = rows(built, "marts.fct_ratings", "rating_id")
    scores = {
        uid: (one["criterion"], one["score_frac"], one["weight"]) for uid, one in found.items()
    }
    assert scores == {
        "r1:1": ("rating", 0.75, 1.0),
        "s1:1": ("brief", 1.0, 2.0),
        "i1:1": ("thumbs", 0.0, 1.0),
    }


def test_the_tools_of_a_prompt_stand_beside_it_in_every_mart(built: Layout) -> None:
    for mart, key_name, armed in (
        ("demonstrations", "demonstration_id", {"q1"}),
        ("preferences", "preference_id", {pair(built, *s)["preference_id"] for s in TOLD}),
        ("ratings", "rating_id", {"s1:1"}),
        ("trajectories", "trajectory_id", {"t1"}),
        ("step_ratings", "step_rating_id", None),
        ("evaluation_prompts", "evaluation_prompt_id", None),
    ):
        found = rows(built, f"marts.fct_{mart}", key_name)
        told = {id: json.loads(one["tools"]) for id, one in found.items() if one["tools"]}
        assert told.keys() == (found.keys() if armed is None else armed), mart
        assert all(one == TOOLS for one in told.values())


def test_attempts_at_one_task_share_a_group(built: Layout) -> None:
    found = rows(built, "marts.fct_trajectories", "trajectory_id")
    assert found.keys() == {"t1", "t3"}
    assert found["t1"]["group_id"] == found["t3"]["group_id"] == key("do")


def test_a_step_has_the_mean_of_each_annotators_last_rating_and_weighs_their_number(
    built: Layout,
) -> None:
    (found,) = rows(built, "marts.fct_step_ratings", "step_rating_id").values()
    assert found["record_uids"] == ["p2", "p4", "p5"]
    assert (found["score_frac"], found["weight"]) == (0.5, 3.0)  # of -1, 1 and 0 on -1..1
    assert found["annotator_ids"] == ["ann", "bob"] and found["cost_usd"] == 0.5
    attempts = rows(built, "marts.fct_trajectories", "trajectory_id")
    assert found["group_id"] == attempts["t1"]["group_id"]


def test_an_evaluation_prompt_asked_twice_by_a_set_counts_once(built: Layout) -> None:
    (found,) = rows(built, "marts.fct_evaluation_prompts", "evaluation_prompt_id").values()
    assert found["record_uids"] == ["e1"]


def test_annotators_are_trusted_by_their_agreement_and_costs_are_counted_once(
    built: Layout,
) -> None:
    found = rows(built, "marts.dim_annotators", "annotator_id")
    assert found["cem"]["accuracy_frac"] < found["ann"]["accuracy_frac"]
    assert found["cem"]["self_consistency"] == 1.0
    assert found["ann"]["left_share"] == 1.0
    assert found["bob"]["left_share"] == 0.0
    assert found["dee"]["left_share"] is None, "a ranking has no left side"
    costs = rows(built, "marts.fct_label_costs", "label_cost_id")
    assert costs["desk:demonstration"]["label_count"] == 5
    assert costs["desk:demonstration"]["cost_per_label_usd"] == 2.0


def test_annotators_are_known_by_domain_and_what_a_label_of_theirs_is_worth(built: Layout) -> None:
    found = rows(built, "marts.dim_annotators", "annotator_id")
    assert found["ann"]["effective_label_count"] < found["ann"]["label_count"]
    assert found["ann"]["tested_votes"] == 1 and found["ann"]["agreement_with_others_frac"] == 1.0
    assert found["cem"]["agreement_with_others_frac"] == 0.0
    by_domain = rows(built, "marts.dim_annotators_by_domain", "annotator_domain_id").values()
    whole = {name: one["label_count"] for name, one in found.items()}
    for name, count in whole.items():
        parts = [one["label_count"] for one in by_domain if one["annotator_id"] == name]
        assert sum(parts) == count, name
    overall = rows(built, "marts.fct_label_agreement", "label_agreement_id")["comparison:all:all"]
    assert (overall["item_count"], overall["label_count"]) == (2, 7)  # good/bad, and UKP's pair


def test_the_weights_of_labels_are_the_same_as_an_asset(built: Layout) -> None:
    before = {name: built.derived(name).read_bytes() for name in WEIGHED}
    done = dg.materialize([label_weights], resources={"home": Home(root=str(built.root))})
    told = {
        event.asset_key.path[-1]: event.materialization.metadata
        for event in done.get_asset_materialization_events()
    }
    assert told.keys() == set(WEIGHED)
    assert told["annotator_reliability"]["annotators"].value == 9
    assert {name: built.derived(name).read_bytes() for name in WEIGHED} == before


def test_the_page_of_label_quality_shows_the_disagreement_with_its_text(built: Layout) -> None:
    done = dg.materialize([label_quality], resources={"home": Home(root=str(built.root))})
    (event,) = done.get_asset_materialization_events()
    told = event.materialization.metadata
    assert told["worst_disagreements"].value == 2, "a pair with votes for one side is none"
    assert told["alpha"].value == pytest.approx(
        rows(built, "marts.fct_label_agreement", "label_agreement_id")["comparison:all:all"][
            "alpha"
        ]
    )
    picture = base64.b64decode(str(told["plot_accuracy"].value).split("base64,")[1].rstrip(")"))
    assert b"cem" in picture and picture.startswith(b"<svg")
    page = built.label_quality.read_text()
    assert "Worst disagreements" in page and "which ?" in page and "&lt;b&gt;so&lt;/b&gt;" in page
    assert "<b>so</b>" not in page
    assert "gold questions" not in page, "a column that is empty throughout is left out"


def test_a_delivery_that_comes_again_through_other_files_changes_no_mart(
    built: Layout, tmp_path: Path
) -> None:
    copies = [again(f"{one['record_uid']}-again", one, "b000003-z") for one in ROWS]
    turned = judged(
        "c1-turned", "ann", "b", response_a="bad", response_b="good", occurred_at=NOON, cost_usd=1.0
    )
    twice = write_lake(tmp_path, [*ROWS, *copies, turned], raw=[PAIR, PAIR])
    conclude(twice, but=["test_type:unit"])
    marts = {
        "fct_demonstrations": "demonstration_id",
        "fct_preferences": "preference_id",
        "fct_ratings": "rating_id",
        "fct_trajectories": "trajectory_id",
        "fct_step_ratings": "step_rating_id",
        "fct_evaluation_prompts": "evaluation_prompt_id",
        "dim_annotators": "annotator_id",
        "dim_annotators_by_domain": "annotator_domain_id",
        "fct_label_agreement": "label_agreement_id",
        "fct_label_costs": "label_cost_id",
    }
    for mart, by in marts.items():
        assert rows(twice, f"marts.{mart}", by) == rows(built, f"marts.{mart}", by), mart
    out = rows(twice, "marts.fct_excluded", "record_uid")
    assert (out["r1-again"]["status"], out["r1-again"]["pointer"]) == ("duplicate_of", "r1")
    assert (out["c1-turned"]["status"], out["c1-turned"]["pointer"]) == ("duplicate_of", "c1")
    assert (out["p2-again"]["status"], out["p2-again"]["pointer"]) == ("duplicate_of", "p2")
    assert (out["t3-again"]["status"], out["t3-again"]["pointer"]) == ("duplicate_of", "t3")


TELLING = {
    "write to jo.miller+shop@mail.desk.co .": "an e-mail address",
    "i am <ann@post.example>": "an e-mail address",
    "card 4111 1111 1111 1111 , please": "a payment card number",
    "card 5500005555555559.": "a payment card number",
    "amex 3782-822463-10005": "a payment card number",
    "call +44 20 7946 0958 now": "a phone number",
    "(+4915112345678)": "a phone number",
}
PLAIN = (
    "mail you@example.com or root@db.test",
    "card 4111 1111 1111 1112 , which no bank gave out",
    "order 20260131-4111 of 2026-01-31 , 10:45 , for $ 1 2 3 4 5 6 7 8 9 0 1 2 3 4",
    "so 100 + 12 345 678 = <<100+12345678=12345778>> , or 0.4012888888881881",
    "@ann , see a@b and git@host:path",
    "in 1769860000000 ms , i.e. 1769860000 s",
)


def answered(response: str) -> Mapping[str, Any]:
    return row("demonstration", response, prompt="why ?", response=response)


def test_records_with_personal_data_are_left_out_by_kind_unless_their_source_is_allowed(
    tmp_path: Path,
) -> None:
    secret = "it is jo@mail.desk"
    working = [
        Message(role="assistant", content="let me look"),
        Message(role="tool", content=f"the file says : {secret}"),
        Message(role="assistant", content="done"),
    ]
    chatting = [
        Message(role="assistant", content="where shall it go ?"),
        Message(role="user", content=secret),
        Message(role="assistant", content="done"),
    ]
    support = Message(role="system", content="Refer all complaints to help@shop.desk")
    delivered = [
        *(answered(text) for text in [*TELLING, *PLAIN]),
        judged("c", "ann", "a", response_b=secret),
        row("rating", "r", prompt=secret, response="so", rating=4, rating_min=1, rating_max=5),
        row("trajectory", "t", prompt="do", steps=secret, outcome="passed", task_id="x"),
        row("trajectory", "t-tool", prompt="do", outcome="passed", task_id="y")
        | {"steps": dump(tuple(working)), "steps_text": text_of(tuple(working)), "steps_key": "k"},
        row("trajectory", "t-user", prompt="do", outcome="passed", task_id="z")
        | {
            "steps": dump(tuple(chatting)),
            "steps_text": text_of(tuple(chatting)),
            "steps_key": "u",
        },
        row("rating", "r-system", response="so", rating=4, rating_min=1, rating_max=5)
        | {"prompt": dump((support, *prompt_of("how ?"))), "prompt_key": "s"}
        | {"prompt_text": f"{support.content}\nhow ?"},
        row("demonstration", "d-system", response="so")
        | {"prompt": dump((support, *prompt_of("why ?"))), "prompt_key": "s2"}
        | {"prompt_text": f"{support.content}\nwhy ?"},
    ]
    layout = conclude(write_lake(tmp_path, delivered), but=["test_type:unit"])
    out = rows(layout, "marts.fct_excluded", "record_uid")
    assert {one["status"] for one in out.values()} == {"personal_data"}
    assert {uid: one["reason"] for uid, one in out.items()} == {
        **{text: f"holds {what}" for text, what in TELLING.items()},
        **dict.fromkeys(
            ["c", "r", "t", "t-user", "r-system", "d-system"], "holds an e-mail address"
        ),
    }
    trained = rows(layout, "marts.fct_demonstrations", "demonstration_id")
    assert trained.keys() == set(PLAIN)
    screen(layout, desk="allow")
    dbt(layout, "run", "--select", "int_texts_marked+")
    assert read_table(layout.warehouse, "marts.fct_excluded").num_rows == 0
    screen(layout, elsewhere="allow")
    dbt(layout, "run", "--select", "int_texts_marked+")
    assert read_table(layout.warehouse, "marts.fct_excluded").num_rows == len(out)


def test_what_lands_between_the_two_steps_waits_for_the_next_turn(
    built: Layout, tmp_path: Path
) -> None:
    late = [
        row("trajectory", "t9", prompt="late", steps="came", task_id="z"),
        row("evaluation_prompt", "e9", prompt="late too", evaluation_set="desk-v1", grader="g"),
        row("demonstration", "d9", prompt="later", response="still"),
    ]
    home = write_lake(tmp_path, ROWS, raw=[PAIR])
    dbt(home, "run", "--exclude", "tag:after_dedup")
    publish_read_copy(home.warehouse, home.warehouse_copy)
    mark(home.warehouse_copy, home, log=lambda _: None)
    screen(home)
    write_lake(home.root, [*ROWS, *(one | {"batch_id": "b000003-z"} for one in late)], raw=[PAIR])
    dbt(home, "build", "--select", "tag:after_dedup", "--exclude", "test_type:unit")
    publish_read_copy(home.warehouse, home.warehouse_copy)
    for mart, by in (
        ("fct_demonstrations", "demonstration_id"),
        ("fct_trajectories", "trajectory_id"),
        ("fct_evaluation_prompts", "evaluation_prompt_id"),
        ("fct_excluded", "exclusion_id"),
    ):
        assert rows(home, f"marts.{mart}", by) == rows(built, f"marts.{mart}", by), mart
    assert newest_batch_number(home.warehouse_copy) == 2, "the late batch is not trained on yet"
    dbt(home, "run", "--select", "+int_batches_staged")
    assert newest_batch_number(home.warehouse) == 3


def test_an_overlap_of_any_text_that_is_trained_on_is_found(built: Layout, tmp_path: Path) -> None:
    home = Layout(tmp_path / "home")
    shutil.copytree(built.root, home.root)
    with duckdb.connect(str(home.warehouse)) as connection:
        connection.execute(
            "update intermediate.int_texts_marked set overlap = 'exact' where role <> 'prompt'"
        )
    marts = {name: read_table(home.warehouse, f"marts.fct_{name}").num_rows for name in MARTS}
    texts = sum(marts.values()) + marts["preferences"]  # which have two responses
    with pytest.raises(AssertionError, match=f"FAIL {texts} assert_no_training_row"):
        dbt(home, "test", "--select", "assert_no_training_row_overlaps_evaluation")


def test_an_edit_of_a_model_flows_into_the_next_frozen_dataset(
    built: Layout, tmp_path: Path
) -> None:
    project, home = tmp_path / "dbt_project", Layout(tmp_path / "home")
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("target", "logs"))
    shutil.copytree(built.root, home.root)

    def frozen(generation: str) -> Path:
        directory = home.dataset("demonstration", generation)
        freeze(
            home.warehouse,
            table="marts.fct_demonstrations",
            key="demonstration_id",
            directory=directory,
            name="demonstration",
            generation=generation,
            trained_through_batch=1,
        )
        return directory

    before = frozen("g0001")
    model = project / "models" / "intermediate" / "marked" / "int_demonstrations_marked.sql"
    rule = "when annotator_id is null then 'void'"
    reason = "when 'void' then 'nobody is named'"
    edited = model.read_text().replace("else 'active'", f"{rule} else 'active'")
    model.write_text(edited.replace("case status", f"case status {reason}", 1))
    select = ("--select", "int_demonstrations_marked+", "--exclude", "test_type:unit")
    dbt(home, "build", *select, project=project)
    after = frozen("g0002")
    with duckdb.connect() as connection:
        kept = connection.sql(f"select demonstration_id from '{after}/*.parquet' order by 1")
        assert [one[0] for one in kept.fetchall()] == ["d1", "q1"]
        assert connection.sql(f"from '{before}/*.parquet'").shape[0] == 4
        assert read_table(home.warehouse, "marts.fct_excluded").num_rows == 16, (
            "i2 still says a preference"
        )
    assert groups_in_two_splits(after) == []


def test_only_staging_reads_sources_and_every_model_says_what_one_row_is() -> None:
    described = "\n".join(path.read_text() for path in PROJECT.glob("models/**/*.yml"))
    for path in PROJECT.glob("models/**/*.sql"):
        layer = path.relative_to(PROJECT / "models").parts[0]
        if layer != "staging":
            assert "source(" not in path.read_text(), path
        entry = re.search(
            rf"- name: {path.stem}\n\s+description: (.+?)(?=\n  +\w+:|\n  - |\Z)", described, re.S
        )
        assert entry, f"{path.stem} has no description"
        assert re.search(r"[Oo]ne row per", " ".join(entry[1].split())), path.stem
