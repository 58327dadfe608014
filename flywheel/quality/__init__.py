"""Great Expectations suites per kind, run on every batch."""

from flywheel.quality.docs import build_data_docs
from flywheel.quality.gate import Outcome, judge
from flywheel.quality.suites import Expectation, Thresholds, expectations

__all__ = ["Expectation", "Outcome", "Thresholds", "build_data_docs", "expectations", "judge"]
