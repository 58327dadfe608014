"""Run a suite on the rows of one kind and say which rows broke which rule."""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

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


@functools.cache
def _asked(kind: str) -> frozenset[str]:
    """What the suite of a kind names: the columns it looks at are among these words."""
    rules = (one.configuration.kwargs for one in validation(kind).suite.expectations)
    return frozenset(word for rule in rules for word in rule.values() if isinstance(word, str))


def _frame(kind: str, table: pa.Table) -> Any:
    """The columns that rules look at, as pandas: those of the table, and what is worked out."""
    now = datetime.now(UTC).replace(tzinfo=None)
    worked_out: dict[str, Callable[[], Any]] = {
        "_days_ahead": lambda: _days_since(now, table["occurred_at"]),
        "_days_since_2000": lambda: _days_since(datetime(2000, 1, 1), table["occurred_at"]),
        "_sides_differ": lambda: _differ(table["response_a_key"], table["response_b_key"]),
        "_zero": lambda: np.zeros(table.num_rows, int),
        "_best_rank": lambda: [min(one) for one in table["ranks"].to_pylist()],
        "_worst_rank": lambda: [max(one) for one in table["ranks"].to_pylist()],
        "_silent_count": lambda: [
            sum(not text.strip() for text in one) for one in table["response_texts"].to_pylist()
        ],
    }
    if kind == "trajectory":
        columns = ("prompt", "steps", "metadata", "outcome")
        names = [name for name in columns if name in table.column_names]
        counts = [findings(row) for row in table.select(names).to_pylist()]
        for finding in FINDINGS:
            worked_out[f"_{finding}"] = functools.partial(_counted, counts, finding)
    for name in table.column_names:
        worked_out[f"_{name}_speaks"] = functools.partial(_speaks, table, name)
    asked = _asked(kind)
    frame = table.select([one for one in table.column_names if one in asked]).to_pandas()
    for name in worked_out.keys() & asked:
        frame[name] = worked_out[name]()
    return frame


def _counted(counts: list[dict[str, int]], finding: str) -> list[int]:
    return [one[finding] for one in counts]


def _days_since(moment: datetime, times: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """Days from `moment` on; NaN for a null."""
    found = times.to_numpy().astype("datetime64[us]")
    gone: npt.NDArray[np.float64] = (found - np.datetime64(moment, "us")) / np.timedelta64(1, "D")
    return gone


def _differ(one: pa.ChunkedArray, other: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    return np.asarray(pc.not_equal(pc.fill_null(one, ""), pc.fill_null(other, "")), dtype=int)


def _speaks(table: pa.Table, name: str) -> npt.NDArray[np.float64]:
    r"""1 where a text holds more than white space (`\S`), 0 where it does not; NaN for a null.

    Most texts begin with a letter; only what does not is looked at as a whole.
    """
    texts = table[name]
    first = pc.utf8_slice_codeunits(texts, 0, 1)
    begins = pc.and_(pc.ascii_is_printable(first), pc.not_equal(first, " "))
    begins = pc.and_(begins, pc.not_equal(first, ""))
    speaks = begins.to_numpy().astype(float)
    for place in np.flatnonzero(speaks == 0).tolist():
        speaks[place] = bool(texts[place].as_py().strip())
    return speaks
