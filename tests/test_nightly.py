"""What dbt takes in batch by batch is what it makes of the whole lake at once."""

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from flywheel.ingest import land
from flywheel.lake import ensure
from flywheel.layout import Layout
from tests.small_lake import PROJECT
from tests.test_dbt_project import PAIR

GROWING = {
    "stg_landing__events",
    "int_labels_unioned",
    "int_records_consented",
    "int_comparisons_deduplicated",
    "int_votes_counted_by_pair",
    "int_texts",
}
BEFORE_DEDUP = ("--select", *(f"+{name}" for name in sorted(GROWING)), "+int_batches_staged")
PROGRAM = """
import json, os, sys
from dbt.adapters.duckdb.connections import DuckDBConnectionManager
from dbt.cli.main import dbtRunner
said = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
manifests = {}
for line in sys.stdin:
    asked = json.loads(line)
    os.environ.update(asked["environment"])
    project = asked["project"]
    if asked["parse"] or project not in manifests:
        parse = ["--quiet", "parse", "--no-partial-parse", "--project-dir", project]
        parsed = dbtRunner().invoke(parse)
        manifests[project] = parsed.result
    runner = dbtRunner(manifest=manifests[project])
    done = runner.invoke(["--quiet", *asked["arguments"], "--project-dir", project])
    DuckDBConnectionManager.close_all_connections()
    results = done.result.results if done.result else []
    sql = {one.node.name: one.node.compiled_code or "" for one in results}
    told = {
        "success": done.success,
        "grew": [name for name, text in sql.items() if "batch_id > '" in text],
        "trouble": str(done.exception or [one.message for one in results if one.status == "error"]),
    }
    print(json.dumps(told), file=said, flush=True)
"""


