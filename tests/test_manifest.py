from pathlib import Path

import duckdb
import pytest

from flywheel.datasets.manifest import DatasetManifest, read_split
from flywheel.errors import ManifestError
from flywheel.warehouse import freeze

ROWS = """
create schema marts;
create table marts.fct_demonstrations as select * from (values
    ('d1', 'g1', 'train', 'desk', 'ann', 0.5, 'CC0', ['u1']),
    ('d2', 'g2', 'train', 'desk', 'bob', 0.25, null, ['u2', 'u3']),
    ('d3', 'g3', 'test', 'chat', null, null, null, ['u3'])
) as t(demonstration_id, group_id, split, source, annotator_id, cost_usd, licence, record_uids)
"""


@pytest.fixture
def frozen(tmp_path: Path) -> Path:
    database = tmp_path / "warehouse.duckdb"
    with duckdb.connect(str(database)) as connection:
        connection.execute(ROWS)
    freeze(
        database,
        table="marts.fct_demonstrations",
        key="demonstration_id",
        directory=tmp_path / "demonstration" / "g0001",
        name="demonstration",
        generation="g0001",
        trained_through_batch=3,
    )
    return tmp_path / "demonstration" / "g0001"


def test_a_manifest_says_what_the_dataset_holds_and_what_it_cost(frozen: Path) -> None:
    manifest = DatasetManifest.load(frozen)
    assert (manifest.rows, manifest.rows_by_split) == (3, {"train": 2, "validation": 0, "test": 1})
    assert (manifest.record_count, manifest.annotator_count, manifest.cost_usd) == (3, 2, 0.75)
    assert manifest.sources == {"chat": 1, "desk": 2}
    assert manifest.licences == {"CC0": 1, "unknown": 2}
    assert manifest.trained_through_batch == 3
    manifest.verify(frozen)


def test_a_split_is_read_as_it_was_frozen(frozen: Path) -> None:
    assert read_split(frozen, "train")["demonstration_id"].to_pylist() == ["d1", "d2"]
    assert read_split(str(frozen), "validation").num_rows == 0
    with pytest.raises(ManifestError, match="not 'holdout'"):
        read_split(frozen, "holdout")


def test_a_changed_frozen_file_is_refused_by_verify_and_by_read(frozen: Path) -> None:
    path = frozen / "train.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ManifestError, match="frozen files never change"):
        DatasetManifest.load(frozen).verify(frozen)
    with pytest.raises(ManifestError, match=r"train\.parquet"):
        read_split(frozen, "train")
    assert read_split(frozen, "test").num_rows == 1, "the other splits are intact"


def test_a_missing_file_and_a_stranger_beside_the_files_are_refused(frozen: Path) -> None:
    (frozen / "more.parquet").write_bytes((frozen / "test.parquet").read_bytes())
    with pytest.raises(ManifestError, match=r"more\.parquet"):
        DatasetManifest.load(frozen).verify(frozen)
    (frozen / "more.parquet").unlink()
    (frozen / "test.parquet").unlink()
    with pytest.raises(ManifestError, match="is gone"):
        DatasetManifest.load(frozen).verify(frozen)


def test_a_missing_or_torn_manifest_is_named(frozen: Path) -> None:
    with pytest.raises(ManifestError, match="found none"):
        DatasetManifest.load(frozen.parent)
    (frozen / "manifest.json").write_text('{"name": "demonstration"')
    with pytest.raises(ManifestError, match="no dataset manifest"):
        DatasetManifest.load(frozen)
    (frozen / "manifest.json").unlink()
    (frozen / "manifest.json").mkdir()
    with pytest.raises(ManifestError, match="cannot read"):
        DatasetManifest.load(frozen)


def test_a_manifest_survives_saving(frozen: Path, tmp_path: Path) -> None:
    manifest = DatasetManifest.load(frozen)
    manifest.save(tmp_path)
    assert DatasetManifest.load(tmp_path) == manifest
