"""Where rows sorted by length are cut into batches: little padding, few batches."""

from collections.abc import Sequence

import torch

# What a batch costs beside its tokens, in tokens. On two cores, 8 ms a batch of a model that takes
# .2 ms a token; a GPU is idle where a batch is small.
BATCH_TOKENS = {"cpu": 128, "gpu": 2048}


def batch_tokens() -> int:
    """`BATCH_TOKENS` of the device that there is."""
    return BATCH_TOKENS["gpu" if torch.cuda.is_available() else "cpu"]


def cheapest_cuts(shapes: Sequence[tuple[int, int]], budget: int, overhead: int) -> list[int]:
    """Where batches end: the cheapest way to cut, each costing its padded tokens and `overhead`.

    Args:
        shapes: (rows, tokens of the longest) of each element, longest first.
        budget: Most padded tokens of a batch; an element alone may have more.
        overhead: Tokens that a batch costs beside its own.
    """
    cheapest, begins = [0.0], [0]
    for end in range(1, len(shapes) + 1):
        rows, found = 0, list[tuple[float, int]]()
        for first in range(end - 1, -1, -1):
            more, width = shapes[first]
            rows += more
            if rows * width > budget and first < end - 1:
                break
            found.append((cheapest[first] + rows * width + overhead, first))
        cost, begin = min(found)
        cheapest.append(cost)
        begins.append(begin)
    cuts, end = list[int](), len(shapes)
    while end:
        cuts.append(end)
        end = begins[end]
    return cuts[::-1]
