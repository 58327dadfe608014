"""Lineage: what a generation rests on, and its model card, for people who ask."""

import dagster as dg

from assets.keys import STEP_REWARD_CARD, STEP_REWARD_MODEL
from assets.pages import page_link
from assets.partitions import generations
from assets.promotion import GATE_DECISION
from assets.resources import Home
from flywheel.lineage import reading_of, write_card, write_page

MODEL_CARD = dg.AssetKey(["promotion", "model_card"])


@dg.asset(
    key=MODEL_CARD,
    deps=[GATE_DECISION],
    partitions_def=generations,
    group_name="promotion",
    kinds={"markdown"},
    description="Data, people, licences, metrics, limits, lineage and cost of the challenger and "
    "of its teachers; the edges can be asked with `flywheel trace`. One card per checkpoint.",
)
def model_card(context: dg.AssetExecutionContext, home: Home) -> dg.MaterializeResult:
    """Trace what the challenger rests on, and write it down, for its teachers as well."""
    layout, generation = home.layout, context.partition_key
    reading = reading_of(home.settings)
    others = [
        write_card(layout, generation, kind, reading=reading)[0]
        for kind in ("sft_policy", "reward_model")
        if (layout.checkpoint(kind, generation) / "manifest.json").exists()
    ]
    path, found = write_card(layout, generation, reading=reading)
    page = path.with_suffix(".html")
    write_page(page, found)
    return dg.MaterializeResult(
        metadata={
            "card": dg.MetadataValue.md(path.read_text()),
            "page": page_link(layout, page),
            "other_cards": dg.MetadataValue.json([str(one) for one in others]),
            "dagster/uri": str(path),
            "records": found["records"],
            "times_seen": found["times_seen"],
            "label_cost_usd": found["label_cost_usd"],
            "ancestry": dg.MetadataValue.json(found["ancestry"]),
        }
    )


@dg.asset(
    key=STEP_REWARD_CARD,
    deps=[STEP_REWARD_MODEL],
    partitions_def=generations,
    group_name="training",
    kinds={"markdown"},
    description="What the step reward model rests on, where one was trained. One card per "
    "checkpoint.",
)
def step_reward_card(context: dg.AssetExecutionContext, home: Home) -> dg.MaterializeResult:
    """Trace what the step reward model rests on, and write it down."""
    path, found = write_card(
        home.layout,
        context.partition_key,
        "step_reward_model",
        reading=reading_of(home.settings),
    )
    return dg.MaterializeResult(
        metadata={
            "card": dg.MetadataValue.md(path.read_text()),
            "dagster/uri": str(path),
            "records": found["records"],
            "label_cost_usd": found["label_cost_usd"],
        }
    )
