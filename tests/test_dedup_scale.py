"""The join under Daft: the pairs of one machine, whatever the number of partitions."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.dedup.join import similar_pairs
from flywheel.dedup.scale import similar_pairs as similar_pairs_in_parts
from tests.benchmarks.dedup_corpus import corpus

daft = pytest.importorskip("daft", reason="the extra `scale` is not installed")
pytestmark = pytest.mark.filterwarnings("ignore:The `@daft.udf` decorator")


def both_ways(texts: list[str], threshold: float, partitions: int, heavy: int = 255) -> int:
    frame = daft.from_pydict({"id": list(range(len(texts))), "text": texts})
    found = similar_pairs_in_parts(frame, threshold, partitions, heavy=heavy)
    expected = similar_pairs(texts, threshold)
    for column, wanted in zip(found, expected, strict=True):
        assert column.tolist() == wanted.tolist()  # similarities too, to the last bit
    return len(found[0])


@pytest.mark.parametrize("partitions", [1, 3, 16])
@pytest.mark.parametrize("heavy", [2, 255])
def test_the_pairs_are_those_of_one_machine(partitions: int, heavy: int) -> None:
    assert both_ways(corpus(800, seed=5), 0.8, partitions, heavy) > 60


@settings(max_examples=8, deadline=None)
@given(
    texts=st.lists(st.lists(st.sampled_from("abcde"), max_size=9).map(" ".join), max_size=30),
    threshold=st.sampled_from([0.6, 0.8, 1.0]),
    partitions=st.integers(1, 9),
    heavy=st.integers(2, 6),
)
def test_random_texts_in_any_number_of_partitions(
    texts: list[str], threshold: float, partitions: int, heavy: int
) -> None:
    both_ways([*texts, "a b c d", "a b c d"], threshold, partitions, heavy)


@pytest.mark.parametrize("texts", [[], ["a b c"], ["", ""], ["a b c d", "e f g h"]])
def test_nothing_alike_is_no_pair(texts: list[str]) -> None:
    frame = daft.from_pydict({"id": list(range(len(texts))), "text": texts})
    if not texts:
        frame = frame.select(daft.col("id").cast("int64"), daft.col("text").cast("string"))
    assert [len(column) for column in similar_pairs_in_parts(frame, 0.8, 2)] == [0, 0, 0]
