# ruff: noqa: RUF001
"""The C kernel and its numpy fallback: equal to each other, and both equal to the definition."""

import gzip
import itertools
import json
import random
import subprocess
import sys
import unicodedata
from functools import cache
from itertools import combinations
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.dedup import arrays, kernel
from flywheel.dedup.engine import (
    frequencies,
    prefixes,
    sets_on_disk,
    shingle_sets,
    signatures,
)
from flywheel.dedup.join import meet, similar_pairs, similar_sets
from flywheel.dedup.sets import Sets, joined, words_of
from flywheel.errors import LakeError
from tests.benchmarks.dedup_corpus import corpus

ENGINES = [
    pytest.param(arrays, id="numpy"),
    pytest.param(
        kernel,
        id="C",
        marks=pytest.mark.skipif(kernel.library() is None, reason=kernel.state()),
    ),
]
needs_kernel = pytest.mark.skipif(kernel.library() is None, reason=kernel.state())
FOUND = [p / "shared" / "data" for p in Path(__file__).parents if (p / "shared" / "data").is_dir()]
needs_data = pytest.mark.skipif(not FOUND, reason="../shared/data is not here")
Found = set[tuple[int, int, float]]


def shingles_of(text: str) -> frozenset[tuple[str, ...]]:
    words = words_of(text)
    return frozenset(
        tuple(words[i : i + 3]) for i in range(max(len(words) - 2, min(len(words), 1)))
    )


@cache
def all_pairs(texts: tuple[str, ...]) -> Found:
    """All pairs from .7 on by the definition: every two sets of tuples of words are intersected."""
    sets = [shingles_of(text) for text in texts]
    found = set()
    for a, b in combinations(range(len(texts)), 2):
        common = len(sets[a] & sets[b])
        if common and common / (len(sets[a]) + len(sets[b]) - common) >= 0.7 - 1e-9:
            found.add((a, b, common / (len(sets[a]) + len(sets[b]) - common)))
    return found


def brute_force(texts: list[str], threshold: float) -> Found:
    return {pair for pair in all_pairs(tuple(texts)) if pair[2] >= threshold - 1e-9}


def pairs(engine: ModuleType, texts: list[str], threshold: float) -> Found:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flywheel.dedup.engine.engine", lambda: engine)
        patch.setattr("flywheel.dedup.join.engine", lambda: engine)
        columns = [column.tolist() for column in similar_pairs(texts, threshold)]
    listed = list(zip(*columns, strict=True))
    assert listed == sorted(listed)
    return set(listed)


def listed(sets: Sets) -> list[list[int]]:
    return [
        sorted(sets.hash[begin:end].tolist())
        for begin, end in zip(sets.start[:-1], sets.start[1:], strict=True)
    ]


texts_of_any_kind = st.lists(
    st.one_of(
        st.text(max_size=60),
        st.text(
            alphabet=st.sampled_from(
                "ab A\t\n\x1c\x0b\x00é̈ÉΣς한\u1161\u11a8😀\u0130\u00a0\u2028\u2019\ud800"
            ),
            max_size=90,
        ),
        st.text(
            alphabet=st.sampled_from("aA \u3000。？！字か\u3099カﾊﾞ々\U0001b001\U00020000ก็ບຸកေ한é"),
            max_size=90,
        ),
        st.lists(st.sampled_from(["a", "bb", "C" * 8, "d" * 9, "e" * 17]), max_size=40).map(
            " ".join
        ),
    ),
    max_size=12,
)


