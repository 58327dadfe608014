"""How much of some work fits into the time that it was given."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

E = TypeVar("E")
PIECE = 16  # elements between two looks at the clock: seconds at 135M parameters on two cores


def pieces(
    elements: Sequence[E],
    seconds: float,
    *,
    seed: int | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Sequence[E]]:
    """Hand out elements until the next piece would end after `seconds`; the first always comes.

    Args:
        elements: What is worked on.
        seconds: Time for all of it; where it is infinite, everything comes as one piece.
        seed: Mixes the elements of a limited time, so that those reached are a fair sample.
            None keeps their order.
        clock: Tells seconds; processes that must agree on the end share one.
    """
    if seconds == float("inf"):
        yield elements
        return
    order = list(range(len(elements)))
    if seed is not None:
        order = np.random.default_rng(seed).permutation(len(elements)).tolist()
    started = clock()
    for done, start in enumerate(range(0, len(order), PIECE)):
        if done and (clock() - started) * (done + 1) > seconds * done:
            return
        yield [elements[place] for place in order[start : start + PIECE]]
