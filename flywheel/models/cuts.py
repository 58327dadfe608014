"""Where rows sorted by length are cut into batches: little padding, few batches."""

from collections.abc import Sequence

import numpy as np
import torch

# What a batch costs beside its tokens, in tokens. On two cores, 8 ms a batch of a model that takes
# .2 ms a token; a GPU is idle where a batch is small.
BATCH_TOKENS = {"cpu": 128, "gpu": 2048}
# Padded tokens of a batch that is only read. Its activations stay in a core's cache: at 30 K
# parameters, 4096 tokens at once take a quarter less time than 16384; a GPU has no such limit.
READ_TOKENS = {"cpu": 4096, "gpu": 16384}


def batch_tokens() -> int:
    """`BATCH_TOKENS` of the device that there is."""
    return BATCH_TOKENS["gpu" if torch.cuda.is_available() else "cpu"]


def read_tokens() -> int:
    """`READ_TOKENS` of the device that there is."""
    return READ_TOKENS["gpu" if torch.cuda.is_available() else "cpu"]


def cheapest_cuts(shapes: Sequence[tuple[int, int]], budget: int, overhead: int) -> list[int]:
    """Where batches end: the cheapest way to cut, each costing its padded tokens and `overhead`.

    Args:
        shapes: (rows, tokens of the longest) of each element, longest first.
        budget: Most padded tokens of a batch; an element alone may have more.
        overhead: Tokens that a batch costs beside its own.
    """
    rows, widths = np.array(shapes, float).reshape(-1, 2).T
    before = np.concatenate([[0.0], rows.cumsum()])  # rows before each element
    cheapest, begins, least = np.zeros(len(shapes) + 1), [0], 0
    for end in range(1, len(shapes) + 1):
        # what is too far away for a batch that ends here is so for all that end later
        while least < end - 1 and (before[end] - before[least]) * widths[least] > budget:
            least += 1
        sizes = (before[end] - before[least:end]) * widths[least:end]
        costs = cheapest[least:end] + sizes + overhead
        begin = int(costs.argmin())
        cheapest[end] = costs[begin]
        begins.append(least + begin)
    cuts, end = list[int](), len(shapes)
    while end:
        cuts.append(end)
        end = begins[end]
    return cuts[::-1]