@needs_kernel
@settings(max_examples=300, deadline=None)
@given(texts=texts_of_any_kind, threshold=st.sampled_from([0.55, 0.7, 0.8, 0.9, 1.0]))
def test_kernel_and_numpy_agree_on_any_text(texts: list[str], threshold: float) -> None:
    ours, theirs = kernel.shingle_sets(texts), arrays.shingle_sets(texts)
    assert listed(ours) == listed(theirs)
    assert [len(one) for one in listed(ours)] == [len(shingles_of(text)) for text in texts]
    table, other = np.zeros((2, 1 << 16), np.uint8)
    for _ in range(2):  # counts are added to what is there
        kernel.count_texts(ours, table)
        arrays.count_texts(theirs, other)
    assert (table == other).all() and table.sum() == 2 * len(ours.hash)
    assert (kernel.sign_sets(ours) == arrays.sign_sets(theirs)).all()
    for skip in (True, False):
        prefix = kernel.find_prefixes(ours, table, threshold, skip)
        assert listed(prefix) == listed(arrays.find_prefixes(theirs, table, threshold, skip))
    assert pairs(kernel, texts, threshold) == pairs(arrays, texts, threshold)


@pytest.mark.parametrize("engine", ENGINES)
def test_words_of_scripts_without_spaces_are_their_signs(engine: ModuleType) -> None:
    said = {
        "车站，火车Nine到？": "车 站 ， 火 车 nine 到 ？",
        "ひカ\u3099ｶ": "ひ ガ ｶ",
        "ไป\u0e19\u0e49ำ ok": "ไ ป \u0e19 \u0e49 ำ ok",
        "ລາວ ខ្មែរ မြန်": "ລ າ ວ ខ ្ ម ែ រ မ ြ န ်",
        "한국 Éa, b.c": "한국 éa, b.c",
    }
    for text, words in said.items():
        assert words_of(text) == words.split(" ")
        hashes, counts = engine.hash_words([text, "a"])
        expected = [*map(arrays.hash_word, words.split(" ")), arrays.hash_word("a")]
        assert hashes.tolist() == expected and counts.tolist() == [len(expected) - 1, 1]


@given(st.text(st.characters(max_codepoint=127)))
def test_words_of_ascii_are_split_at_white_space_alone(text: str) -> None:
    assert words_of(text) == unicodedata.normalize("NFC", text).lower().split()


@pytest.mark.parametrize("engine", ENGINES)
def test_sets_on_disk_are_those_in_memory_however_they_are_cut(
    engine: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flywheel.dedup.engine.engine", lambda: engine)
    monkeypatch.setattr("flywheel.dedup.join.engine", lambda: engine)
    monkeypatch.setattr("flywheel.dedup.sets.PART", 500)
    texts = [*corpus(400, seed=5), "", "one"]
    cuts = [0, 1, 1, 150, len(texts)]
    parts = [texts[begin:end] for begin, end in itertools.pairwise(cuts)]
    here, there = shingle_sets(texts), sets_on_disk(parts, tmp_path / "index")
    assert listed(here) == listed(there) and not list((tmp_path / "index").iterdir())
    assert len(list(there.parts())) > 10 and len(list(here.parts())) == 1
    assert listed(joined(list(there.parts()))) == listed(here)
    table = frequencies(here)
    assert (table == frequencies(there)).all()
    prefix = prefixes(here, table, 0.8, skip_unique=False)
    assert listed(prefix) == listed(prefixes(there, table, 0.8, skip_unique=False))
    assert (signatures(here) == signatures(there)).all()
    found = [column.tolist() for column in meet(there, prefix, 0.8)]
    assert found[0] and found == [column.tolist() for column in similar_sets(here, 0.8)]
    assert listed(sets_on_disk([[""]], tmp_path)) == [[]], "an empty file cannot be mapped"


def test_sets_that_cannot_be_written_are_an_error_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "index").write_text("no folder")
    with pytest.raises(LakeError, match="shingles of texts in"):
        sets_on_disk([["some words"]], tmp_path / "index")


