"""People edit the dbt project: what they change reaches training, what they break goes nowhere."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
from dagster_dbt import DbtProject, dbt_assets
from dagster_dbt.errors import DagsterDbtCliRuntimeError

from assets.automation import OWNERS
from assets.datasets import DATASETS, dataset_key
from assets.documentation import source_freshness
from assets.keys import LANDED
from assets.resources import Home
from assets.transform import UNIT_TESTS, Dbt, LayerTranslator, build, parse_where_changed
from flywheel.ingest import land
from flywheel.layout import Layout
from flywheel.warehouse import column_types, freeze, groups_in_two_splits, read_table
from tests.small_lake import PROJECT, dbt, row, write_lake
from tests.test_dbt_project import built

__all__ = ["built"]  # a fixture
DOCUMENT = Path(__file__).parent.parent / "docs" / "editing_the_warehouse.md"
MARTS = Path("models", "marts")
MARKED = Path("models", "intermediate", "marked")
FORUM = """
select
    md5(source || line_no) as record_uid, record_uid as original_uid, batch_id, file, line_no,
    null as record_id, null as guideline_version, 'CC0-1.0' as licence,
    batch_id || ':' || lpad(line_no::varchar, 12, '0') as first_seen, 1 as copy_number,
    null::double as seconds, null::double as cost_usd,
    'demonstration' as kind, source, null as domain, 'fay' as annotator_id,
    'person' as annotator_kind,
    {{ conversation("record::json ->> 'q'", 'user', 'prompt') }},
    {{ conversation("record::json ->> 'a'", 'assistant', 'response') }}
