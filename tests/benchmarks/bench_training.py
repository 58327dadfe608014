"""Training and sampling beside the peers that do the same: one module per comparison."""

from tests.benchmarks.measurement import Measurement
from tests.benchmarks.sampling_vs_hf import sampling_vs_hf


def measure() -> list[Measurement]:
    """Every comparison, one after the other."""
    return [*sampling_vs_hf()]
