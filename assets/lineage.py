"""Lineage: what a generation rests on, and its model card, for people who ask."""

import dagster as dg

from assets.partitions import generations
from assets.promotion import GATE_DECISION
from assets.resources import Home
from flywheel.lineage import write_card

MODEL_CARD = dg.AssetKey(["promotion", "model_card"])


@dg.asset(
    key=MODEL_CARD,
    deps=[GATE_DECISION],
    partitions_def=generations,
    group_name="promotion",
    kinds={"markdown"},
    description="Data, people, licences, metrics, limits, lineage and cost of the challenger; the "
    "edges behind it can be asked with `flywheel trace`. One card per generation.",
)
def model_card(context: dg.AssetExecutionContext, home: Home) -> dg.MaterializeResult:
    """Trace what the challenger rests on, and write it down."""
    layout, generation = home.layout, context.partition_key
    path, found = write_card(layout, generation, **home.settings("cost"))
    return dg.MaterializeResult(
        metadata={
            "card": dg.MetadataValue.md(path.read_text()),
            "dagster/uri": str(path),
            "records": found["records"],
            "times_seen": found["times_seen"],
            "label_cost_usd": found["label_cost_usd"],
            "ancestry": dg.MetadataValue.json(found["ancestry"]),
        }
    )
