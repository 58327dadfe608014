"""Micro-batches: how a step, or a measurement, is cut to fit in memory. No cut changes a result."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

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
    """Cut elements into batches of at most `budget` padded tokens, alike in length.

    With `packing` an element is one row, and takes the room that `pack` finds for it.
    """
    batches: list[list[E]] = []
    rows = width = 0
    room, home = list[int](), list[int]()  # of every pack: tokens left, and its batch
    for one in sorted(elements, key=lambda element: -shape(element)[1]):
        more, length = shape(one)
        if packing and (place := first_fit(room, length)) < len(room):
            room[place] -= length
            batches[home[place]].append(one)
            continue
        if not batches or (rows + more) * width > budget:
            batches.append([])
            rows, width = 0, length
        batches[-1].append(one)
        rows += more
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
