"""Label quality: what the marts say of annotators and their labels, as one page."""

import base64

import dagster as dg

from assets.keys import DIM_ANNOTATORS, FCT_PREFERENCES
from assets.pages import page_link
from assets.resources import Home
from flywheel.labels import overview, plots, write_page

TOLD = 20  # annotators whose numbers the metadata holds; the page and the mart have more


@dg.asset(
    key=dg.AssetKey(["marts", "label_quality"]),
    deps=[
        DIM_ANNOTATORS,
        dg.AssetKey(["marts", "dim_annotators_by_domain"]),
        dg.AssetKey(["marts", "fct_label_agreement"]),
        FCT_PREFERENCES,
    ],
    group_name="marts",
    kinds={"numpy", "html"},
    pool="warehouse",
    description="Who judges how well and at what price, how far annotators agree, and the worst "
    "disagreements with their texts. One page.",
)
def label_quality(home: Home) -> dg.MaterializeResult:
    """Read the marts and write the page."""
    found = overview(home.layout.warehouse_copy)
    write_page(home.layout.label_quality, found)
    overall = found.overall()
    shown = ("annotator_id", "label_count", "accuracy_frac", "left_share", "cost_usd")
    rows = [{name: one[name] for name in shown} for one in found.annotators[:TOLD]]
    # texts stand on the page alone: an erasure does not reach Dagster's event log
    return dg.MaterializeResult(
        metadata={
            "page": page_link(home.layout, home.layout.label_quality),
            "annotators": len(found.annotators),
            "alpha": overall["alpha"] if overall else None,
            "agreement_with_others_frac": found.against_others(),
            "who_to_talk_to": dg.MetadataValue.json(dict(found.findings)),
            "worst_disagreements": len(found.contested),
            "by_annotator": dg.MetadataValue.table([dg.TableRecord(one) for one in rows]),
            **{f"plot_{name}": picture(svg) for name, svg in plots(found).items()},
        }
    )


def picture(svg: str) -> dg.MarkdownMetadataValue:
    """An SVG inside the metadata: no file to lose, nothing to serve."""
    encoded = base64.b64encode(svg.encode()).decode()
    return dg.MetadataValue.md(f"![](data:image/svg+xml;base64,{encoded})")