@needs_kernel
@settings(max_examples=100, deadline=None)
@given(texts=texts_of_any_kind, sizes=st.sets(st.integers(1, 14), min_size=1, max_size=4))
def test_kernel_and_numpy_find_the_same_runs(texts: list[str], sizes: set[int]) -> None:
    words = [np.array([arrays.hash_word(w) for w in words_of(t)], np.uint64) for t in texts[::2]]
    runs = [arrays.hash_runs(one, size) for one in words for size in sizes]
    wanted = np.unique(np.concatenate([*runs, np.arange(3, dtype=np.uint64)]))
    found = [
        sorted(zip(*(c.tolist() for c in e.find_runs(texts, sorted(sizes), wanted)), strict=True))
        for e in (kernel, arrays)
    ]
    assert found[0] == found[1]
    here = {(text, place) for text, place, _ in found[0]}
    assert {(2 * i, 0) for i, one in enumerate(words) if len(one) >= min(sizes)} <= here


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("threshold", [0.7, 0.8, 0.9])
def test_planted_pairs_are_those_of_brute_force(engine: ModuleType, threshold: float) -> None:
    texts = corpus(1500, seed=11)
    expected = brute_force(texts, threshold)
    assert len(expected) > 80
    assert pairs(engine, texts, threshold) == expected


@needs_data
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("threshold", [0.7, 0.8, 0.9])
def test_pairs_of_real_texts_are_those_of_brute_force(engine: ModuleType, threshold: float) -> None:
    rng = random.Random(5)
    lines = (FOUND[0] / "gsm8k" / "train.jsonl").read_text().splitlines()[:900]
    texts = [json.loads(line)["question"] for line in lines]
    with gzip.open(FOUND[0] / "ukp_convarg1" / "pairs.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    texts += sorted({row[side]["text"] for row in rows for side in ("arg1", "arg2")})
    for text in rng.sample(texts, 250):  # and copies with a few words changed
        words = text.split()
        for _ in range(rng.randrange(1 + len(words) // 20)):
            words[rng.randrange(len(words))] = "otherwise"
        texts.append(" ".join(words))
    expected = brute_force(texts, threshold)
    assert len(expected) > 100
    assert pairs(engine, texts, threshold) == expected


@pytest.mark.parametrize("engine", ENGINES)
def test_long_texts_are_compared_as_exactly_as_short_ones(engine: ModuleType) -> None:
    rng = np.random.default_rng(2)
    words = np.array([f"w{i}" for i in range(3000)])
    bounds = np.cumsum(1 / np.arange(1, 3001)) / (1 / np.arange(1, 3001)).sum()
    texts = [" ".join(words[np.searchsorted(bounds, rng.random(4000))]) for _ in range(6)]
    for text in texts[:6]:
        copy = text.split()
        for place in rng.choice(4000, 120, replace=False):
            copy[place] = "changed"
        texts.append(" ".join(copy))
    expected = brute_force(texts, 0.8)
    assert len(expected) == 6
    assert pairs(engine, texts, 0.8) == expected


@pytest.mark.parametrize("engine", ENGINES)
def test_a_common_shingle_counts_up_to_255_and_loses_no_pair(engine: ModuleType) -> None:
    texts = ["the same three"] * 300 + ["one more of another kind"]
    sets = engine.shingle_sets(texts)
    assert frequencies(sets).max() == 255
    assert len(pairs(engine, texts, 0.8)) == 300 * 299 // 2


@needs_kernel
def test_a_kernel_of_another_version_is_not_used_and_the_reason_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("flywheel.dedup.kernel.VERSION", 99)
    assert kernel._load.__wrapped__()[0] is None
    assert "not 99" in kernel._load.__wrapped__()[1]
    monkeypatch.setattr("flywheel.dedup.kernel.__file__", "/nowhere/kernel.py")
    assert "was not built" in kernel._load.__wrapped__()[1]


def test_without_the_kernel_numpy_computes() -> None:
    code = """
from flywheel.dedup import arrays, kernel
kernel._load = lambda: (None, "numpy: for this test")
from flywheel.dedup.engine import engine
from flywheel.dedup.join import similar_pairs
assert engine() is arrays
print(similar_pairs(["a b c d e f", "A b c d e f", "x"], 0.8)[2].tolist())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[1.0]\n"
