import gzip
import os
import re
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from flywheel.ingest import land
from flywheel.labels import weigh_labels
from flywheel.lake import ensure
from flywheel.layout import Layout
from flywheel.warehouse import read_table
from tests.small_lake import PROJECT, dbt, key, write_lake

DOCUMENT = Path(__file__).parent.parent / "docs" / "adding_a_source.md"
SHARED = Path(os.environ.get("FLYWHEEL_SHARED_DATA", PROJECT.parent.parent / "shared" / "data"))
REAL = SHARED / "ukp_convarg1" / "pairs.jsonl.gz"
MODELS = PROJECT / "models"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(), re.S)


def landed(root: Path, file: Path) -> Layout:
    layout = Layout(root)
    ensure(layout)
    target = layout.inbox / "ukp_convarg1" / file.name
    target.parent.mkdir(parents=True)
    shutil.copy(file, target)
    land([target], layout, log=lambda _: None)
    return layout


def test_the_document_shows_the_models_as_they_are() -> None:
    staging, union = blocks("sql")
    assert staging == (MODELS / "staging" / "ukp" / "stg_ukp__comparisons.sql").read_text()
    assert union in (MODELS / "intermediate" / "int_comparisons_unioned.sql").read_text()
    labels = (MODELS / "intermediate" / "int_labels_unioned.sql").read_text()
    assert "'ukp__comparisons'" in labels
    (reader,) = re.findall(r"`(\('ukp_convarg1', '\w+'\))`", DOCUMENT.read_text())
    assert reader in (PROJECT / "tests" / "assert_every_raw_row_is_read.sql").read_text()


def test_the_row_of_the_document_lands_untouched_as_a_raw_source(tmp_path: Path) -> None:
    (example,) = blocks("json")
    file = tmp_path / "pairs.jsonl"
    file.write_text(example)
    layout = landed(tmp_path / "home", file)
    (row,) = (
        row
        for path in layout.raw("ukp_convarg1").glob("*.parquet")
        for row in pq.read_table(path).to_pylist()
    )
    assert (row["source"], row["line_no"]) == ("ukp_convarg1", 1)
    assert msgspec.json.decode(row["record"]) == msgspec.json.decode(example)


def test_raw_rows_of_another_shape_are_counted_and_stop_nothing(tmp_path: Path) -> None:
    (example,) = blocks("json")
    pair = msgspec.json.decode(example)
    undated = [label | {"submitted": "yesterday"} for label in pair["labels"]]
    raw = [
        pair | {"labels": undated},
        pair | {"pair_id": "2", "labels": None},
        pair | {"pair_id": "3", "labels": "none"},
        {("argument1" if name == "arg1" else name): value for name, value in pair.items()},
    ]
    layout = write_lake(tmp_path, [], raw=raw)
    said = dbt(layout, "build", "--exclude", "tag:after_dedup", "test_type:unit")
    assert "WARN 3 assert_every_raw_row_is_read" in said
    votes = read_table(layout.warehouse, "staging.stg_ukp__comparisons").to_pylist()
    assert {(vote["choice"], vote["occurred_at"]) for vote in votes} == {("a", None), ("tie", None)}
    assert len(votes) == 2


def test_a_raw_source_that_no_model_reads_yet_is_no_loss(tmp_path: Path) -> None:
    layout = write_lake(tmp_path, [], raw=[{"text": "of some table"}], raw_source="forum")
    said = dbt(
        layout,
        "build",
        *("--select", "+assert_every_raw_row_is_read", "--indirect-selection", "buildable"),
    )
    assert "PASS assert_every_raw_row_is_read" in said


@pytest.mark.slow
@pytest.mark.skipif(not REAL.exists(), reason=f"UKPConvArg1 is not at {REAL}")
def test_the_crowd_of_ukp_agrees_with_its_published_gold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = landed(tmp_path, REAL)
    dbt(layout, "build", "--exclude", "tag:after_dedup", "test_type:unit")
    votes = read_table(layout.warehouse, "staging.stg_ukp__comparisons", ["record_uid", "choice"])
    assert votes.num_rows == 65_003, "one comparison per label"
    assert votes["choice"].null_count == 0
    weigh_labels(layout.warehouse, layout, log=lambda _: None)
    weighed = pq.read_table(layout.derived("pair_posteriors")).to_pylist()
    chances = {one["pair_key"]: one["probability_a"] for one in weighed}
    table = read_table(layout.warehouse, "intermediate.int_votes_counted_by_pair")
    pairs = {(p["response_a_key"], p["response_b_key"]): p for p in table.to_pylist()}
    plurality, weighted = [], []
    for line in _real_rows():
        sides = [key(line[side]["text"]) for side in ("arg1", "arg2")]
        found = pairs.get((min(sides), max(sides)))
        if found is None or line["gold_label"] not in ("a1", "a2", "equal"):
            continue
        better = {"a1": sides[0], "a2": sides[1]}.get(line["gold_label"])
        counts = [found["votes_a"], found["votes_b"], found["ties"]]
        named = [found["response_a_key"], found["response_b_key"], None]
        plurality.append(named[int(np.argmax(counts))] == better)
        if better is not None:
            liked = chances[found["pair_key"]] > 0.5
            weighted.append(named[0 if liked else 1] == better)
    with capsys.disabled():
        print(
            f"\nUKPConvArg1: {votes.num_rows} labels, {len(pairs)} pairs, plurality agrees with "
            f"gold on {np.mean(plurality):.3f} of {len(plurality)}, probability_a with decided "
            f"gold on {np.mean(weighted):.3f} of {len(weighted)}"
        )
    assert np.mean(plurality) > 0.87
    assert np.mean(weighted) > 0.96


def _real_rows() -> list[dict[str, dict[str, str]]]:
    with gzip.open(REAL, "rt") as file:
        return [msgspec.json.decode(line) for line in file]
