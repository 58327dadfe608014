"""Where the elements of an optimizer step come from: rows in seeded order, or fresh rollouts.

A source is asked step by step, on every process alike. What it draws is a function of the
settings, of the state it was restored to and of the weights as they are, so that a resumed run
learns from the same elements as one that was never stopped.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from flywheel.errors import TrainingError
from flywheel.train.config import RunSettings

E = TypeVar("E")
E_co = TypeVar("E_co", covariant=True)


class Source(Protocol[E_co]):
    """What `fit` asks for the elements of a step; the same ones on every process."""

    @property
    def steps(self) -> int:
        """Optimizer steps planned."""

    def draw(self, step: int) -> tuple[Sequence[E_co], dict[str, float]]:
        """The elements of a step, counted from 0, and what to report of how they came about.

        None where the run should end early.
        A function of the settings, of what `restore` was given and of the weights as they are.
        """

    def state(self) -> dict[str, Any] | None:
        """What `restore` needs to draw the next step alike, as JSON; None where a run that ends
        here could not go on, as between two steps on the same rollouts."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""


class Shuffled(Generic[E]):
    """A stream of seeded permutations of the elements, cut into batches.

    The order is a function of seed and position alone, so that a resumed run and a run on more
    processes see the same one.

    Raises:
        TrainingError: There are no elements.
    """

    def __init__(self, elements: Sequence[E], settings: RunSettings) -> None:
        if not elements:
            raise TrainingError(
                "no element is left to train on; see the counts of dropped rows above"
            )
        self._elements, self._seed, self._batch = elements, settings.seed, settings.batch
        self._total = math.ceil(len(elements) * settings.epochs)
        self.steps = math.ceil(self._total / settings.batch)

    def draw(self, step: int) -> tuple[list[E], dict[str, float]]:
        """The next batch; nothing to report."""
        start = step * self._batch
        places = range(start, min(start + self._batch, self._total))
        return [self._elements[self._index(place)] for place in places], {}

    def state(self) -> dict[str, Any]:
        """Nothing: the step says it all."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""

    def _index(self, place: int) -> int:
        epoch, index = divmod(place, len(self._elements))
        return int(_permutation(self._seed, epoch, len(self._elements))[index])


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, count: int) -> Any:
    return np.random.default_rng([seed, epoch]).permutation(count)
