"""Curves as pictures inside the metadata of an asset: no file to lose, nothing to serve."""

import base64
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path

import dagster as dg

from flywheel.ingest import BatchManifest

ACROSS = 4


def curves(run_dir: Path) -> dg.MarkdownMetadataValue:
    """Draw every column of a run's `metrics.jsonl` over its steps, four side by side.

    A step whose metric was not measured leaves a gap; one never measured is left out.
    """
    path = run_dir / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    names = [key for key in dict.fromkeys(chain(*rows)) if key != "step"]
    points = {
        name: [(row["step"], row[name]) for row in rows if row.get(name) is not None]
        for name in names
    }
    return _drawn({name: found for name, found in points.items() if found}, "step", "no steps")


def failures(kind: str, batches: Iterable[BatchManifest]) -> dg.MarkdownMetadataValue:
    """Draw the share of rows that broke a rule, batch by batch, for each rule that any broke."""
    shares: dict[str, list[tuple[int, float]]] = {}
    for batch in batches:
        for one in batch.expectations:
            if one.kind == kind and one.checked:
                shares.setdefault(one.name, []).append((batch.number, one.failed / one.checked))
    broken = {name: found for name, found in shares.items() if any(share for _, share in found)}
    return _drawn(broken, "batch", "no failures", marker=".")


def _drawn(
    series: Mapping[str, Sequence[tuple[float, float]]], across: str, nothing: str, marker: str = ""
) -> dg.MarkdownMetadataValue:
    from matplotlib.figure import Figure  # 1 s of import: not while the code location loads

    if not series:
        return dg.MetadataValue.md(f"{nothing} were measured")
    deep, wide = math.ceil(len(series) / ACROSS), min(len(series), ACROSS)
    figure = Figure(figsize=(4 * wide, 2.6 * deep), layout="constrained")
    axes = figure.subplots(deep, wide, squeeze=False).flat
    for axis in axes[len(series) :]:
        axis.set_visible(False)
    for axis, (name, points) in zip(axes, series.items(), strict=False):
        axis.plot(*zip(*points, strict=True), linewidth=1, marker=marker)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel(across, fontsize=8)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3)
    picture = io.BytesIO()
    figure.savefig(picture, format="svg")
    encoded = base64.b64encode(picture.getvalue()).decode()
    return dg.MetadataValue.md(f"![{', '.join(series)}](data:image/svg+xml;base64,{encoded})")
