"""What stands after many landings: what is blocked, what was left alone, and what was new."""

import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest

from assets.keys import LANDED, QUARANTINE
from assets.landing import landing
from assets.resources import Home
from flywheel.ingest import (
    BatchManifest,
    land,
    landing_counts,
    left_alone,
    quarantine_reasons,
    read_batches,
    unaccounted,
)
from flywheel.layout import Layout
from flywheel.turn import status_of

GOOD = b'{"kind":"demonstration","prompt":"p","response":"r"}\n'


@pytest.fixture
def home(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "var")
    layout.inbox.mkdir(parents=True)
    return layout


def put(layout: Layout, name: str, content: bytes) -> Path:
    path = layout.inbox / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (time.time() - 120,) * 2)  # so old that nobody can be writing it
    return path


def land_all(layout: Layout, **options: Any) -> list[BatchManifest]:
    return land([layout.inbox], layout, **{"log": lambda _: None, **options})


# ---- blocked ----------------------------------------------------------------------------------


def test_a_file_is_blocked_no_longer_once_it_is_repaired_or_removed(home: Layout) -> None:
    put(home, "x.jsonl", GOOD + b"broken\n")
    gone = put(home, "y.jsonl", b"broken too\n")
    land_all(home)
    assert [one["file"] for one in status_of(home)["blocked"]] == ["x.jsonl", "y.jsonl"]
    assert quarantine_reasons(home) == {"invalid_json": 2}
    put(home, "x.jsonl", GOOD + b"broken still\n")
    land_all(home)
    assert [one["file"] for one in status_of(home)["blocked"]] == ["y.jsonl", "x.jsonl"]
    assert quarantine_reasons(home) == {"invalid_json": 2}  # not the old line of x and the new
    put(home, "x.jsonl", GOOD * 2)
    land_all(home)
    gone.unlink()
    status = status_of(home)
    assert status["blocked"] == [] and status["quarantined"]["total"] == 0
    assert status["batches"] == len(read_batches(home)) == 4  # kept for who asks later
    assert len(list(home.quarantine.glob("b*.parquet"))) == 3


def test_a_file_that_landed_in_part_keeps_its_quarantined_lines_when_it_is_gone(
    home: Layout,
) -> None:
    put(home, "x.jsonl", GOOD * 9 + b"broken\n").rename(home.inbox / "z.jsonl")
    land_all(home)
    (home.inbox / "z.jsonl").unlink()
    assert quarantine_reasons(home) == {"invalid_json": 1}


# ---- left alone -------------------------------------------------------------------------------


def test_every_file_that_a_landing_leaves_is_named_with_the_reason_until_the_next_one(
    home: Layout,
) -> None:
    for name in ("more.txt", "y.jsonl.part", ".hidden.jsonl"):
        put(home, name, GOOD)
    os.utime(put(home, "desk/x.csv", b"question,answer\nq,a"))
    put(home, "secret.jsonl", GOOD * 2).chmod(0)
    os.mkfifo(home.inbox / "pipe.jsonl")
    (home.inbox / "gone.jsonl").symlink_to("nowhere")
    (home.inbox / "fresh.jsonl").write_bytes(GOOD * 3)
    assert left_alone(home) == []
    land_all(home, quiet_seconds=30)
    reasons = {one["file"]: one["reason"] for one in left_alone(home)}
    told = {
        "more.txt": "does not end like data",
        "y.jsonl.part": "ends like a draft",
        "desk/x.csv": "may still be being written",
        "fresh.jsonl": "may still be being written",
        "pipe.jsonl": "neither a file nor a folder",
        "gone.jsonl": "a link to nowhere",
    }
    if os.geteuid():  # nothing is kept from root
        told["secret.jsonl"] = "cannot be read: Permission denied"
    assert reasons.keys() == told.keys()
    assert [name for name, part in told.items() if part not in reasons[name]] == []
    land([home.inbox / "more.txt"], home, log=lambda _: None)
    assert left_alone(home) == []


# ---- new --------------------------------------------------------------------------------------


def test_of_a_file_that_grew_or_came_in_another_form_only_what_is_new_counts(home: Layout) -> None:
    rows = [f'{{"question":"q{n}","answer":"a"}}\n' for n in range(600)]
    put(home, "x.jsonl", "".join(rows).encode())
    land_all(home)
    put(home, "x.jsonl", "".join([*rows, '{"question":"new","answer":"a"}\n']).encode())
    put(home, "y.csv", b"question,answer\nq1,a\nother,a\nother,b\n")
    grown, other = land_all(home)
    assert grown.rows_by_kind == {"demonstration": 601} and grown.new_rows_by_kind == {
        "demonstration": 1
    }
    assert other.new_rows_by_kind == {"demonstration": 2}
    assert landing_counts(home)["demonstration"] == 603


def test_a_manifest_that_does_not_say_what_was_new_counts_whole(home: Layout) -> None:
    put(home, "x.jsonl", GOOD * 2)
    (batch,) = land_all(home)
    facts = asdict(batch)
    del facts["new_rows_by_kind"]
    (home.batches / f"{batch.batch_id}.json").write_text(json.dumps(facts))
    assert read_batches(home) == [batch] and landing_counts(home)["demonstration"] == 2


# ---- checks -----------------------------------------------------------------------------------


def test_rows_that_the_lake_has_lost_or_got_twice_are_noticed(home: Layout) -> None:
    put(home, "x.jsonl", GOOD * 9 + b"broken\n")
    put(home, "s/raw.jsonl", b'{"a":1}\n' * 2)
    put(home, "blocked.jsonl", b"broken\n")
    land_all(home)
    assert unaccounted(home) == []
    for path in sorted(home.lake.rglob("b0*.parquet")):
        table, whole = pq.read_table(path), path.read_bytes()
        pq.write_table(table.slice(1), path)
        assert len(unaccounted(home)) == 1
        path.unlink()
        assert len(unaccounted(home)) == 1
        path.write_bytes(whole)
    assert unaccounted(home) == []


def checks(layout: Layout) -> dict[tuple[dg.AssetKey, str], dg.AssetCheckEvaluation]:
    home = Home(root=str(layout.root))
    done = dg.materialize([landing], resources={"home": home}, raise_on_error=False)
    return {(one.asset_key, one.check_name): one for one in done.get_asset_check_evaluations()}


def test_a_run_that_lands_nothing_shows_the_checks_of_the_newest_batch_and_of_the_lake(
    home: Layout,
) -> None:
    put(home, "x.jsonl", GOOD * 9 + GOOD.replace(b'"r"', b'" "'))
    said = (LANDED["demonstration"], "response_says_something")
    for _ in range(2):
        found = checks(home)
        assert not found[said].passed
        assert found[said].metadata["checked"].value == 10
        assert found[QUARANTINE, "every_line_accounted_for"].passed
    next(home.landing("demonstration").glob("b0*.parquet")).unlink()
    assert not checks(home)[QUARANTINE, "every_line_accounted_for"].passed
