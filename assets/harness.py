"""Tasks of the lm-evaluation-harness, for people: a job, and no part of a turn."""

import dagster as dg
from pydantic import Field

from assets.resources import Home
from flywheel.evaluate.outside.results import measure, read_results


class Tasks(dg.Config):
    """What to measure."""

    generation: str = Field(description="Whose policy, e.g. g0002.")
    tasks: str = Field(description="Names of tasks, separated by commas, e.g. gsm8k.")
    include: str = Field(default="", description="Folder with further tasks, YAML.")
    limit: int = Field(default=0, description="Samples of each task at most; 0: all.")


@dg.op(pool="accelerators")
def run_harness_tasks(context: dg.OpExecutionContext, config: Tasks, home: Home) -> None:
    """Measure, store beside the evaluation, and show all that is stored."""
    chosen = config.model_dump(exclude={"generation"})
    measure(home.layout, config.generation, log=context.log.info, **chosen)
    found = read_results(home.layout, config.generation)
    context.add_output_metadata({"results": dg.MetadataValue.json(found)})


@dg.job(description="Run tasks of the lm-evaluation-harness on a generation's policy.")
def harness() -> None:
    """One op."""
    run_harness_tasks()
