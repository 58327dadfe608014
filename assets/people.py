"""People in evaluation: what they said of two answers, and what they should be asked."""

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from assets.evaluation import HELD_OUT
from assets.keys import FCT_EVALUATION_JUDGEMENTS, PEOPLE_JUDGEMENTS
from assets.partitions import generations
from assets.resources import Home
from flywheel.collect.pairs import WAYS, ask_people
from flywheel.erasure.frozen import erased_uids
from flywheel.erasure.plan import alone
from flywheel.lake import write_table
from flywheel.warehouse import read_table

PEOPLE_QUEUE = dg.AssetKey(["collection", "people_queue"])


@dg.asset(
    key=PEOPLE_JUDGEMENTS,
    deps=[FCT_EVALUATION_JUDGEMENTS],
    partitions_def=generations,
    group_name="evaluation",
    kinds={"parquet"},
    pool="warehouse",
    description="What people have said of two answers to evaluation prompts, as the warehouse has "
    "it now; nothing is trained on it. One row per vote.",
)
def people_judgements(context: dg.AssetExecutionContext, home: Home) -> dg.MaterializeResult:
    """Put the votes where the evaluation reads them."""
    layout = home.layout
    path = layout.run("people_judgements", context.partition_key) / "judgements.parquet"
    with alone(layout):  # no erasure begins or ends meanwhile
        votes = read_table(layout.warehouse_copy, "marts.fct_evaluation_judgements")
        erased = pa.array(sorted(erased_uids(layout)), pa.string())
        votes = votes.filter(pc.invert(pc.is_in(votes["record_uid"], value_set=erased)))
        write_table(votes.sort_by("judgement_id"), path)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": votes.num_rows,
            "annotators": len(votes["voter"].drop_null().unique()),
            "prompts": len(votes["prompt_key"].unique()),
            "dagster/uri": str(path),
        }
    )


@dg.asset(
    key=PEOPLE_QUEUE,
    deps=[HELD_OUT],
    partitions_def=generations,
    group_name="collection",
    kinds={"json"},
    description="Answers of challenger and champion to evaluation prompts, for people to compare: "
    "blind and in random order; as many as [people] pairs says, and, as [people] along says, from "
    "along the ways that the reward is followed on, where the evaluation followed any. One line "
    "per pair.",
)
def people_queue(context: dg.AssetExecutionContext, home: Home) -> dg.MaterializeResult:
    """Choose pairs among what the evaluation compared."""
    chosen = {"pairs": 0, **home.settings("people")}
    is_followed = (home.layout.evaluation(context.partition_key) / WAYS).exists()
    if not is_followed:
        chosen["along"] = 0
    found = ask_people(home.layout, context.partition_key, **chosen)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": found["lines"],
            "along_the_ways": found["along"],
            "a_way_was_followed": is_followed,
            "judged_before": found["judged"],
            "answered_alike": found["alike"],
            "dagster/uri": found["queue"],
        }
    )
