"""Tasks of EleutherAI's lm-evaluation-harness on a checkpoint, in a process of its own.

The harness asks, grades and averages; it is given our model as it is loaded everywhere else, and
what it found is told in our words. It is an extra (`pip install ".[lm_eval]"`).
"""

from pathlib import Path
from typing import Any

from flywheel.errors import EvaluationError, SettingsError
from flywheel.evaluate.outside.results import Outside
from flywheel.evaluate.settings import HarnessSettings
from flywheel.process.worker import start, use_threads
from flywheel.rollout import Policy


def run(settings: HarnessSettings, run_dir: Path) -> dict[str, Any]:
    """Measure the tasks.

    Raises:
        SettingsError: The harness is not installed.
        EvaluationError: It knows no such task, or a task yields no sample.
    """
    try:
        import lm_eval
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise SettingsError(
            f"the lm-evaluation-harness is not installed ({error}); "
            f'pip install "flywheel[lm_eval]", into an environment of its own if you like: it '
            f"brings older releases of fsspec and httpx"
        ) from error
    manager = TaskManager(include_path=settings.include or None)
    unknown = [one for one in settings.names if one not in manager.all_tasks]
    if unknown:
        where = f" and {settings.include}" if settings.include else ""
        raise EvaluationError(
            f"lm_eval {lm_eval.__version__}{where} has no task {', '.join(unknown)}; "
            f"`lm_eval ls tasks` lists them"
        )
    policy = Policy.load(settings.model)
    use_threads(policy.model.num_parameters(), settings.threads)
    found = lm_eval.simple_evaluate(
        HFLM(
            pretrained=policy.model,
            tokenizer=policy.tokenizer,
            batch_size=settings.batch,
            device=str(policy.device),
        ),
        tasks=settings.names,
        task_manager=manager,
        num_fewshot=None if settings.few_shot < 0 else settings.few_shot,
        limit=settings.limit or None,
        apply_chat_template=settings.chat,
        bootstrap_iters=1000,  # for the error of metrics that are no means
        log_samples=False,
        random_seed=settings.seed,
        numpy_random_seed=settings.seed,
        torch_random_seed=settings.seed,
        fewshot_random_seed=settings.seed,
    )
    return {"results": rows_of(found, f"lm_eval {lm_eval.__version__}")}


def rows_of(found: Any, by: str) -> list[Outside]:
    """What the harness found, one row a task, metric and filter.

    Raises:
        EvaluationError: A task has no sample.
    """
    rows: list[Outside] = []
    for task, told in sorted(found["results"].items()):
        count = found["n-samples"].get(task, {}).get("effective", 0)
        for name, value in told.items():
            metric, comma, kept = name.partition(",")
            if not comma or metric.endswith("_stderr"):
                continue
            if not count:
                raise EvaluationError(f"task {task} of {by} has no sample; look at its dataset")
            error = told.get(f"{metric}_stderr,{kept}")
            rows.append(
                Outside(
                    by=by,
                    task=task,
                    task_version=str(found["versions"].get(task, "")),
                    metric=metric if kept == "none" else f"{metric}, {kept}",
                    value=float(value),
                    stderr=float(error) if isinstance(error, int | float) else None,
                    samples=count,
                    attempts=count,
                    left_out={},
                    cut_off=0,
                )
            )
    return rows


if __name__ == "__main__":
    start(run, HarnessSettings)
