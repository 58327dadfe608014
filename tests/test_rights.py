"""Licences and consents: the algebra, and datasets that are refused because of them."""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.errors import SettingsError, WarehouseError
from flywheel.ingest import land
from flywheel.lake import read_folder
from flywheel.layout import Layout
from flywheel.lineage import refresh
from flywheel.rights import (
    ALL,
    DUTIES,
    NONE,
    UNKNOWN,
    USES,
    Rights,
    Statement,
    Terms,
    rights_of_consent,
    rights_of_licence,
    statement_of,
    together,
)
from flywheel.rights.licences import KNOWN
from flywheel.warehouse import freeze, publish_read_copy, read_table
from tests.small_lake import dbt, row, write_lake
from tests.test_lineage import checkpoint

TODAY = date(2026, 11, 26)
RIGHTS = st.builds(
    Rights, st.frozensets(st.sampled_from(USES)), st.frozensets(st.sampled_from(DUTIES))
)


@given(RIGHTS, RIGHTS, RIGHTS)
def test_rights_combine_in_any_order_and_grouping(a: Rights, b: Rights, c: Rights) -> None:
    assert (a & b) & c == a & (b & c)
    assert a & b == b & a and a & a == a and a & ALL == a
    assert together(a, b, c) == together(c, a, b) and together() == ALL


@given(RIGHTS, RIGHTS)
def test_another_parent_never_allows_more_nor_asks_less(a: Rights, b: Rights) -> None:
    both = a & b
    assert both.uses <= a.uses and both.uses <= b.uses
    assert both.duties >= a.duties and both.duties >= b.duties


@given(RIGHTS)
def test_what_is_unknown_never_widens(one: Rights) -> None:
    assert (one & UNKNOWN).uses <= {"evaluate"} and (one & UNKNOWN).uses <= one.uses
    assert not (one & NONE).uses


@given(st.text(max_size=30))
def test_a_licence_in_no_table_may_be_evaluated_on_and_nothing_else(name: str) -> None:
    found = rights_of_licence(name)
    assert found == UNKNOWN or any(one in "-".join(name.upper().split()) for one in KNOWN)


@pytest.mark.parametrize(
    ("name", "use", "allowed"),
    [
        ("CC BY 4.0", "serve_commercial", True),
        ("CC-BY-NC-4.0", "serve_commercial", False),
        ("cc-by-nc-4.0", "train_internal", True),
        ("CC-BY-ND-4.0", "publish_data", False),
        ("MIT AND CC-BY-NC-4.0", "train_release", False),
        ("MIT OR CC-BY-NC-4.0", "train_release", True),
        ("CC0-1.0, CC-BY-NC-4.0", "serve_commercial", False),
        ("MIT AND never heard of", "train_internal", False),
        ("MIT; CC-BY-NC-4.0", "serve_commercial", False),
        ("CC-BY-4.0 and MIT", "serve_commercial", True),
        ("(MIT or CC-BY-NC-4.0) AND ISC", "serve_commercial", True),
        ("MIT OR ISC AND CC-BY-NC-4.0", "serve_commercial", True),
        ("(MIT OR ISC) AND CC-BY-NC-4.0", "serve_commercial", False),
        ("(MIT, CC-BY-NC-2.5) OR CC-BY-NC-1.0", "train_internal", True),
        ("MIT) OR (ISC", "train_internal", False),
        ("(" * 3000 + "MIT" + ")" * 3000, "train_internal", False),
        ("GPL-3.0-or-later", "train_release", True),
        ("llama3", "serve_commercial", True),
        ("own", "publish_data", True),
        ("proprietary", "publish_data", False),
        (None, "evaluate", True),
        (None, "train_internal", False),
        ("", "train_internal", False),
    ],
)
def test_what_known_licences_allow(name: str | None, use: str, allowed: bool) -> None:
    assert (use in rights_of_licence(name).uses) is allowed


def test_duties_come_along() -> None:
    both = rights_of_licence("CC-BY-SA-4.0") & rights_of_licence("MIT")
    assert both.duties == {"attribution", "share_alike"}
    own = {"Vendor terms": {"uses": ["train_internal"], "duties": ["no_competing_model"]}}
    assert rights_of_licence("vendor terms", own).duties == {"no_competing_model"}
    assert rights_of_licence("MIT", {"MIT": {"uses": ["evaluate"]}}).uses == {"evaluate"}


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ({"use": "train"}, "use must be of evaluate"),
        ({"use": "evaluate", "refused": "warn"}, "refused must be of fail"),
        ({"use": "evaluate", "own": {"x": {"uses": ["all"]}}}, "uses of x must be of"),
        ({"use": "evaluate", "own": {"x": ["evaluate"]}}, "must be {uses ="),
    ],
)
def test_terms_that_cannot_be_are_refused(said: dict[str, Any], match: str) -> None:
    with pytest.raises(SettingsError, match=match):
        Terms(**said)


