"""The random number generators that a process draws from: kept with a checkpoint, and put back."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def states() -> dict[str, Any]:
    """Where python's, numpy's and torch's global generators stand, and the GPU's, as JSON."""
    drawn_from: Any = np.random.get_state()
    name, keys, *rest = drawn_from
    found: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": [name, keys.tolist(), *rest],
        "torch": bytes(torch.get_rng_state().tolist()).hex(),
    }
    if torch.cuda.is_available():
        found["cuda"] = bytes(torch.cuda.get_rng_state().tolist()).hex()
    return found


def put_back(found: dict[str, Any]) -> None:
    """Set the generators to what `states` told."""
    version, numbers, gauss = found["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, *rest = found["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(_tensor(found["torch"]))
    if torch.cuda.is_available() and "cuda" in found:
        torch.cuda.set_rng_state(_tensor(found["cuda"]))


@contextmanager
def unmoved() -> Iterator[None]:
    """Whatever is drawn within it, the generators stand afterwards where they stood."""
    before = states()
    try:
        yield
    finally:
        put_back(before)


def _tensor(state: str) -> torch.Tensor:
    return torch.tensor(list(bytes.fromhex(state)), dtype=torch.uint8)
