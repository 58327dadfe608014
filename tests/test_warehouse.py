import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from flywheel.datasets.manifest import DatasetManifest, read_split
from flywheel.dedup.texts import open_texts
from flywheel.errors import ManifestError, WarehouseError
from flywheel.warehouse import (
    freeze,
    groups_in_two_splits,
    open_texts_to_screen,
    publish_read_copy,
    read_table,
    row_counts,
    set_aside_if_damaged,
)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "warehouse" / "warehouse.duckdb"
    path.parent.mkdir()
    with duckdb.connect(str(path)) as connection:
        connection.execute("create schema marts; create schema staging")
        connection.execute(
            "create table marts.facts as select 'k' || i as id, 'g' || i // 2 as group_id, "
            "['train', 'validation', 'test'][1 + i // 2 % 3] as split, i / 7 as score "
            "from range(12) t(i)"
        )
        connection.execute("create view staging.seen as from marts.facts where score > 1")
    return path


def change(database: Path, sql: str) -> None:
    with duckdb.connect(str(database)) as connection:
        connection.execute(sql)


def frozen(database: Path, **more: Any) -> DatasetManifest:
    settings = {
        "table": "marts.facts",
        "key": "id",
        "directory": database.parent.parent / "facts" / "g0001",
        "name": "facts",
        "generation": "g0001",
        "trained_through_batch": 1,
    }
    return freeze(database, **{**settings, **more})


