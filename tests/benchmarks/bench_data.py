"""The left half of the wheel: landing, duplicates, leaks, personal data, label quality."""

import os

from tests.benchmarks import dedup, ingest, label_quality, land_to_marts, redaction
from tests.benchmarks.measurement import Measurement

TEN_MILLION = "FLYWHEEL_BENCH_10M"  # set: land ten million comparisons too, half an hour


def measure() -> list[Measurement]:
    """Everything; ten million comparisons only where they are asked for."""
    found = [
        *ingest.measure(),
        *dedup.measure(),
        *redaction.measure(),
        *label_quality.measure(),
    ]
    return found + (land_to_marts.measure() if os.environ.get(TEN_MILLION) else [])
