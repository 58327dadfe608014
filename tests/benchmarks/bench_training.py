"""Training and sampling beside the peers that do the same: one module per comparison."""

from tests.benchmarks.measurement import Measurement
from tests.benchmarks.sampling_vs_hf import sampling_vs_hf
from tests.benchmarks.start import start_seconds
from tests.benchmarks.trainers import measure_trainers


def measure() -> list[Measurement]:
    """Every comparison, one after the other."""
    return [*measure_trainers(), *start_seconds(), *sampling_vs_hf()]