def test_a_consent_allows_what_it_lists_until_it_ends_or_is_taken_back() -> None:
    listed = Statement(uses=["train_internal", "paint it"], expires_at="2027-01-01")
    assert rights_of_consent("c", [listed], TODAY).uses == {"train_internal"}
    assert rights_of_consent("c", [listed], date(2027, 1, 1)) == NONE
    later = Statement(withdrawn_at="2026-11-26T08:00:00Z")
    assert rights_of_consent("c", [listed, later, listed], TODAY) == NONE
    assert rights_of_consent("c", [listed, later], date(2026, 11, 25)).uses == {"train_internal"}
    assert rights_of_consent("c", [Statement(uses=list(USES), expires_at="soon")], TODAY) == NONE
    assert rights_of_consent("c", [], TODAY) == UNKNOWN
    assert rights_of_consent(True, [], TODAY) == ALL and rights_of_consent(False, [], TODAY) == NONE
    beside = {"id": "c", "uses": ["evaluate"], "expires_at": "2026-01-01"}
    assert rights_of_consent(beside, [], TODAY) == NONE
    renewed = Statement(expires_at="2027-01-01")
    assert rights_of_consent(beside, [renewed], TODAY).uses == {"evaluate"}
    assert rights_of_consent(None, [Statement()], TODAY, is_named=False) == ALL


def test_who_is_known_by_an_address_takes_back_under_the_same_pseudonym(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "home")
    said = {"kind": "demonstration", "prompt": "p", "response": "r", "annotator_id": "Ann@x.org"}
    back = {"annotator_id": "ann@x.org ", "withdrawn_at": "2026-01-01", "note": "größer"}
    for source, one in (("desk", said), ("consents", back)):
        (layout.inbox / source).mkdir(parents=True)
        (layout.inbox / source / "a.jsonl").write_text(json.dumps(one) + "\n")
    land([layout.inbox], layout, log=lambda _: None)
    (who,) = read_folder(layout.landing("demonstration"))["annotator_id"].to_pylist()
    (record,) = read_folder(layout.raw("consents"))["record"].to_pylist()
    assert json.loads(record) == back | {"annotator_id": who}
    assert who.startswith("p_") and "@" not in record


def test_what_cannot_be_read_of_a_consent_never_widens() -> None:
    assert rights_of_consent({"id": "c", "uses": "train_internal"}, [], TODAY) == NONE
    assert rights_of_consent({"id": "c", "uses": list(USES), "withdrawn": True}, [], TODAY) == NONE
    kept = {"id": "c", "uses": list(USES), "withdrawn_at": False, "withdrawn": False}
    assert rights_of_consent(kept, [], TODAY) == ALL
    assert statement_of({"annotator_id": "a", "withdrawn_on": "2026-01-01"}) == Statement(uses=[])
    for ends, expected in (
        ("0001-01-01T00:00:00+14:00", NONE),
        ("9999-12-31T23:59:59-14:00", ALL),
    ):
        assert rights_of_consent("c", [Statement(uses=USES, expires_at=ends)], TODAY) == expected


