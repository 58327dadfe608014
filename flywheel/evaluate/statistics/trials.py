"""Several attempts at each task: how often one of them succeeds, and how often all of them do.

*pass@k* is the chance that at least one of k attempts at a task passes: `1 - C(n-c, k) / C(n, k)`
where c passed among n (Chen et al., arXiv:2107.03374). *pass^k* is the chance that all k do:
`C(c, k) / C(n, k)` (Yao et al., arXiv:2406.12045). Both are averaged over tasks, which are what
intervals are resampled over: attempts at one task are no further tasks.
"""

from collections import defaultdict
from collections.abc import Sequence
from math import comb
from pathlib import Path
from typing import Any

from flywheel.datasets.manifest import DatasetManifest, read_split
from flywheel.errors import EvaluationError
from flywheel.evaluate.statistics.stats import rate, told


def pass_at(k: int, passed: int, attempts: int) -> float:
    """Chance that one of k attempts passes."""
    return 1 - comb(attempts - passed, k) / comb(attempts, k)


def pass_all(k: int, passed: int, attempts: int) -> float:
    """Chance that all of k attempts pass."""
    return comb(passed, k) / comb(attempts, k)


def reliability_of(dataset: Path) -> list[dict[str, Any]]:
    """`reliability` of a frozen dataset of trajectories: of those with a task and an outcome.

    Raises:
        ManifestError: The dataset is not what was frozen.
    """
    splits = DatasetManifest.load(dataset).rows_by_split
    rows = [row for split in splits for row in read_split(dataset, split).to_pylist()]
    scored = [row for row in rows if row["task_id"] and row["outcome"] not in (None, "unscored")]
    if not scored:
        return []
    return reliability(
        [row["task_id"] for row in scored], [row["outcome"] == "passed" for row in scored]
    )


def reliability(
    tasks: Sequence[object], passed: Sequence[bool], most: int | None = None
) -> list[dict[str, Any]]:
    """pass@k and pass^k with their intervals, for k from 1 to `most`.

    Args:
        tasks: Of each attempt.
        passed: Whether it passed; one that was cut off did not.
        most: Largest k; the fewest attempts at any task where none is given.

    Returns:
        One row a k: k, tasks, pass_at and pass_all, each with `_ci` and `_se`. Tasks with fewer
        than k attempts say nothing of k, and are left out there.

    Raises:
        EvaluationError: There is no attempt, or the two do not line up.
    """
    if not tasks or len(tasks) != len(passed):
        raise EvaluationError(
            f"reliability needs attempts with their outcomes, got {len(tasks)} and {len(passed)}"
        )
    counts: dict[object, list[int]] = defaultdict(lambda: [0, 0])
    for task, one in zip(tasks, passed, strict=True):
        counts[task][0] += bool(one)
        counts[task][1] += 1
    rows = []
    for k in range(1, (most or min(n for _, n in counts.values())) + 1):
        enough = {task: found for task, found in counts.items() if found[1] >= k}
        if not enough:
            break
        at, every = (
            rate([chance(k, c, n) for c, n in enough.values()], list(enough))
            for chance in (pass_at, pass_all)
        )
        rows.append({"k": k, "tasks": len(enough), **told({"pass_at": at, "pass_all": every})})
    return rows