def hold(database: Path) -> subprocess.Popen[str]:
    """A process that has the warehouse open for writing."""
    program = (
        f"import duckdb, time; c = duckdb.connect({str(database)!r}); "
        "c.execute('create table if not exists t as select 1'); print('held', flush=True); "
        "time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    return child


@pytest.mark.parametrize("damage", ["garbage", "half", "page", "log"])
def test_a_damaged_warehouse_makes_room_for_a_new_one(database: Path, damage: str) -> None:
    log, whole = Path(f"{database}.wal"), bytearray(database.read_bytes())
    if damage == "log":
        with duckdb.connect(str(database)) as connection:
            connection.execute("create table late as select range from range(1000)")
            torn = bytearray(log.read_bytes())
        database.write_bytes(whole)  # as a kill leaves them: the log is not in the file yet
        torn[len(torn) // 2] ^= 255
        log.write_bytes(torn)
    elif damage == "page":
        whole[5000] ^= 255
        database.write_bytes(whole)
    else:
        cut = whole[: len(whole) // 2]
        database.write_bytes(cut if damage == "half" else os.urandom(len(whole)))
    aside = set_aside_if_damaged(database)
    assert aside == database.with_name("warehouse.duckdb.damaged") and aside.exists()
    assert not database.exists() and not log.exists()
    assert Path(f"{aside}.wal").exists() == (damage == "log")
    change(database, "create table anew as select 1")
    assert set_aside_if_damaged(database) is None


def test_a_whole_or_held_warehouse_is_not_set_aside(database: Path) -> None:
    assert set_aside_if_damaged(database) is None
    assert set_aside_if_damaged(database.with_name("none.duckdb")) is None
    child = hold(database)
    try:
        with pytest.raises(WarehouseError, match="another process holds"):
            set_aside_if_damaged(database)
    finally:
        child.kill()
        child.communicate()
    assert read_table(database, "marts.facts").num_rows == 12


def test_the_read_copy_holds_tables_and_views_and_leaves_no_draft(
    database: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "read" / "warehouse.duckdb"
    copy.parent.mkdir()
    (copy.parent / ".0.warehouse-draft").write_text("left by a killed publisher")
    publish_read_copy(database, copy)
    relations = {'"warehouse"."marts"."facts"', "staging.seen"}
    assert row_counts(copy, relations) == {'"warehouse"."marts"."facts"': 12, "staging.seen": 4}
    assert os.listdir(copy.parent) == [copy.name]


def test_rows_that_a_crash_left_in_the_log_reach_the_copy(database: Path, tmp_path: Path) -> None:
    program = (
        f"import duckdb, os; c = duckdb.connect({str(database)!r}); "
        "c.execute('pragma disable_checkpoint_on_shutdown'); "
        "c.execute(\"insert into marts.facts select 'new', 'g', 'train', 0.0\"); os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", program], check=False)
    assert database.with_name("warehouse.duckdb.wal").exists()
    copy = tmp_path / "read" / "warehouse.duckdb"
    publish_read_copy(database, copy)
    assert row_counts(copy, {"marts.facts"}) == {"marts.facts": 13}


def test_a_copy_of_another_name_is_refused(database: Path, tmp_path: Path) -> None:
    with pytest.raises(WarehouseError, match="views store that name"):
        publish_read_copy(database, tmp_path / "copy.duckdb")


def test_a_warehouse_held_by_another_process_says_so(database: Path) -> None:
    child = hold(database)
    try:
        for attempt in (
            lambda: read_table(database, "marts.facts"),
            lambda: publish_read_copy(database, database.parent / "read" / "warehouse.duckdb"),
        ):
            with pytest.raises(WarehouseError, match="another process holds") as error:
                attempt()
            assert str(child.pid) in str(error.value)
    finally:
        child.kill()
        child.wait()
    assert read_table(database, "marts.facts").num_rows == 12


def test_a_missing_warehouse_table_or_column_is_named(database: Path, tmp_path: Path) -> None:
    with pytest.raises(WarehouseError, match="there is no warehouse at"):
        read_table(tmp_path / "no.duckdb", "marts.facts")
    with pytest.raises(WarehouseError, match=r"no table marts\.lies"):
        read_table(database, "marts.lies")
    with pytest.raises(WarehouseError, match="colour"):
        read_table(database, "marts.facts", ["id", "colour"])
    (tmp_path / "text.duckdb").write_text("not a database")
    with pytest.raises(WarehouseError, match="no readable warehouse"):
        read_table(tmp_path / "text.duckdb", "t")


def test_columns_are_read_in_the_order_asked(database: Path) -> None:
    assert read_table(database, "marts.facts", ["split", "id"]).column_names == ["split", "id"]


def test_what_is_screened_is_the_text_unless_other_words_are_named(database: Path) -> None:
    change(
        database,
        """
        create schema intermediate; create table intermediate.int_texts as
        select * from (values
            ('p', 1, 'prompt', ['s'], 'ask', 'be brief ask', false),
            ('r', 2, 'response', ['s'], 'so', null, false),
            ('t', 3, 'trajectory', ['s'], 'a listing', '', false),
            ('n', 4, 'response', ['s'], null, null, false),
            ('e', 5, 'prompt', ['s'], 'asked', null, true)
        ) as t(text_key, print, role, sources, text, screened_text, is_evaluation)
        """,
    )
    with open_texts_to_screen(database) as texts:
        rows = {row["place"]: row["text_key"] for row in texts.all().to_pylist()}
        parts = [*texts.fetch(pa.array(rows), 3), *texts.fetch(pa.array(list(rows)[1:2]))]
    said = [{rows[row["place"]]: row["text"] for row in part.to_pylist()} for part in parts]
    assert sum(map(len, said)) == 5 and said[-1] == {"r": "so"}
    every = {key: text for part in said for key, text in part.items()}
    assert every == {"p": "be brief ask", "r": "so", "t": "", "n": ""}


def test_freezing_twice_writes_once(database: Path) -> None:
    first = frozen(database)
    directory = database.parent.parent / "facts" / "g0001"
    written = (directory / "train.parquet").stat().st_mtime_ns
    assert frozen(database, trained_through_batch=9) == first, "the first freeze stands"
    assert (directory / "train.parquet").stat().st_mtime_ns == written
    assert first.rows_by_split == {"train": 4, "validation": 4, "test": 4}


def test_the_content_hash_depends_on_the_rows_and_not_on_their_order(
    database: Path, tmp_path: Path
) -> None:
    first = frozen(database)
    change(database, "create or replace table marts.facts as from marts.facts order by random()")
    assert frozen(database, directory=tmp_path / "b").content_hash == first.content_hash
    change(database, "update marts.facts set score = score + 1e-12 where id = 'k3'")
    assert frozen(database, directory=tmp_path / "c").content_hash != first.content_hash


def test_other_rows_under_a_frozen_generation_are_refused(database: Path) -> None:
    frozen(database)
    change(database, "delete from marts.facts where id = 'k3'")
    with pytest.raises(ManifestError, match="a generation never changes"):
        frozen(database)
    assert DatasetManifest.load(database.parent.parent / "facts" / "g0001").rows == 12


def test_a_damaged_dataset_is_not_taken_for_a_frozen_one(database: Path) -> None:
    frozen(database)
    (database.parent.parent / "facts" / "g0001" / "train.parquet").write_bytes(b"PAR1")
    with pytest.raises(ManifestError, match="frozen files never change"):
        frozen(database)


def test_a_freeze_killed_half_way_leaves_no_dataset_and_can_be_repeated(
    database: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "facts" / "g0001"
    program = (
        "import time; from pathlib import Path; import flywheel.warehouse.snapshot as f\n"
        "def stop(path): print('draft', flush=True); time.sleep(60)\n"
        "f._sync = stop\n"
        f"f.freeze(Path({str(database)!r}), table='marts.facts', key='id', "
        f"directory=Path({str(directory)!r}), name='facts', generation='g0001', "
        "trained_through_batch=1)"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "draft\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert os.listdir(directory.parent) == [".g0001.draft"]
    assert frozen(database).rows == 12
    assert os.listdir(directory.parent) == ["g0001"]


def on_a_full_disk(program: str, most_bytes: int) -> str:
    """Run a program that can write no file larger than this; the error it ends with."""
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limit += f"resource.setrlimit(resource.RLIMIT_FSIZE, ({most_bytes}, {most_bytes}))\n"
    done = subprocess.run(
        [sys.executable, "-c", limit + program], capture_output=True, text=True, check=False
    )
    return done.stderr.strip().splitlines()[-1]


def test_a_freeze_on_a_full_disk_names_the_remedy_and_leaves_nothing(
    database: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "facts" / "g0001"
    program = (
        "from pathlib import Path; from flywheel.warehouse import freeze\n"
        f"freeze(Path({str(database)!r}), table='marts.facts', key='id', "
        f"directory=Path({str(directory)!r}), name='facts', generation='g0001', "
        "trained_through_batch=1)"
    )
    error = on_a_full_disk(program, 500)
    assert error.startswith("flywheel.errors.WarehouseError: cannot write the dataset"), error
    assert "free some space" in error
    assert os.listdir(directory.parent) == []
    assert frozen(database).rows == 12, "the next run heals"


def test_a_read_copy_on_a_full_disk_leaves_the_last_one(database: Path, tmp_path: Path) -> None:
    copy = tmp_path / "read" / "warehouse.duckdb"
    publish_read_copy(database, copy)
    before = copy.read_bytes()
    program = (
        "from pathlib import Path; from flywheel.warehouse import publish_read_copy\n"
        f"publish_read_copy(Path({str(database)!r}), Path({str(copy)!r}))"
    )
    error = on_a_full_disk(program, 20_000)
    assert error.startswith("flywheel.errors.WarehouseError: "), error
    assert "free some space" in error
    assert os.listdir(copy.parent) == [copy.name]
    assert copy.read_bytes() == before
    publish_read_copy(database, copy)
    assert row_counts(copy, {"marts.facts"}) == {"marts.facts": 12}


def test_a_path_that_is_taken_is_named(database: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WarehouseError, match="cannot write the dataset"):
        frozen(database, directory=tmp_path / "file" / "g0001")
    half = tmp_path / "facts" / "g0001"
    half.mkdir(parents=True)
    (half / "train.parquet").write_text("without a manifest")
    with pytest.raises(WarehouseError, match="clear what lies at that path"):
        frozen(database, directory=half)
    with pytest.raises(WarehouseError, match="cannot write the read copy"):
        publish_read_copy(database, tmp_path / "file" / "warehouse.duckdb")


def test_an_empty_mart_freezes_unless_that_is_forbidden(database: Path) -> None:
    change(database, "delete from marts.facts")
    with pytest.raises(WarehouseError, match="nothing to freeze"):
        frozen(database, allow_empty=False)
    manifest = frozen(database)
    assert (manifest.rows, len(manifest.files)) == (0, 3)
    assert groups_in_two_splits(database.parent.parent / "facts" / "g0001") == []


def test_rows_freeze_where_every_licence_behind_them_is_permitted(database: Path) -> None:
    change(database, "alter table marts.facts add column licence varchar default 'MIT'")
    frozen(database, licences=["MIT"])
    change(
        database,
        "update marts.facts set licence = case id when 'k0' then null when 'k1' then "
        "'CC BY 4.0, attribution' when 'k2' then 'CC BY 4.0, attribution, MIT' else 'MIT' end",
    )
    directory = database.parent.parent / "facts" / "g0002"
    wanted = "attribution: 2 rows, e.g. k1, k2; CC BY 4.0: 2 rows, e.g. k1, k2; unknown: 1 rows"
    with pytest.raises(WarehouseError) as refused:
        frozen(database, directory=directory, licences=["MIT"])
    assert all(part in str(refused.value) for part in wanted.split("; ")), refused.value
    with pytest.raises(WarehouseError, match=r"unknown: 1 rows, e\.g\. k0; leave"):
        frozen(database, directory=directory, licences=["CC BY 4.0, attribution", "MIT"])
    with pytest.raises(WarehouseError, match=r"name: MIT: 10 rows, e\.g\. k10, k11, k2, k3, k4;"):
        frozen(database, directory=directory, licences=["CC BY 4.0, attribution", "unknown"])
    assert not directory.exists()
    permitted = ["CC BY 4.0, attribution", "unknown", "MIT"]
    manifest = frozen(database, directory=directory, licences=permitted)
    assert manifest.licences == {
        "CC BY 4.0, attribution": 1,
        "CC BY 4.0, attribution, MIT": 1,
        "MIT": 9,
        "unknown": 1,
    }


def test_a_mart_without_licences_freezes_only_where_unknown_is_permitted(database: Path) -> None:
    with pytest.raises(WarehouseError, match="unknown: 12 rows"):
        frozen(database, licences=["MIT"])
    assert frozen(database, licences=["MIT", "unknown"]).rows == 12
    other = database.parent.parent / "facts" / "g0002"
    assert frozen(database, directory=other).rows == 12, "nothing is asked where nothing is named"


def test_a_mart_without_splits_is_all_test(database: Path, tmp_path: Path) -> None:
    change(database, "create table marts.prompts as select id, group_id from marts.facts")
    manifest = frozen(database, table="marts.prompts", directory=tmp_path / "p")
    assert manifest.rows_by_split == {"test": 12}
    assert read_split(tmp_path / "p", "test").column_names == ["id", "group_id"]


def test_a_group_in_two_splits_is_reported(database: Path, tmp_path: Path) -> None:
    change(database, "update marts.facts set split = 'test' where id = 'k0'")
    frozen(database, directory=tmp_path / "leaky")
    assert groups_in_two_splits(tmp_path / "leaky") == ["g0"]


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("update marts.facts set id = 'k1' where id = 'k2'", "must name each row"),
        ("update marts.facts set id = null where id = 'k2'", "must name each row"),
        ("update marts.facts set split = 'dev' where id = 'k2'", "must be one of"),
        ("alter table marts.facts rename id to name", "no column id"),
        ("drop view staging.seen; drop table marts.facts", "no table"),
    ],
)
def test_a_mart_that_cannot_be_frozen_is_refused(database: Path, sql: str, words: str) -> None:
    change(database, sql)
    with pytest.raises(WarehouseError, match=words):
        frozen(database)
    assert not (database.parent.parent / "facts" / "g0001").exists()


def test_texts_that_an_older_version_built_are_to_be_built_again(database: Path) -> None:
    change(database, "create schema intermediate; create table intermediate.int_texts (text text)")
    for open_them in (open_texts, open_texts_to_screen):
        with pytest.raises(WarehouseError, match="has no prints"), open_them(database):
            pass