class Dbt:
    """One process in which dbt runs again and again: it is imported and parses once."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.edited = False
        self.project = PROJECT
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=PROJECT,
        )

    def run(self, database: Path, *arguments: str) -> set[str]:
        """Run dbt; the names of the models that took in new batches alone."""
        assert self.process.stdin and self.process.stdout
        environment = {
            "FLYWHEEL_LAKE": str(self.layout.lake),
            "FLYWHEEL_WAREHOUSE": str(database),
            "DBT_TARGET_PATH": str(self.layout.root / "target"),
            "DBT_LOG_PATH": str(self.layout.root / "logs"),
        }
        asked = {
            "environment": environment,
            "arguments": ["run", *arguments],
            "project": str(self.project),
            "parse": self.edited,
        }
        self.edited = False
        database.parent.mkdir(parents=True, exist_ok=True)
        print(json.dumps(asked), file=self.process.stdin, flush=True)
        done = json.loads(self.process.stdout.readline())
        assert done["success"], done["trouble"]
        return set(done["grew"])


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    found = Layout(tmp_path)
    ensure(found)
    return found


@pytest.fixture
def copied(dbt: Dbt, tmp_path: Path) -> Dbt:
    """dbt on a copy of the project, to be edited."""
    dbt.project = tmp_path / "dbt_project"
    shutil.copytree(PROJECT, dbt.project, ignore=shutil.ignore_patterns("target", "logs"))
    return dbt


@pytest.fixture
def dbt(layout: Layout) -> Iterator[Dbt]:
    made = Dbt(layout)
    yield made
    made.process.kill()
    made.process.communicate()


def deliver(layout: Layout, name: str, lines: Sequence[dict[str, Any]]) -> None:
    """Land lines as a batch of their own."""
    path = layout.inbox / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (batch,) = land([path], layout, log=lambda _: None)
    assert not batch.blocked and batch.rows == len(lines), batch


def files_of(layout: Layout, number: int) -> list[Path]:
    return sorted(layout.lake.glob(f"*/*/b{number:06d}-*.parquet"))


def drawn(draw: random.Random, count: int) -> Iterator[dict[str, Any]]:
    """Feedback of few people on few texts, so that all of it meets what was said before."""

    def words(kind: str) -> str:
        # of one key, and not the same words
        return f"{kind} {draw.randrange(6)}" + draw.choice(["", "", " ", "\n"])

    for _ in range(count):
        kind = draw.choice([*["comparison"] * 6, *OTHERS])
        line: dict[str, Any] = {"kind": kind, "prompt": words("ask")}
        if draw.random() < 0.8:
            line["annotator_id"] = draw.choice("abc")
        if draw.random() < 0.6:
            line["occurred_at"] = f"2026-01-0{draw.randrange(1, 5)}T10:00:00Z"
        if draw.random() < 0.3:
            line["group"] = draw.choice(["lamps", "desks"])
        if draw.random() < 0.2:
            line["metadata"] = {"consent": "c1", "gold": draw.random() < 0.5}
        if draw.random() < 0.3:
            line["prompt"] = [
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": line["prompt"]},
            ]
        if draw.random() < 0.3:
            line["licence"] = draw.choice(["MIT", "CC0-1.0"])
        if draw.random() < 0.5:
            line["cost_usd"] = draw.randrange(1, 9) / 4
        yield line | OTHERS.get(kind, compared)(draw, words)


def compared(draw: random.Random, words: Any) -> dict[str, Any]:
    return {
        "response_a": words("say"),
        "response_b": words("say"),
        "choice": draw.choice(["a", "a", "b", "tie"]),
        "domain": draw.choice(["x", "y"]),
        "model_a": draw.choice(["m", "n"]),
    }


OTHERS: dict[str, Any] = {
    "ranking": lambda draw, words: {
        "responses": [words("say") for _ in range(3)],
        "ranks": [1, 2, 2],
    },
    "critique": lambda draw, words: {
        "response": words("say"),
        "critique": "vague",
        "corrected_response": words("say"),
    },
    "interaction": lambda draw, words: {
        "response": words("say"),
        "model": "m",
        "edited_response": words("say"),
    },
    "demonstration": lambda draw, words: {"response": words("say")},
    "rating": lambda draw, words: {
        "response": words("say"),
        "rating": draw.randrange(1, 6),
        "rating_min": 1,
        "rating_max": 5,
    },
    "evaluation_prompt": lambda draw, words: {
        "evaluation_set": draw.choice(["desk-v1", "lamp-v1"]),
        "grader": "g",
    },
    "trajectory": lambda draw, words: {
        "steps": [{"role": "assistant", "content": words("do")}],
        "outcome": draw.choice(["passed", "failed"]),
        "task_id": draw.choice(["t1", "t2"]),
        "trial": draw.randrange(2),
    },
}


def assert_same(database: Path, other: Path) -> None:
    """Every table and view holds the same rows in both, in whatever order."""
    with duckdb.connect() as connection:
        connection.execute(f"attach '{database}' as warehouse (read_only)")
        connection.execute(f"attach '{other}' as whole (read_only)")
        tables = connection.sql(
            "select schema_name || '.' || table_name from duckdb_tables() "
            "where database_name = 'whole' and table_name <> 'lake_now' order by 1"
        ).fetchall()
        assert len(tables) > len(GROWING)
        for (table,) in tables:
            for one, another in (("warehouse", "whole"), ("whole", "warehouse")):
                left = connection.sql(
                    f"from {one}.{table} except all select * from {another}.{table}"
                )
                assert left.fetchall() == [], f"{table}: only in {one}"


def build(dbt: Dbt, *arguments: str) -> set[str]:
    """Build the warehouse, hold it against one that is built anew, and tell what grew."""
    database = dbt.layout.root / "growing" / "warehouse.duckdb"
    grew = dbt.run(database, *BEFORE_DEDUP, *arguments)
    whole = dbt.layout.root / "whole" / "warehouse.duckdb"
    whole.unlink(missing_ok=True)
    assert dbt.run(whole, *BEFORE_DEDUP) == set()
    assert_same(database, whole)
    return grew


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_batches_one_by_one_come_to_the_tables_of_all_at_once(
    dbt: Dbt, layout: Layout, seed: int
) -> None:
    draw = random.Random(seed)
    first = list(drawn(draw, 60))
    deliver(layout, "desk/1.jsonl", first)
    assert build(dbt) == set(), "there is nothing to add to yet"
    deliver(layout, "desk/2.jsonl", list(drawn(draw, 25)))
    deliver(layout, "shop/3.jsonl", [*draw.sample(first, 9), *drawn(draw, 9)])
    assert build(dbt) == GROWING
    assert build(dbt) == GROWING, "and where nothing came, nothing changes"
    deliver(layout, "desk/1.jsonl", [*first, *drawn(draw, 5)])  # a file that grew
    assert build(dbt) == GROWING

    erased = files_of(layout, 2)
    for path in erased:
        rows = pq.read_table(path)
        pq.write_table(rows.slice(1), path)
    assert build(dbt) == set(), "rows were erased"
    deliver(layout, "desk/5.jsonl", list(drawn(draw, 9)))
    assert build(dbt) == GROWING
    for path in files_of(layout, 3):
        path.unlink()
    assert build(dbt) == set(), "a batch is gone"
    deliver(layout, "ukp_convarg1/6.jsonl", [PAIR])
    assert build(dbt) == set(), "SQL may read a raw row as it likes"
    deliver(layout, "consents/7.jsonl", [{"consent_id": "c1", "withdrawn": True}])
    deliver(layout, "desk/8.jsonl", list(drawn(draw, 9)))
    assert build(dbt) == GROWING


def test_what_comes_in_amid_a_run_and_a_run_without_rows_are_followed_by_a_full_build(
    copied: Dbt, layout: Layout
) -> None:
    database = layout.root / "growing" / "warehouse.duckdb"
    draw = random.Random(3)
    first = list(drawn(draw, 20))
    deliver(layout, "desk/1.jsonl", first)
    copied.run(database, *BEFORE_DEDUP)

    deliver(layout, "desk/2.jsonl", [*first[:9], *drawn(draw, 9)])
    copied.run(database, *BEFORE_DEDUP, "--empty")
    assert build(copied) == set()

    settings = copied.project / "dbt_project.yml"
    whole = settings.read_text()
    settings.write_text(whole.replace("on-run-start", "# on-run-start", 1))
    copied.edited = True
    deliver(layout, "desk/3.jsonl", [*first[:9], *drawn(draw, 9)])  # nobody noted it at the start
    copied.run(database, *BEFORE_DEDUP, "--exclude", "stg_landing__events")
    settings.write_text(whole)
    copied.edited = True
    assert "stg_landing__events" in build(copied)


@pytest.mark.slow
def test_an_edit_or_a_table_that_was_built_alone_is_followed_by_a_full_build(
    copied: Dbt, layout: Layout
) -> None:
    database = layout.root / "growing" / "warehouse.duckdb"
    draw = random.Random(2)
    deliver(layout, "desk/1.jsonl", list(drawn(draw, 20)))
    build(copied)
    deliver(layout, "desk/2.jsonl", list(drawn(draw, 20)))
    # from tables that know nothing of the second batch
    copied.run(database, "--select", "int_texts")
    assert build(copied) == GROWING - {"int_texts"}
    macro = copied.project / "macros" / "opening.sql"
    macro.write_text(macro.read_text().replace("'opening '", "'begins '"))
    copied.edited = True
    assert build(copied) == set()
    assert build(copied) == GROWING
