"""The left half of the wheel: landing, duplicates, leaks, personal data, label quality.

A night of 1 % is measured from the file to the marts; ten million comparisons are where
FLYWHEEL_BENCH_COMPARISONS asks for them.
"""

from tests.benchmarks import dedup, ingest, label_quality, land_to_marts, redaction
from tests.benchmarks.measurement import Measurement


def measure() -> list[Measurement]:
    """Every group, one after the other."""
    return [
        *ingest.measure(),
        *dedup.measure(),
        *redaction.measure(),
        *label_quality.measure(),
        *land_to_marts.measure(),
    ]
