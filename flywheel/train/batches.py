"""Micro-batches: how a step, or a measurement, is cut to fit in memory. No cut changes a result."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TypeVar

from flywheel.models.cuts import batch_tokens, cheapest_cuts
from flywheel.models.logps import first_fit
from flywheel.process.clock import pieces
from flywheel.train.config import RunSettings
from flywheel.train.engine import shared_clock

E = TypeVar("E")


def micro_batches(
    elements: Sequence[E],
    shape: Callable[[E], tuple[int, int]],
    budget: int,
    *,
    packing: bool = False,
) -> list[list[E]]:
    """Cut elements, by length, into batches of at most `budget` padded tokens.

    Where to cut is chosen so that all of them cost least: padding, and `batch_tokens` a batch.
    With `packing` an element is one row, and takes the room that `pack` finds for it.
    """
    longest_first = sorted(elements, key=lambda element: -shape(element)[1])
    if packing:
        return _packed(longest_first, lambda one: shape(one)[1], budget)
    shapes = [shape(one) for one in longest_first]
    cuts = cheapest_cuts(shapes, budget, batch_tokens())
    return [longest_first[first:end] for first, end in pairwise([0, *cuts])]


def _packed(
    longest_first: Sequence[E], length_of: Callable[[E], int], budget: int
) -> list[list[E]]:
    batches: list[list[E]] = []
    rows = width = 0
    room, home = list[int](), list[int]()  # of every pack: tokens left, and its batch
    for one in longest_first:
        length = length_of(one)
        if (place := first_fit(room, length)) < len(room):
            room[place] -= length
            batches[home[place]].append(one)
            continue
        if not batches or (rows + 1) * width > budget:
            batches.append([])
            rows, width = 0, length
        batches[-1].append(one)
        rows += 1
        room.append(width - length)
        home.append(len(batches) - 1)
    return batches


def held_out_batches(
    elements: Sequence[E], shape: Callable[[E], tuple[int, int]], settings: RunSettings, frac: float
) -> Iterator[list[E]]:
    """Micro-batches of as many held-out elements as a share of the budget reaches."""
    seconds = settings.seconds_of(frac)
    for piece in pieces(elements, seconds, seed=settings.seed, clock=shared_clock):
        yield from micro_batches(piece, shape, settings.micro_tokens)
