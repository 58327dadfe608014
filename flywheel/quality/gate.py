"""Run a suite on the rows of one kind and say which rows broke which rule."""

import functools
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from flywheel.errors import QualityError
from flywheel.quality.attempts import FINDINGS, findings
from flywheel.quality.suites import expectations


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One rule on one table.

    Attributes:
        check: Name of the expectation.
        critical: Whether its rows go to quarantine.
        passed: Whether no row broke it.
        checked: Rows it looked at.
        rows: Places of the rows that broke it.
    """

    check: str
    critical: bool
    passed: bool
    checked: int
    rows: tuple[int, ...]


def judge(kind: str, table: pa.Table) -> list[Outcome]:
    """Run the suite of `kind` on `table`; an empty table has nothing to break.

    Raises:
        QualityError: A rule could not be run, or failed without naming rows.
    """
    if not table.num_rows:
        return []
    rules = {one.name: one for one in expectations(kind)}
    judged.append(kind)
    results = validation(kind).run(
        batch_parameters={"dataframe": _frame(kind, table)}, result_format="COMPLETE"
    )
    outcomes = []
    for one in results.results:
        rule = rules[one.expectation_config.meta["check"]]
        if one.exception_info and one.exception_info.get("raised_exception"):
            raise QualityError(
                f"{kind}: the rule {rule.name} could not be run: "
                f"{one.exception_info['exception_message']}; mend it in flywheel/quality/suites.py"
            )
        rows = tuple(sorted(int(row) for row in one.result.get("unexpected_index_list") or ()))
        if rule.critical and not one.success and not rows:
            raise QualityError(
                f"{kind}: the rule {rule.name} failed and names no row, so nothing can be "
                f"quarantined for it; mend it in flywheel/quality/suites.py"
            )
        outcomes.append(
            Outcome(
                check=rule.name,
                critical=rule.critical,
                passed=bool(one.success),
                checked=int(one.result.get("element_count") or 0),
                rows=rows,
            )
        )
    return outcomes


judged: list[str] = []  # kinds, one a table that this process has judged


@functools.cache
def context() -> Any:
    """One ephemeral context a process; three seconds of import happen here and not before."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx

    made = gx.get_context(mode="ephemeral")
    bars: Any = {"globally": False, "metric_calculations": False}
    made.variables.progress_bars = bars
    return made


@functools.cache
def validation(kind: str) -> Any:
    """The suite of a kind, ready to run on any frame."""
    import great_expectations as gx

    made = context()
    asset = made.data_sources.add_pandas(kind).add_dataframe_asset(kind)
    suite = made.suites.add(
        gx.ExpectationSuite(
            name=kind,
            expectations=[
                one.build(
                    gx.expectations,
                    {
                        "meta": {"check": one.name},
                        "severity": "critical" if one.critical else "warning",
                    },
                )
                for one in expectations(kind)
            ],
        )
    )
    return made.validation_definitions.add(
        gx.ValidationDefinition(
            name=kind, data=asset.add_batch_definition_whole_dataframe("rows"), suite=suite
        )
    )


def _frame(kind: str, table: pa.Table) -> Any:
    """The columns that rules look at, as pandas; no row of text more than needed."""
    replies = ("response", "response_a", "response_b", "corrected_response", "edited_response")
    texts = ("prompt_text", "critique", *(f"{name}_text" for name in replies))
    if kind == "step_rating":
        texts += ("steps_text",)
    numbers = ("seconds", "cost_usd", "occurred_at", "step_count", "task_id", "grader")
    frame = table.select([n for n in (*texts, *numbers) if n in table.column_names]).to_pandas()
    now = datetime.now(UTC).replace(tzinfo=None)
    frame["_days_ahead"] = [
        None if one is None else (one - now) / timedelta(days=1)
        for one in table["occurred_at"].to_pylist()
    ]
    if kind == "comparison":
        a, b = (table[side].to_pylist() for side in ("response_a_key", "response_b_key"))
        frame["_sides_differ"] = [int(x != y) for x, y in zip(a, b, strict=True)]
        frame["_zero"] = 0
    if kind == "trajectory":
        columns = ("prompt", "steps", "metadata", "outcome")
        names = [name for name in columns if name in table.column_names]
        counts = [findings(row) for row in table.select(names).to_pylist()]
        for name in FINDINGS:
            frame[f"_{name}"] = [one[name] for one in counts]
    if kind == "ranking":
        ranks = table["ranks"].to_pylist()
        frame["_best_rank"] = [min(one) for one in ranks]
        frame["_worst_rank"] = [max(one) for one in ranks]
        texts_of = table["response_texts"].to_pylist()
        frame["_silent_count"] = [sum(not text.strip() for text in one) for one in texts_of]
    return frame
