"""The model card of a checkpoint: data, settings, metrics, limits, lineage, cost; as Markdown."""

import json
import os
from pathlib import Path
from typing import Any

from flywheel.layout import Layout
from flywheel.lineage.behind import Reading
from flywheel.lineage.checkpoints import id_of
from flywheel.lineage.descent import descent
from flywheel.lineage.trace import trace
from flywheel.models.publish import manifest_of
from flywheel.promotion import latest_decision

LEARNT = (  # numbers of a training run, in the order of the card
    "steps",
    "tokens",
    "start_loss",
    "loss",
    "validation_rows",
    "validation_pairs",
    "validation_steps",
    "validation_loss",
    "validation_accuracy_frac",
    "validation_annotator_accuracy_frac",
)


def write_card(
    layout: Layout, generation: str, kind: str = "policy", *, reading: Reading | None = None
) -> tuple[Path, dict[str, Any]]:
    """Write the card of a checkpoint, anew where it was written before.

    Args:
        layout: The home.
        generation: Of the checkpoint.
        kind: Of the checkpoint: policy, sft_policy, reward_model, step_reward_model, ...
        reading: What an hour of the machine costs, and licences of the team's own.

    Returns:
        Where it lies, and the trace that it was written from.

    Raises:
        LineageError: There is no such checkpoint.
    """
    found = trace(layout, f"checkpoint:{kind}/{generation}", reading)
    manifest = manifest_of(layout.checkpoint(kind, generation))
    evaluation = _read(layout.evaluation(generation) / "result.json")
    if evaluation.get(f"{kind.removesuffix('_policy')}_content_hash") != found["content_hash"]:
        evaluation = {}  # of none, or of weights that were here before
    said = latest_decision(layout, generation) if kind == "policy" else None
    decision = said or {}
    sections = {
        "Data": _data(found),
        "What it may be used for": _rights(found),
        "Metrics": metrics_of(kind, evaluation, manifest.get("result", {})),
        "Limits": _limits(kind, evaluation, decision, found, manifest.get("result", {})),
        "Cost": _cost(layout, kind, generation, found),
        "Settings": _table(("setting", "value"), manifest.get("settings", {}).items()),
    }
    parts = [f"# {found['name']}", _identity(found, manifest, decision)]
    parts += [f"## {title}\n\n{text}" for title, text in sections.items()]
    path = layout.card(kind, generation)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    os.replace(draft, path)
    return path, found


