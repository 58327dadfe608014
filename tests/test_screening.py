"""Texts are looked through once, and the marks are those of looking through all of them."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flywheel.layout import Layout
from flywheel.privacy import Policy, screen_texts

SAID = ["write to jo@mail.desk", "call +44 20 7946 0958", "so it is", "from 85.214.132.117", ""]
EXCLUDE = Policy()


class Held:
    """Texts as a warehouse holds them; `read` are those that somebody asked for."""

    def __init__(self) -> None:
        self.said: dict[str, tuple[str, list[str]]] = {}  # id -> text and its sources
        self.read: set[str] = set()

    def all(self) -> pa.Table:
        rows = [
            {"text_key": one, "role": "prompt", "print": hash(text) % 2**63, "place": place}
            for place, (one, (text, _)) in enumerate(self.said.items())
        ]
        fields = [(name, pa.string()) for name in ("text_key", "role")]
        return pa.Table.from_pylist(
            rows, pa.schema([*fields, ("print", pa.uint64()), ("place", pa.int64())])
        )

    def fetch(self, places: pa.Array) -> Iterator[pa.Table]:
        names = list(self.said)
        for place in reversed(places.to_pylist()):  # in any order
            self.read.add(names[place])
            text, sources = self.said[names[place]]
            yield pa.table({"place": [place], "sources": [sources], "text": [text]})


def screened(texts: Held, root: Path, policy: Policy = EXCLUDE) -> tuple[Any, list[Any], set[str]]:
    """What was found, the marks, and the texts that were read for them."""
    layout, texts.read = Layout(root), set()
    found = screen_texts(texts, layout, policy, log=lambda _: None)
    return found, pq.read_table(layout.derived("personal_data")).to_pylist(), texts.read


@pytest.mark.parametrize("seed", range(5))
def test_marks_of_texts_that_come_go_and_change_are_those_of_all_at_once(
    tmp_path: Path, seed: int
) -> None:
    draw, texts = random.Random(seed), Held()
    for round in range(8):
        for _ in range(draw.randrange(6)):
            sources = draw.sample(["desk", "forum"], draw.randrange(1, 3))
            texts.said[f"t{draw.randrange(12)}"] = (draw.choice(SAID), sources)
        for gone in draw.sample(list(texts.said), len(texts.said) // 4):
            del texts.said[gone]
        policy = draw.choice([EXCLUDE, Policy(sources={"forum": "allow"}), Policy(kinds=("ip",))])
        here = screened(texts, tmp_path / "here", policy)
        assert here[:2] == screened(texts, tmp_path / str(round), policy)[:2]


def test_only_new_texts_and_those_that_hold_something_are_read(tmp_path: Path) -> None:
    texts = Held()
    texts.said = {f"t{number}": (text, ["desk"]) for number, text in enumerate(SAID)}
    first, marks, read = screened(texts, tmp_path)
    assert read == {"t0", "t1", "t2", "t3", "t4"} and first.marked == 3
    texts.said["t4"] = ("and so", ["desk"])
    texts.said["t5"] = ("so be it", ["desk"])
    texts.said["t6"] = ("so it is", ["forum"])  # as t2 does
    assert screened(texts, tmp_path)[2] == {"t4", "t5", "t0", "t1", "t3"}
    assert screened(texts, tmp_path, Policy(kinds=("email",)))[2] == texts.said.keys()
    (tmp_path / "text_index" / "screened.parquet").write_bytes(b"torn")
    assert screened(texts, tmp_path)[2] == texts.said.keys()
    assert screened(texts, tmp_path)[1][:4] == marks[:4]
