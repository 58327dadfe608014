"""The model card of a checkpoint: data, settings, metrics, limits, lineage, cost; as Markdown."""

import json
import os
from pathlib import Path
from typing import Any

from flywheel.layout import Layout
from flywheel.lineage.trace import trace
from flywheel.models.publish import manifest_of
from flywheel.promotion import latest_decision

HOUR = 3600.0


def write_card(
    layout: Layout, generation: str, *, usd_per_hour: float = 0.0
) -> tuple[Path, dict[str, Any]]:
    """Write the card of a generation's policy, anew where it was written before.

    Args:
        layout: The home.
        generation: Of the policy.
        usd_per_hour: What an hour of the machine costs; 0 where that is not known.

    Returns:
        Where it lies, and the trace that it was written from.

    Raises:
        LineageError: There is no such policy.
    """
    found = trace(layout, f"generation:{generation}")
    folder = layout.checkpoint("policy", generation)
    manifest = manifest_of(folder)
    evaluation = _read(layout.evaluation(generation) / "result.json")
    decision = latest_decision(layout, generation) or {}
    text = "\n\n".join(
        [
            f"# {found['name']}",
            _identity(found, manifest, decision),
            "## Data\n\n" + _data(found),
            "## Metrics\n\n" + _metrics(evaluation),
            "## Limits\n\n" + _limits(evaluation, decision, found),
            "## Cost\n\n" + _cost(layout, generation, found, usd_per_hour),
            "## Settings\n\n" + _table(("setting", "value"), manifest.get("settings", {}).items()),
        ]
    )
    path = layout.card("policy", generation)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text + "\n", encoding="utf-8")
    os.replace(draft, path)
    return path, found


def _identity(found: dict[str, Any], manifest: dict[str, Any], decision: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {value}" for name, value in manifest["versions"].items())
    said = decision.get("decision", "not judged yet")
    return _table(
        ("", ""),
        [
            ("content", f"`{found['content_hash']}`"),
            ("descends from", ", ".join(found["ancestry"][1:]) or "nothing"),
            ("gate", said + (f", by {decision['by']} at {decision['at']}" if decision else "")),
            ("champion", "yes" if found["is_champion"] else "no"),
            ("precision, device", f"{manifest.get('precision')}, {manifest.get('device')}"),
            ("versions", versions),
        ],
    )


def _data(found: dict[str, Any]) -> str:
    told = (
        f"{found['records']} records, seen {found['times_seen']} times in all, its parents' "
        f"included; {found['records_no_longer_landed']} of them are landed no longer."
    )
    datasets = _table(("dataset", "content"), found["datasets"].items())
    parts = [
        f"### By {part}\n\n"
        + _table(("", "records", "times seen", "USD"), [tuple(row.values()) for row in rows])
        for part in ("source", "licence", "guideline", "annotator")
        if (rows := found[f"by_{part}"])
    ]
    return "\n\n".join([told, datasets, *parts])


def _metrics(evaluation: dict[str, Any]) -> str:
    policy, reward = evaluation.get("policy"), evaluation.get("reward_model")
    if not policy:
        return "It was not evaluated."
    rows = [
        (f"preferred over {name}", _share(one), policy["prompts"])
        for name, one in policy["versus"].items()
    ]
    rows += [
        (f"at equal length, over {name}", _share(one["length_controlled"]), policy["prompts"])
        for name, one in policy["versus"].items()
        if "length_controlled" in one
    ]
    if reward:
        told = {"win_rate": reward["accuracy"], "ci": reward["ci"]}
        rows.append(("its reward model on held-out pairs", _share(told), reward["pairs"]))
        rows.append(
            ("'the longer wins' on these", f"{reward['longest_wins']:.3f}", reward["pairs"])
        )
    table = _table(("", "share, 95 % interval", "of"), rows)
    simulated = " The annotators are simulated." if evaluation.get("simulated") else ""
    graded = f"Graded by {policy['grader']} on prompts that nothing was trained on.{simulated}"
    return f"{graded}\n\n{table}"


def _limits(evaluation: dict[str, Any], decision: dict[str, Any], found: dict[str, Any]) -> str:
    lines = list(decision.get("reasons", []))
    slices = evaluation.get("policy", {}).get("slices", [])
    lines += [
        f"weakest on {one['axis']} '{one['name']}': {_share(one)} over "
        f"{evaluation['policy']['opponent']} on {one['prompts']} prompts"
        for one in sorted(slices, key=lambda one: one["win_rate"])[:3]
    ]
    lines += [f"{name}: {told}" for name, told in evaluation.get("broken_invariants", {}).items()]
    if any(row["name"] == "unknown" for row in found["by_licence"]):
        lines.append("some records came without a licence")
    return "\n".join(f"- {one}" for one in lines) or "None are known, which says little."


def _cost(layout: Layout, generation: str, found: dict[str, Any], usd_per_hour: float) -> str:
    hours = {
        path.parent.parent.name: _read(path).get("process_seconds", 0.0) / HOUR
        for path in sorted(layout.runs.glob(f"*/{generation}/result.json"))
    }
    rows = [("labels", f"{found['label_cost_usd']:.2f}", "")]
    for name, spent in hours.items():
        money = f"{spent * usd_per_hour:.2f}" if usd_per_hour else "no price is set"
        rows.append((name, money, f"{spent:.3f} h"))
    return _table(("", "USD", "time"), rows)


def _share(one: dict[str, Any]) -> str:
    return f"{one['win_rate']:.3f} ({one['ci'][0]:.3f} to {one['ci'][1]:.3f})"


def _table(heads: tuple[str, ...], rows: Any) -> str:
    lines = [f"| {' | '.join(heads)} |", f"|{'--|' * len(heads)}"]
    lines += [
        "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |"
        for row in rows
    ]
    return "\n".join(lines)


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text())) if path.exists() else {}