from {{ source('landing', 'raw_sources') }}
where source = 'forum'
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(), re.S)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, f"{old!r} is not in {path}"
    path.write_text(text.replace(old, new, 1))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the dbt project to edit."""
    copy = tmp_path / "dbt_project"
    shutil.copytree(PROJECT, copy, ignore=shutil.ignore_patterns("logs"))  # with what dbt parsed
    return copy


def nodes(target: Path) -> dict[str, Any]:
    manifest = json.loads((target / "manifest.json").read_text())
    return dict(manifest)


def test_a_column_a_filter_and_a_source_reach_the_frozen_dataset_as_documented(
    project: Path, tmp_path: Path
) -> None:
    column, rule, reason = blocks("sql")
    (contract,) = blocks("yaml")
    mart = project / MARTS / "fct_demonstrations.sql"
    edit(mart, "as weight,\n", f"as weight,\n{column}")
    described = project / MARTS / "_marts__models.yml"
    edit(described, "Weight in training.\n        data_type: double\n", "@\n")
    edit(described, "@\n", f"Weight in training.\n        data_type: double\n{contract}")
    marked = project / MARKED / "int_demonstrations_marked.sql"
    edit(marked, "        else 'active'\n", rule)
    edit(marked, "case status\n", f"case status\n{reason}")
    staging = project / "models" / "staging" / "forum" / "stg_forum__demonstrations.sql"
    staging.parent.mkdir()
    staging.write_text(FORUM)
    union = project / "models" / "intermediate" / "int_demonstrations_unioned.sql"
    landed = "    select * from {{ ref('stg_landing__demonstrations') }}\n"
    edit(union, landed, f"{landed}    union all by name\n{landed.replace('landing', 'forum')}")
    labels = project / "models" / "intermediate" / "int_labels_unioned.sql"
    edit(labels, "'ukp__comparisons'", "'ukp__comparisons', 'forum__demonstrations'")
    home = write_lake(
        tmp_path / "home",
        [
            row("demonstration", "d1", prompt="why ?", response="so it is", annotator_id="ann"),
            row("demonstration", "d2", prompt="how ?", response="thus"),
        ],
        raw=[{"q": "who asks ?", "a": "a forum does"}],
        raw_source="forum",
    )
    dbt(home, "build", "--exclude", "test_type:unit", project=project)
    directory = home.dataset("demonstration", "g0001")
    freeze(
        home.warehouse,
        table="marts.fct_demonstrations",
        key="demonstration_id",
        directory=directory,
        name="demonstration",
        generation="g0001",
        trained_through_batch=1,
    )
    with duckdb.connect() as connection:
        found = connection.sql(
            f"select source, annotator_id, response_words from '{directory}/*.parquet' order by 1"
        ).fetchall()
    assert found == [("desk", "ann", 3), ("forum", "fay", 3)]
    assert groups_in_two_splits(directory) == []
    (out,) = read_table(home.warehouse, "marts.fct_excluded").to_pylist()
    assert (out["record_uid"], out["reason"]) == ("d2", "nobody is named")


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "a statement that is no SQL": (
        lambda mart: edit(mart, "\nfrom", "\nfrum"),
        "fct_demonstrations",
    ),
    "a contract that is not kept": (
        lambda mart: edit(mart, "1.0::double as weight", "'1' as weight"),
        "fct_demonstrations",
    ),
    "a data test that fails": (
        lambda mart: edit(mart, "record_uid as demonstration_id", "'one' as demonstration_id"),
        "unique_fct_demonstrations_demonstration_id",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_edit_names_its_model_and_leaves_the_last_good_marts_in_use(
    built: Layout, project: Path, tmp_path: Path, what: str
) -> None:
    home = Layout(tmp_path / "home")
    shutil.copytree(built.root, home.root)
    spoil, named = BROKEN[what]
    spoil(project / MARTS / "fct_demonstrations.sql")
    before = home.warehouse_copy.read_bytes()
    edited = DbtProject(project_dir=project)
    parse_where_changed(edited)

    @dbt_assets(
        manifest=edited.manifest_path,
        project=edited,
        select="fct_demonstrations",
        exclude=UNIT_TESTS,
        dagster_dbt_translator=LayerTranslator(),
    )
    def models(context: dg.AssetExecutionContext, dbt: Dbt, home: Home) -> Iterator[Any]:
        yield from build(context, dbt, home)

    done = dg.materialize(
        [models],
        resources={"home": Home(root=str(home.root)), "dbt": Dbt(project_dir=str(project))},
        raise_on_error=False,
    )
    assert not done.success
    (failure,) = done.get_step_failure_events()
    assert named in str(failure.step_failure_data.error), what
    assert home.warehouse_copy.read_bytes() == before, "the read copy is the last good one"
    assert read_table(home.warehouse_copy, "marts.fct_demonstrations").num_rows == 4


def test_a_template_that_cannot_be_read_names_its_model_when_the_code_is_loaded(
    project: Path,
) -> None:
    edit(project / MARTS / "fct_ratings.sql", "{{ ref(", "{{ ref((")
    with pytest.raises(DagsterDbtCliRuntimeError, match="fct_ratings"):
        parse_where_changed(DbtProject(project_dir=project))


def test_every_column_of_every_model_is_described(built: Layout) -> None:
    known = nodes(built.root / "target")
    models = [one for one in known["nodes"].values() if one["resource_type"] == "model"]
    types = column_types(built.warehouse)
    silent = [
        f"{model['name']}.{name}"
        for model in models
        for name, _ in types[model["relation_name"]]
        if not model["columns"].get(name, {}).get("description")
    ]
    assert silent == [], "describe them in the yml beside the model"
    gone = [
        f"{model['name']}.{name}"
        for model in models
        for name in model["columns"].keys() - {name for name, _ in types[model["relation_name"]]}
    ]
    assert gone == [], "these are described and not there"
    assert all(model["description"] for model in models)


def test_every_macro_and_its_arguments_are_described(built: Layout) -> None:
    macros = nodes(built.root / "target")["macros"].values()
    ours = [macro for macro in macros if macro["package_name"] == "flywheel"]
    assert len(ours) >= 8
    for macro in ours:
        if macro["macro_sql"].lstrip().startswith("{% test"):
            continue
        assert macro["description"], macro["name"]
        (signature,) = re.findall(r"macro \w+\((.*?)\) -?%}", macro["macro_sql"], re.S)
        taken = {one.partition("=")[0].strip() for one in signature.split(",") if one.strip()}
        if macro["name"] != "generate_schema_name":  # dbt calls it; its arguments are dbt's
            assert {one["name"] for one in macro["arguments"] if one["description"]} == taken


def test_models_with_branches_have_a_unit_test(built: Layout) -> None:
    known = nodes(built.root / "target")
    tested = {one["model"] for one in known["unit_tests"].values()}
    branching = {
        model["name"]
        for model in known["nodes"].values()
        if model["resource_type"] == "model" and re.search(r"\bcase\b|\bif\(", model["raw_code"])
    }
    assert branching - tested == set()


def test_exposures_are_the_datasets_that_are_frozen(built: Layout) -> None:
    found = {one["name"]: one for one in nodes(built.root / "target")["exposures"].values()}
    assert found.keys() == {f"{name}_dataset" for name in DATASETS}
    for name, (mart, _, _) in DATASETS.items():
        exposure = found[f"{name}_dataset"]
        assert exposure["depends_on"]["nodes"] == [f"model.flywheel.{mart.path[-1]}"]
        assert exposure["meta"]["dagster"]["asset_key"] == list(dataset_key(name).path)
        assert f"team:{exposure['owner']['name']}" == "team:post-training"
    assert "datasets" not in OWNERS, "so theirs is the default, team:post-training"


def test_sources_are_fresh_where_nothing_landed_or_lately_and_stale_after_that(
    tmp_path: Path,
) -> None:
    home = Home(root=str(tmp_path))
    layout = home.layout
    layout.inbox.mkdir()
    (layout.inbox / "x.jsonl").write_text('{"kind":"demonstration","prompt":"p","response":"r"}')
    land([layout.inbox], layout, log=lambda _: None)
    old = {"landed_at": "2020-01-01 00:00:00", "batch_id": "b000002-y"}
    with duckdb.connect() as connection:
        (path,) = layout.landing("demonstration").glob("b*.parquet")
        (layout.batches / "b000002-y.json").write_text(
            next(layout.batches.glob("b*.json")).read_text().replace(path.stem, "b000002-y")
        )
        connection.execute(
            f"copy (select * exclude (kind, response, response_text, response_key) replace "
            f"(timestamp '{old['landed_at']}' as landed_at), 'rating' as kind from '{path}') to "
            f"'{layout.landing('rating') / 'b000002-y.parquet'}'"
        )
    resources = {"home": home, "dbt": Dbt(project_dir=str(PROJECT))}
    with dg.build_resources(resources) as made:
        told = {one.asset_key: one for one in source_freshness(dbt=made.dbt, home=made.home)}
    stale = told.pop(LANDED["rating"])
    assert not stale.passed and stale.severity == dg.AssetCheckSeverity.ERROR
    assert all(one.passed for one in told.values()) and len(told) == 9