def _identity(found: dict[str, Any], manifest: dict[str, Any], decision: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {value}" for name, value in manifest["versions"].items())
    rows = [
        ("content", f"`{found['content_hash']}`"),
        ("descends from", ", ".join(found["ancestry"][1:]) or "nothing"),
        ("precision, device", f"{manifest.get('precision')}, {manifest.get('device')}"),
        ("versions", versions),
    ]
    if found["name"].startswith("policy/"):  # nothing else is judged by the gate
        said = decision.get("decision", "not judged yet")
        by = f", by {decision['by']} at {decision['at']}" if decision else ""
        rows[2:2] = [("gate", said + by), ("champion", "yes" if found["is_champion"] else "no")]
    return _table(("", ""), rows)


def _data(found: dict[str, Any]) -> str:
    told = (
        f"{found['records']} records, seen {found['times_seen']} times in all, its parents' "
        f"included; {found['records_no_longer_landed']} of them are landed no longer."
    )
    for one in found["erased"]:
        told += f" {one['records']} of its records were erased since (erasure {one['erasure']})."
    if found["ancestors_unknown"]:
        told += f" What {', '.join(found['unknown_ancestors'])} saw cannot be told any more."
    datasets = _table(("dataset", "content"), found["datasets"].items())
    parts = [
        f"### By {part}\n\n"
        + _table(("", "records", "times seen", "USD"), [tuple(row.values()) for row in rows])
        for part in ("source", "licence", "guideline", "annotator")
        if (rows := found[f"by_{part}"])
    ]
    return "\n\n".join([told, datasets, *parts])


def _rights(found: dict[str, Any]) -> str:
    uses = ", ".join(one.replace("_", " ") for one in found["allowed_uses"]) or "nothing"
    duties = ", ".join(one.replace("_", " ") for one in found["duties"]) or "none"
    limits = ", ".join(found["limited_by"])
    told = (
        f"By the licences and consents of its records and the licence of what training started "
        f"from, together: {uses}. Duties: {duties}."
    )
    told += f" More is not, because of: {limits}." if limits else ""
    return told + "".join(f"\n- not as it is wanted: {one}" for one in found["against_use"])


def metrics_of(kind: str, evaluation: dict[str, Any], result: dict[str, Any]) -> str:
    """What an evaluation and the run itself say of a checkpoint of this kind."""
    judged = {"policy": _of_policy, "reward_model": _of_reward, "sft_policy": _of_sft}.get(kind)
    told = judged(evaluation) if judged and evaluation else ""
    learnt = [
        (name.replace("_", " "), f"{one:,.4g}" if isinstance(one, float) else f"{one:,}")
        for name in LEARNT
        if (one := result.get(name)) is not None
    ]
    training = f"### In training\n\n{_table(('', ''), learnt)}" if learnt else ""
    return "\n\n".join(filter(None, [told or "It was not evaluated.", training]))


def _of_policy(evaluation: dict[str, Any]) -> str:
    policy = evaluation["policy"]
    compared = {name: one for name, one in policy["versus"].items() if one["prompts"]}
    rows = [
        (f"preferred over {name}", _share(one), one["prompts"]) for name, one in compared.items()
    ]
    rows += [
        (f"at equal length, over {name}", _share(one["length_controlled"]), one["prompts"])
        for name, one in compared.items()
        if "length_controlled" in one
    ]
    rows += [
        (f"preferred by {one['annotators']} people over {name}", _share(one), one["prompts"])
        for name, one in evaluation.get("people", {}).items()
    ]
    rows += [
        (f"on set {one['name']} version {one['version']}", _share(one), one["compared"])
        for one in evaluation.get("evaluation_sets", ())
        if one["compared"]
    ]
    judge = evaluation.get("judge")
    if judge and judge["agreement"] is not None:
        told = {"win_rate": judge["agreement"], "ci": judge["agreement_ci"]}
        count = judge["pairs"] - judge["unread"]
        rows.append(("its judge agrees with people on held-out pairs", _share(told), count))
    if reward := evaluation["reward_model"]:
        told = {"win_rate": reward["accuracy"], "ci": reward["ci"]}
        rows.append(("its reward model on held-out pairs", _share(told), reward["pairs"]))
        rows.append(
            ("'the longer wins' on these", f"{reward['longest_wins']:.3f}", reward["pairs"])
        )
    table = _table(("", "share, 95 % interval", "of"), rows)
    simulated = " The annotators are simulated." if evaluation.get("simulated") else ""
    graded = f"Graded by {policy['grader']} on prompts that nothing was trained on.{simulated}"
    return f"{graded}\n\n{table}"


def _of_reward(evaluation: dict[str, Any]) -> str:
    """Accuracy beside chance, the rules of length, and what annotators reach."""
    reward = evaluation["reward_model"]
    count = reward["pairs"]
    rows: list[tuple[Any, ...]] = [
        ("orders held-out pairs as annotators do", *_interval(reward, "accuracy", "ci"), count),
        ("chance", "0.500", count),
        ("'the longer wins'", *_interval(reward, "longest_wins"), count),
        ("'the shorter wins'", *_interval(reward, "shortest_wins"), count),
    ]
    if reward.get("annotator_accuracy") is not None:
        several = reward["annotator_accuracy_pairs"]
        who = "an annotator, against the weighted vote of the others"
        rows += [
            (who, *_interval(reward, "annotator_accuracy"), several),
            (
                "the reward model in his place",
                *_interval(reward, "accuracy_in_their_place"),
                several,
            ),
        ]
    domains = [
        (name, *_interval(one, "accuracy", "ci"), one["pairs"])
        for name, one in reward["by_domain"].items()
    ]
    heads = ("", "share, 95 % interval", "pairs")
    return f"{_table(heads, rows)}\n\n### By domain\n\n{_table(heads, domains)}"


def _of_sft(evaluation: dict[str, Any]) -> str:
    """Held-out demonstrations, in nats per token beside those of its base."""
    held = evaluation["demonstrations"]
    if not held:
        return "No demonstration was held out."
    rows = [(name, *_interval(held, name)) for name in ("base", "sft")]
    return (
        f"Nats per token of {held['rows']} held-out demonstrations; lower is better.\n\n"
        + _table(("", "loss, 95 % interval"), rows)
    )


def _interval(found: dict[str, Any], name: str, ends: str = "") -> tuple[str]:
    low, high = found.get(ends or f"{name}_ci") or (None, None)
    told = f"{found[name]:.3f}"
    return (told if low is None else f"{told} ({low:.3f} to {high:.3f})",)


def _limits(
    kind: str,
    evaluation: dict[str, Any],
    decision: dict[str, Any],
    found: dict[str, Any],
    result: dict[str, Any],
) -> str:
    lines = list(decision.get("reasons", []))
    if kind == "policy" and evaluation:
        compared = [one for one in evaluation["policy"].get("slices", []) if one["prompts"]]
        slices = sorted(compared, key=lambda one: one["win_rate"])
        lines += [
            f"weakest on {one['axis']} '{one['name']}': {_share(one)} over "
            f"{evaluation['policy']['opponent']} on {one['prompts']} prompts"
            for one in slices[:3]
        ]
    broken = evaluation.get("broken_invariants", {})
    begins = {"policy": "", "reward_model": "reward model "}.get(kind, "none of ")
    lines += [f"{name}: {told}" for name, told in broken.items() if name.startswith(begins)]
    if kind == "reward_model" and evaluation:
        reward = evaluation["reward_model"]
        lines.append(f"{reward['undecided']} held-out pairs are split evenly, and tell nothing")
        if low := [n for n, one in reward["by_domain"].items() if one.get("ci", [1])[0] <= 0.5]:
            lines.append(f"no better than chance, as far as the pairs tell, on: {', '.join(low)}")
    lines += [f"{count} rows were not learnt from: {why}" for why, count in _dropped(result)]
    if untold := result.get("tools_untold_count"):
        lines.append(f"of the tools of {untold} rows it was not told: its template writes none")
    if "unknown" in found["limited_by"]:
        lines.append("some records came without a licence")
    if missing := found["records_no_longer_landed"]:
        lines.append(f"of {missing} records it is not known any more who said them")
    return "\n".join(f"- {one}" for one in lines) or "None are known, which says little."


def _dropped(result: dict[str, Any]) -> list[tuple[str, int]]:
    found = list(result.get("dropped", {}).items())
    cut = result.get("truncated_count")
    return found + ([("too long, and cut", cut)] if cut else [])


def _cost(layout: Layout, kind: str, generation: str, found: dict[str, Any]) -> str:
    """Labels, and the runs behind the checkpoint; behind a policy all of its generation."""
    behind = {one["checkpoint"]: one for one in found["descent"]}
    if kind == "policy":
        ran = sorted(layout.runs.glob(f"*/{generation}/result.json"))
        names = [one for one in map(lambda path: id_of(path.parent), ran) if one not in behind]
        price = found["usd_per_hour"]
        behind |= {one["checkpoint"]: one for one in descent(layout, {}, names, price)}
    rows = [("labels", f"{found['label_cost_usd']:.2f}", "")]
    for name, one in behind.items():
        usd, hours = one["usd"], one["hours"]
        time = "not known" if hours is None else f"{hours:.3f} h"
        rows.append((name, "no price is set" if usd is None else f"{usd:.2f}", time))
    total = sum(one["usd"] or 0 for one in behind.values()) + found["label_cost_usd"]
    rows.append(("together", f"{total:.2f}", ""))
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
