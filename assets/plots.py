"""Curves as pictures inside the metadata of an asset: no file to lose, nothing to serve."""

import base64
import io
import json
import math
from itertools import chain
from pathlib import Path

import dagster as dg

ACROSS = 4


def curves(run_dir: Path) -> dg.MarkdownMetadataValue:
    """Draw every column of a run's `metrics.jsonl` over its steps, four side by side.

    A step whose metric was not measured leaves a gap; one never measured is left out.
    """
    from matplotlib.figure import Figure  # 1 s of import: not while the code location loads

    path = run_dir / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    names = [key for key in dict.fromkeys(chain(*rows)) if key != "step"]
    drawn = [name for name in names if any(row.get(name) is not None for row in rows)]
    if not drawn:
        return dg.MetadataValue.md("no steps were measured")
    deep, wide = math.ceil(len(drawn) / ACROSS), min(len(drawn), ACROSS)
    figure = Figure(figsize=(4 * wide, 2.6 * deep), layout="constrained")
    axes = figure.subplots(deep, wide, squeeze=False).flat
    for axis in axes[len(drawn) :]:
        axis.set_visible(False)
    for axis, name in zip(axes, drawn, strict=False):
        points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
        axis.plot(*zip(*points, strict=True), linewidth=1)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("step", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3)
    picture = io.BytesIO()
    figure.savefig(picture, format="svg")
    encoded = base64.b64encode(picture.getvalue()).decode()
    return dg.MetadataValue.md(f"![{', '.join(drawn)}](data:image/svg+xml;base64,{encoded})")
