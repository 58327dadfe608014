"""The index on disk: equal to comparing everything at once, however texts came and went."""

import json
import random
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.dedup import index as index_module
from flywheel.dedup.index import TextIndex
from flywheel.dedup.join import similar_pairs
from tests.benchmarks.dedup_corpus import corpus

Pairs = list[tuple[str, str, float]]


def prints_of(texts: Sequence[str]) -> np.ndarray:
    return np.array([zlib.crc32(text.encode()) for text in texts], np.uint64)


class Shelf:
    """Texts by id, an index of them, and what the index asked to read."""

    def __init__(self, folder: Path, threshold: float = 0.8) -> None:
        self.texts: dict[str, str] = {}
        self.read: list[str] = []
        self.said: list[str] = []
        self.index = TextIndex(folder, threshold, self.said.append)

    def fetch(self, ids: pa.Array) -> Iterator[tuple[pa.Array, pa.Array]]:
        """In parts, and in another order than asked for."""
        wanted = ids.to_pylist()[::-1]
        self.read += wanted
        for start in range(0, len(wanted), 70):
            some = wanted[start : start + 70]
            yield pa.array(some), pa.array([self.texts[one] for one in some])

    def update(self) -> Pairs:
        ids = sorted(self.texts)
        self.read = []
        found = self.index.update(ids, prints_of([self.texts[i] for i in ids]), self.fetch)
        return [(ids[a], ids[b], s) for a, b, s in zip(*map(np.ndarray.tolist, found), strict=True)]

    def at_once(self) -> Pairs:
        ids = sorted(self.texts)
        found = similar_pairs([self.texts[i] for i in ids], self.index.threshold)
        return [(ids[a], ids[b], s) for a, b, s in zip(*map(np.ndarray.tolist, found), strict=True)]


TEXTS = {f"t{place:05}": text for place, text in enumerate(corpus(1200, seed=3))}


@pytest.mark.parametrize("batches", [1, 4, 7, 20])
@pytest.mark.parametrize("first", [0, 200])
def test_pairs_do_not_depend_on_how_texts_were_cut_into_batches(
    tmp_path: Path, batches: int, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "GROWTH", 1000)  # the order of the first batch, for ever
    shelf = Shelf(tmp_path)
    ids = list(TEXTS)
    random.Random(batches).shuffle(ids)
    cuts = [ids[:first], *(ids[first:][step::batches] for step in range(batches))]
    for cut in cuts:
        shelf.texts |= {one: TEXTS[one] for one in cut}
        found = shelf.update()
    assert found == shelf.at_once()
    assert len(found) > 80


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_history_of_coming_going_and_changing_ends_as_if_compared_at_once(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    words = st.lists(st.sampled_from("abcdef"), max_size=12).map(" ".join)
    shelf = Shelf(tmp_path_factory.mktemp("index"), data.draw(st.sampled_from([0.6, 0.8, 1.0])))
    for _ in range(data.draw(st.integers(1, 5))):
        for one in data.draw(st.lists(st.sampled_from(sorted(shelf.texts) or ["-"]), max_size=3)):
            shelf.texts.pop(one, None)
        shelf.texts |= data.draw(
            st.dictionaries(st.sampled_from("klmnopqrstuv"), words, max_size=6)
        )
        assert shelf.update() == shelf.at_once()


def test_a_new_text_costs_reading_itself_and_what_may_be_like_it(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.texts = dict(TEXTS)
    shelf.update()
    assert len(shelf.read) == len(TEXTS)
    shelf.update()
    assert shelf.read == [], "nothing came, nothing is read"
    shelf.texts["new"] = TEXTS["t00004"] + " besides"
    assert shelf.update() == shelf.at_once()
    assert {"new", "t00004"} <= set(shelf.read)
    assert len(shelf.read) < 20
    assert shelf.index.compared == 1


def test_a_text_that_is_erased_leaves_no_shingle_behind(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.texts = {
        "a": "one two three four",
        "b": "five six seven eight",
        "c": "one two three four",
    }
    assert [pair[:2] for pair in shelf.update()] == [("a", "c")]
    before = postings(tmp_path)
    del shelf.texts["b"], shelf.texts["c"]
    assert shelf.update() == []
    assert len(postings(tmp_path)) == len(before) - 2
    assert b"five" not in b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    shelf.texts["c"] = "one two three four"
    assert [pair[:2] for pair in shelf.update()] == [("a", "c")], "and may come again"


def postings(folder: Path) -> list[int]:
    return [one for path in folder.glob("*/hash.npy") for one in np.load(path).tolist()]


def test_an_index_of_another_version_is_built_again_and_the_log_says_why(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.texts = {"a": "one two three four", "b": "one two three four five"}
    assert shelf.update() == []
    lower = Shelf(tmp_path, threshold=0.6)
    lower.texts = shelf.texts
    assert len(lower.update()) == 1
    assert "'threshold': 0.8" in lower.said[0]


@pytest.mark.parametrize("damage", ["manifest", "postings", "texts", "frequency"])
def test_a_damaged_index_is_built_again(tmp_path: Path, damage: str) -> None:
    shelf = Shelf(tmp_path)
    shelf.texts = dict(list(TEXTS.items())[:300])
    expected = shelf.update()
    manifest = json.loads((tmp_path / "index.json").read_text())
    torn = {
        "manifest": tmp_path / "index.json",
        "postings": tmp_path / manifest["segments"][0] / "hash.npy",
        "texts": tmp_path / manifest["segments"][0] / "texts.parquet",
        "frequency": tmp_path / manifest["frequency_file"],
    }[damage]
    torn.write_bytes(torn.read_bytes()[:50])
    assert shelf.update() == expected
    assert "built again" in shelf.said[0]


def test_the_order_is_frozen_anew_when_the_index_has_grown(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.texts = dict(list(TEXTS.items())[:100])
    shelf.update()
    shelf.texts = dict(list(TEXTS.items())[:300])
    shelf.update()
    assert json.loads((tmp_path / "index.json").read_text())["frozen"] == 100
    shelf.texts = dict(list(TEXTS.items())[:500])
    assert shelf.update() == shelf.at_once()
    assert json.loads((tmp_path / "index.json").read_text())["frozen"] == 500


UPDATER = """
import sys
from pathlib import Path
from tests.test_dedup_index import TEXTS, Shelf
shelf = Shelf(Path(sys.argv[1]))
ids = list(TEXTS)
print("ready", flush=True)
for step in range(40):
    shelf.texts = {one: TEXTS[one] for one in ids[10 * step : 400 + 10 * step]}
    shelf.update()
"""


def test_an_update_that_is_killed_at_any_time_leaves_an_index_that_works(tmp_path: Path) -> None:
    rng = random.Random(1)
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", UPDATER, str(tmp_path)],
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.uniform(0.02, 0.6))
        process.send_signal(signal.SIGKILL)
        process.wait()
        shelf = Shelf(tmp_path)
        shelf.texts = {one: TEXTS[one] for one in list(TEXTS)[:450]}
        assert shelf.update() == shelf.at_once()
        assert not [line for line in shelf.said if "cannot be read" in line]
        assert len(list(tmp_path.iterdir())) <= 2 + 10, "what was left half done is removed"
