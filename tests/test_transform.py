"""The steps that run dbt, as Dagster runs them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from assets.datasets import dataset_key, datasets
from assets.landing import landing
from assets.partitions import generations
from assets.resources import PROJECT, Home
from assets.transform import Dbt, project, staging_models
from flywheel.ingest import land
from flywheel.lake import read_folder
from flywheel.layout import Layout
from flywheel.warehouse import read_table


def test_the_warehouse_is_built_without_the_rows_of_a_killed_landing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FLYWHEEL_LAKE", "FLYWHEEL_WAREHOUSE"):  # set by the step, for dbt
        monkeypatch.setenv(name, "")
    layout = Layout(tmp_path)
    layout.inbox.mkdir()
    said = '{"kind": "demonstration", "prompt": "p", "response": "r"}\n'
    (layout.inbox / "x.jsonl").write_text(said)
    (batch,) = land([layout.inbox], layout, log=lambda _: None)
    folder = layout.landing("demonstration")
    shutil.copy(folder / f"{batch.batch_id}.parquet", folder / "b000002-0123456789ab.parquet")
    wanted = dg.AssetKey(["intermediate", "int_demonstrations_unioned"])
    done = dg.materialize(
        [staging_models],
        selection=dg.AssetSelection.assets(wanted).upstream(),
        resources={
            "home": Home(root=str(tmp_path)),
            "dbt": Dbt(project_dir=project),
        },
    )
    assert done.success
    built = read_table(layout.warehouse_copy, "intermediate.int_demonstrations_unioned")
    assert built.num_rows == 1
    told = {
        event.asset_key.path[-1]: event.materialization.metadata
        for event in done.get_asset_materialization_events()
    }
    for name in ("stg_landing__demonstrations", "int_demonstrations_unioned"):  # a view, a table
        assert told[name]["dagster/row_count"].value == 1
        columns = told[name]["dagster/column_schema"].schema.columns
        assert ("record_uid", "VARCHAR") in [(one.name, one.type) for one in columns]


def test_landed_and_frozen_tables_show_their_columns(tmp_path: Path) -> None:
    home = Home(root=str(tmp_path))
    home.layout.inbox.mkdir()
    home.layout.warehouse_copy.parent.mkdir()
    with duckdb.connect(str(home.layout.warehouse_copy)) as connection:
        connection.execute("create schema marts")
        connection.execute(
            "create table marts.fct_evaluation_prompts as select 'e1' as evaluation_prompt_id"
        )
        connection.execute("create schema intermediate")
        connection.execute(
            "create table intermediate.int_batches_staged as select 1 as batch_number"
        )
        connection.execute("create schema staging")
        for table, columns in (
            ("marts.dim_records", "record_uid, record_id, file, line_no, licence, annotator_id"),
            ("intermediate.int_records_consented", "record_uid, consent"),
            (
                "staging.stg_consents__statements",
                "consent_id, annotator_id, uses, expires_at, withdrawn_at, first_seen",
            ),
        ):
            typed = ", ".join(f"{one} varchar" for one in columns.split(", "))
            connection.execute(f"create table {table} ({typed})")
    evaluation = next(one for one in datasets if one.key == dataset_key("evaluation"))
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(generations.name, ["g0001"])
        told = {
            event.asset_key.path[-1]: event.materialization.metadata["dagster/column_schema"].schema
            for assets, partition in ((landing, None), (evaluation, "g0001"))
            for event in dg.materialize(
                [assets], instance=instance, partition_key=partition, resources={"home": home}
            ).get_asset_materialization_events()
        }
    names = {asset: [one.name for one in schema.columns] for asset, schema in told.items()}
    assert names["evaluation_dataset"] == ["evaluation_prompt_id"]
    (frozen,) = read_folder(home.layout.lineage("datasets"))["dataset_id"].to_pylist()
    assert frozen == "evaluation/g0001", "the lineage tells of it before anybody traces"
    assert "choice" in names["comparisons"]
    assert "reason_kind" in names["quarantine"] and "record" in names["raw_sources"]


def test_a_new_model_is_an_asset_in_the_next_process(tmp_path: Path) -> None:
    """As `flywheel turn` and the schedules load it; only `dagster dev` parses each time."""
    for folder in ("assets", "flywheel", "dbt_project"):
        shutil.copytree(PROJECT / folder, tmp_path / folder)  # with what dbt parsed already
    shutil.copy(PROJECT / "workspace.yaml", tmp_path)
    model = tmp_path / "dbt_project" / "models" / "marts" / "dim_new.sql"
    model.write_text("select 1 as new_id")
    os.utime(model, (0, 0))  # as from an archive: older than the manifest
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            "from assets import transform; print(*transform.mart_models.keys)",
        ],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path), "FLYWHEEL_HOME": str(tmp_path / "var")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "dim_new" in told.stdout, told.stderr[-2000:]
    parsed = tmp_path / "dbt_project" / "target" / "manifest.json"
    assert "dim_new" in parsed.read_text()