def demonstration(uid: str, licence: str | None, consent: Any = None, who: str = "ann") -> dict:
    said = {} if consent is None else {"metadata": json.dumps({"consent": consent})}
    return row(
        "demonstration",
        uid,
        prompt=f"why is {uid} so ?",
        response=f"because {uid} was made {uid * 5}",
        licence=licence,
        annotator_id=who,
        file="inbox/desk/some.jsonl",
        **said,
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """Demonstrations under several terms, one with a consent that was withdrawn later."""
    rows = [
        demonstration("r-free", "CC0-1.0"),
        demonstration("r-named", "CC BY 4.0"),
        demonstration("r-planted", "CC-BY-NC-4.0"),
        demonstration("r-silent", None),
        demonstration("r-agreed", "own", {"id": "c-1", "uses": list(USES)}),
        demonstration("r-ended", "own", {"id": "c-2", "uses": list(USES), "expires_at": "2020"}),
        demonstration("r-unheard", "own", "c-9"),
        demonstration("r-back", "own", "c-3"),
        demonstration("r-gone", "own", who="dee"),
        demonstration("r-null", "own") | {"metadata": '{"consent": null}'},
        demonstration("r-both", "own", who="fay"),
        demonstration("r-unread", "own", "c-6"),
        demonstration("r-taken", "own", "c-7 "),
        row("evaluation_prompt", "e1", prompt="is it ?", evaluation_set="desk-v1", grader="g"),
    ]
    said = [
        {"consent_id": "c-3", "uses": list(USES)},
        {"consent_id": "c-3", "withdrawn_at": "2026-01-02"},
        {"annotator_id": "dee", "withdrawn_at": "2026-01-02"},
        {"consent_id": "c-5", "annotator_id": "fay", "withdrawn_at": "2026-01-02"},
        {"consent_id": "c-6", "uses": "train_internal"},
        {"consent_id": "c-7", "uses": list(USES)},
        {"consent_id": "c-7", "withdrawn": True},
    ]
    layout = write_lake(tmp_path_factory.mktemp("home"), rows, raw=said, raw_source="consents")
    dbt(
        layout,
        "build",
        "--select",
        "+fct_demonstrations",
        "+dim_records",
        "+int_records_consented",
        "+stg_consents__statements",
        "+fct_evaluation_prompts",
        "+fct_record_checkpoints",
        "+dim_checkpoints",
        "--exclude",
        "test_type:data",
    )
    publish_read_copy(layout.warehouse, layout.warehouse_copy)
    return layout


@pytest.fixture
def frozen(built: Layout, tmp_path: Path) -> Callable[..., Any]:
    def freeze_for(use: str = "", name: str = "demonstration", **more: Any) -> Any:
        return freeze(
            built.warehouse_copy,
            table=f"marts.fct_{name}s",
            key=f"{name}_id",
            directory=tmp_path / "dataset",
            name=name,
            generation="g0001",
            trained_through_batch=2,
            terms=Terms(use=use, **more),
        )

    return freeze_for


def test_a_planted_non_commercial_row_blocks_serving_to_customers_and_is_named(
    built: Layout, frozen: Callable[..., Any]
) -> None:
    with pytest.raises(WarehouseError, match="may not be used to serve_commercial") as error:
        frozen("serve_commercial")
    told = str(error.value)
    assert told.startswith("8 rows of marts.fct_demonstrations")
    assert (
        "licence CC-BY-NC-4.0 allows evaluate, train_internal: 1 rows, e.g. r-planted "
        "(inbox/desk/some.jsonl, line 3)" in told
    )
    assert "licence unknown allows evaluate: 1 rows, e.g. r-silent" in told
    assert "consent c-2 allows nothing: 1 rows, e.g. r-ended" in told
    assert "consent c-9 allows evaluate: 1 rows, e.g. r-unheard" in told
    assert "consent c-3 allows nothing: 1 rows, e.g. r-back" in told, "withdrawn later"
    assert "consent of annotator dee allows nothing: 1 rows, e.g. r-gone" in told
    assert "consent c-6 allows nothing: 1 rows, e.g. r-unread" in told, "uses that are no list"
    assert "consent c-7 allows nothing: 1 rows, e.g. r-taken" in told, "withdrawn: true"
    assert "r-null" not in told and "r-both" not in told, "fay took back another consent"
    assert "r-free" not in told and "r-named" not in told and "r-agreed" not in told


def test_rows_that_may_not_be_used_are_left_out_where_that_is_asked_for(
    built: Layout, frozen: Callable[..., Any], tmp_path: Path
) -> None:
    manifest = frozen("serve_commercial", refused="exclude")
    assert (manifest.rows, manifest.rows_refused, manifest.use) == (5, 8, "serve_commercial")
    assert manifest.duties == ["attribution"], "of CC BY 4.0"
    assert set(manifest.licences) == {"CC0-1.0", "CC BY 4.0", "own"}
    lines = (tmp_path / "dataset" / "refused.tsv").read_text().splitlines()
    names = dict(line.split("\t") for line in lines)
    kept = pq.read_table(tmp_path / "dataset" / "train.parquet")["demonstration_id"].to_pylist()
    assert len(names) == 8 and not names.keys() & set(kept)
    assert "licence CC-BY-NC-4.0 allows evaluate, train_internal" in names.values()
    again = frozen("serve_commercial", refused="exclude")
    assert again == manifest, "freezing the same rows again is nothing"


def test_what_people_took_back_or_refused_is_left_out_where_no_use_is_set(
    built: Layout, frozen: Callable[..., Any], tmp_path: Path
) -> None:
    manifest = frozen(refused="exclude")
    assert (manifest.rows, manifest.rows_refused, manifest.use) == (8, 5, "")
    assert manifest.licences["CC-BY-NC-4.0"] == manifest.licences["unknown"] == 1
    names = (tmp_path / "dataset" / "refused.tsv").read_text()
    assert {line.split("\t")[1] for line in names.splitlines()} == {
        f"consent {one} allows nothing" for one in ("c-2", "c-3", "c-6", "c-7", "of annotator dee")
    }
    with pytest.raises(WarehouseError, match="because a consent was refused, has ended or was ta"):
        frozen(refused="fail")


def test_an_asset_weighs_consents_whether_or_not_a_use_is_set(tmp_path: Path) -> None:
    from assets.datasets import _terms
    from assets.resources import Home

    home = Home(root=str(tmp_path))
    assert _terms("preference", home) == Terms(refused="exclude")
    (tmp_path / "settings.toml").write_text('[licences]\nuse = "train_internal"\n')
    assert _terms("preference", home) == Terms(use="train_internal")
    assert _terms("evaluation", home) == Terms(use="evaluate")


def test_a_line_that_is_about_nobody_stops_the_build(tmp_path: Path) -> None:
    said = [{"consent": "c-3", "withdrawn_at": "2026-01-02"}]
    layout = write_lake(tmp_path, [demonstration("r", "own")], raw=said, raw_source="consents")
    select = ("--select", "+assert_every_statement_is_about_somebody")
    with pytest.raises(AssertionError, match="FAIL 1 assert_every_statement_is_about_somebody"):
        dbt(layout, "build", *select)


def test_what_is_only_tested_on_asks_for_no_more(frozen: Callable[..., Any]) -> None:
    assert frozen("evaluate", name="evaluation_prompt").rows == 1
    with pytest.raises(WarehouseError, match=r"unknown allows evaluate: 1 rows, e\.g\. e1"):
        frozen("train_internal", name="evaluation_prompt")


def test_a_licence_of_ones_own_permits_what_the_table_does_not(
    frozen: Callable[..., Any],
) -> None:
    own = {"CC-BY-NC-4.0": {"uses": list(USES), "duties": ["no_competing_model"]}}
    manifest = frozen("train_release", refused="exclude", own=own)
    assert (manifest.rows, manifest.duties) == (6, ["attribution", "no_competing_model"])


def test_records_are_told_once_with_their_terms(built: Layout) -> None:
    found = {
        one["record_uid"]: one
        for one in read_table(built.warehouse_copy, "marts.dim_records").to_pylist()
    }
    assert len(found) == 13 and found["r-named"]["licence"] == "CC BY 4.0"


def test_the_read_copy_tells_of_a_checkpoint_that_was_trained_after_it(built: Layout) -> None:
    sft = checkpoint(built, "sft_policy", {"r-free": 2, "r-named": 0}, [])
    checkpoint(built, "policy", {"r-free": 1, "r-silent": 3}, [sft])
    refresh(built)
    columns = ["record_uid", "checkpoint_id", "seen_by_checkpoint_id", "times_seen", "is_direct"]
    found = read_table(built.warehouse_copy, "marts.fct_record_checkpoints", columns)
    assert {tuple(one.values()) for one in found.to_pylist()} == {
        ("r-free", "sft_policy/g0001", "sft_policy/g0001", 2, True),
        ("r-free", "policy/g0001", "sft_policy/g0001", 2, False),
        ("r-free", "policy/g0001", "policy/g0001", 1, True),
        ("r-silent", "policy/g0001", "policy/g0001", 3, True),
    }
    told = read_table(built.warehouse_copy, "marts.dim_checkpoints").to_pylist()
    policy = {one["checkpoint_id"]: one for one in told}["policy/g0001"]
    assert (policy["record_count"], policy["times_seen"]) == (2, 4)
    assert policy["ancestor_ids"] == ["sft_policy/g0001"]
    assert policy["dataset_ids"] == ["demonstration"], "it was not frozen in this home"
