"""pass@k and pass^k: by hand, by enumeration, and on recorded runs of tau-bench."""

import json
from itertools import combinations
from pathlib import Path

import pytest

from flywheel.errors import EvaluationError
from flywheel.evaluate.statistics.stats import rate
from flywheel.evaluate.statistics.trials import pass_all, pass_at, reliability, reliability_of
from tests.models_for_tests import freeze

TAU = Path(__file__).parents[2] / "shared" / "data" / "tau_bench" / "gpt-4o-airline.json"


@pytest.mark.parametrize(("passed", "attempts"), [(0, 4), (1, 4), (3, 4), (5, 5), (2, 7)])
def test_both_are_shares_of_all_choices_of_k_attempts(passed: int, attempts: int) -> None:
    outcomes = [True] * passed + [False] * (attempts - passed)
    for k in range(1, attempts + 1):
        chosen = list(combinations(outcomes, k))
        assert pass_at(k, passed, attempts) == pytest.approx(sum(map(any, chosen)) / len(chosen))
        assert pass_all(k, passed, attempts) == pytest.approx(sum(map(all, chosen)) / len(chosen))


def test_tasks_weigh_alike_and_those_with_too_few_attempts_say_nothing() -> None:
    tasks = ["a"] * 4 + ["b"] * 2 + ["c"]
    rows = reliability(tasks, [True, True, False, False, True, True, False], most=5)
    assert [row["tasks"] for row in rows] == [3, 2, 1, 1]
    assert rows[0]["pass_at"] == rows[0]["pass_all"] == pytest.approx((0.5 + 1 + 0) / 3)
    assert rows[1]["pass_all"] == pytest.approx((1 / 6 + 1) / 2)
    assert len(reliability(tasks, [True] * 7)) == 1  # the fewest attempts: one
    low, high = rows[0]["pass_all_ci"]
    assert low < 0.5 < high


def test_a_frozen_dataset_tells_of_the_attempts_that_have_a_task_and_an_outcome(
    tmp_path: Path,
) -> None:
    def attempt(task: str | None, outcome: str | None) -> dict[str, str | None]:
        return {"task_id": task, "outcome": outcome}

    told = [attempt("a", "passed"), attempt("a", "truncated"), attempt("b", "failed")]
    left = [attempt(None, "passed"), attempt("a", "unscored"), attempt("c", None)]
    (row,) = reliability_of(Path(freeze(tmp_path / "some", train=told, test=left)))
    assert (row["k"], row["tasks"], row["pass_all"]) == (1, 2, 0.25)
    assert reliability_of(Path(freeze(tmp_path / "none", test=left))) == []


def test_nothing_attempted_is_no_zero() -> None:
    with pytest.raises(EvaluationError, match="needs attempts"):
        reliability([], [])
    with pytest.raises(EvaluationError, match="got 2 and 1"):
        reliability(["a", "b"], [True])


@pytest.mark.skipif(not TAU.exists(), reason="the recorded runs of tau-bench are not here")
def test_the_recorded_runs_of_tau_bench_give_what_was_published() -> None:
    runs = json.loads(TAU.read_text())
    rows = reliability([run["task_id"] for run in runs], [run["reward"] >= 1 for run in runs])
    assert [round(row["pass_all"], 3) for row in rows] == [0.420, 0.273, 0.220, 0.200]
    assert [round(row["pass_at"], 3) for row in rows] == [0.420, 0.567, 0.660, 0.720]
    assert {row["tasks"] for row in rows} == {50}
    assert [round(rows[at]["pass_all_se"], 3) for at in (0, 3)] == [0.052, 0.057]
    passed = [float(run["reward"] >= 1) for run in runs]
    naive = rate(passed, range(len(passed))).standard_error  # as if trials were tasks
    by_task = rate(passed, [run["task_id"] for run in runs]).standard_error
    assert (round(naive or 0, 3), round(by_task or 0, 3)) == (0.035, 0.052)
