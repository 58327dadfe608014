"""The steps that run dbt, as Dagster runs them."""

import shutil
from pathlib import Path

import dagster as dg
import pytest

from assets.resources import Home
from assets.transform import Dbt, project, staging_models
from flywheel.ingest import land
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
