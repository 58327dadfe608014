"""One page about the labels, for whoever manages annotators: who, how good, at what price.

It needs no other file and no network. People are shown by the pseudonyms they landed with.
"""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from flywheel.labels.charts import dot_plot, short
from flywheel.labels.overview import Overview, Row

SHOWN = 40  # annotators in a table or a plot, those with the most labels
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:80rem;margin:2rem auto;padding:0 1rem;color:#222}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2.4rem}
table{border-collapse:collapse;width:100%;font-size:.85rem}
td,th{text-align:left;padding:.3rem .5rem;
border-bottom:1px solid #ddd;vertical-align:top}th{font-weight:600;color:#555}
td.n{font-variant-numeric:tabular-nums;white-space:nowrap}.note{color:#666;max-width:60rem}
.plots{display:flex;flex-wrap:wrap;gap:1rem}.pair{border:1px solid #ddd;border-radius:6px;
padding:.8rem 1rem;margin:1rem 0}.sides{display:grid;grid-template-columns:1fr 1fr;gap:1rem}
.sides div{background:#f7f7f7;padding:.5rem .8rem;border-radius:4px;overflow-wrap:anywhere}
.better{outline:2px solid #3b6ea5}li{margin:.2rem 0}
"""
TOLD = 25  # annotators of whom something is told
DOMAINS = 8  # columns, those with the most votes
LONG = 900  # characters of a text shown
HEADS = (
    "annotator",
    "kind",
    "labels",
    "hours",
    "cost USD",
    "USD per effective label",
    "accuracy",
    "gold questions",
    "with the others",
    "first side",
    "length bias",
    "same again",
    "median s",
)


def plots(found: Overview) -> dict[str, str]:
    """Pictures by name: accuracy, side and length of annotators, alpha by domain and guideline."""
    people = [one for one in found.annotators if one["vote_count"]][:SHOWN]
    slices = [
        (f"{one['domain']} / {one['guideline_version']}", one)
        for one in found.agreement
        if one["kind"] == "comparison"
    ]
    return {
        "accuracy": _plot(
            people, "How often a vote is right", "accuracy", (0.4, 1.0), 0.5, "_frac"
        ),
        "left_share": _plot(
            people, "How often the first side shown wins", "left_share", (0, 1), 0.5
        ),
        "length_bias": _plot(
            people, "Leaning to the longer response", "length_bias", (-0.5, 0.5), 0.0
        ),
        "alpha": dot_plot(
            "Krippendorff's alpha by domain / guideline",
            [(name, one["alpha_low"], one["alpha"], one["alpha_high"]) for name, one in slices],
            (-0.2, 1.0),
            0.0,
        ),
    }


def write_page(path: Path, found: Overview) -> None:
    """Write the page."""
    pictures = "".join(f"<div>{one}</div>" for one in plots(found).values())
    path.parent.mkdir(parents=True, exist_ok=True)
    page = f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>Label quality</title>
<style>{STYLE}</style></head><body><h1>Label quality</h1>
<p class=note>{_summary(found)}</p>
<h2>Who to talk to</h2>{_findings(found)}
<h2>At a glance</h2><p class=note>Bars are 95 % intervals, the dashed line is where nothing is to be
seen.</p><div class=plots>{pictures}</div>
<h2>Annotators</h2>{_annotators(found)}
{_domains(found)}
<h2>Agreement</h2>{_agreement(found)}
{_models(found)}
<h2>Worst disagreements</h2><p class=note>Pairs with the most trust on both sides. A guideline that
leaves them open, or a prompt that has two good answers, shows here first.</p>
{"".join(map(_contested, found.contested)) or "<p>No pair has votes for both sides.</p>"}
</body></html>
"""
    path.write_text(page, encoding="utf-8", errors="backslashreplace")


def _plot(
    people: Sequence[Row],
    title: str,
    name: str,
    span: tuple[float, float],
    line: float,
    end: str = "",
) -> str:
    points = [
        (one["annotator_id"], one[f"{name}_low"], one[f"{name}{end}"], one[f"{name}_high"])
        for one in people
        if one[f"{name}{end}"] is not None
    ]
    return dot_plot(title, points, span, line)


def _summary(found: Overview) -> str:
    labels = sum(one["label_count"] for one in found.annotators)
    votes = sum(one["vote_count"] for one in found.annotators)
    cost = sum(one["cost_usd"] or 0 for one in found.annotators)
    told = f"{labels:,} labels by {len(found.annotators):,} annotators, {votes:,} votes on pairs"
    told += f", {cost:,.0f} USD." if cost else "."
    overall, others = found.overall(), found.against_others()
    if overall and overall["alpha"] is not None:
        told += (
            f" On the {overall['item_count']:,} pairs that several judged, two votes agree "
            f"{overall['agreement_frac']:.1%} of the time; beyond chance that is an alpha of "
            f"{overall['alpha']:.3f} ({overall['alpha_low']:.3f} to {overall['alpha_high']:.3f})."
        )
    else:
        told += " No pair was judged by two annotators, so nobody can be held against anybody."
    if others is not None:
        told += (
            f" An annotator sides with the weighted vote of the others {others:.1%} of the time: "
            "no reward model trained on these votes can be asked for much more."
        )
    return told


def _findings(found: Overview) -> str:
    if not found.findings:
        return "<p>Nobody stands out.</p>"
    rows = [
        f"<li><b>{escape(short(who))}</b> {escape('; '.join(said))}</li>"
        for who, said in found.findings[:TOLD]
    ]
    more = len(found.findings) - TOLD
    return f"<ul>{''.join(rows)}</ul>" + (f"<p class=note>and {more} more</p>" if more > 0 else "")


def _annotators(found: Overview) -> str:
    rows = [
        (
            short(one["annotator_id"]),
            one["annotator_kind"],
            f"{one['label_count']:,}",
            _number(one["hours"], ".1f"),
            _number(one["cost_usd"], ",.2f"),
            _number(one["cost_per_effective_label_usd"], ".3f"),
            _within(one["accuracy_frac"], one["accuracy_low"], one["accuracy_high"]),
            _of(one["gold_accuracy_frac"], one["gold_count"]),
            _of(one["agreement_with_others_frac"], one["tested_votes"]),
            _within(one["left_share"], one["left_share_low"], one["left_share_high"]),
            _within(one["length_bias"], one["length_bias_low"], one["length_bias_high"]),
            _of(one["self_consistency"], one["repeated_count"]),
            _number(one["median_seconds"], ".0f") + (" (fast)" if one["is_fast"] else ""),
        )
        for one in found.annotators[:SHOWN]
    ]
    more = len(found.annotators) - SHOWN
    left = (
        f"<p class=note>{more:,} with fewer labels are in dim_annotators.</p>" if more > 0 else ""
    )
    return (
        "<p class=note>An effective label is one that is never wrong: labels times what a vote of "
        f"this accuracy tells, in bits.</p>{_table(HEADS, rows)}{left}"
    )


def _domains(found: Overview) -> str:
    """Accuracy by annotator and domain, where there are several domains."""
    votes: dict[str, int] = {}
    for one in found.domains:
        votes[one["domain"]] = votes.get(one["domain"], 0) + one["compared_count"]
    names = [name for name in sorted(votes, key=lambda name: -votes[name]) if votes[name]][:DOMAINS]
    if len(names) < 2:
        return ""
    cells = {(one["annotator_id"], one["domain"]): one for one in found.domains}
    rows = [
        (
            short(one["annotator_id"]),
            *(
                _of(there["accuracy_frac"], there["compared_count"])
                if (there := cells.get((one["annotator_id"], name))) and there["compared_count"]
                else ""
                for name in names
            ),
        )
        for one in found.annotators[:SHOWN]
        if one["compared_count"]
    ]
    note = "<p class=note>Accuracy, shrunk to the annotator's own, and the votes it rests on.</p>"
    return f"<h2>Accuracy by domain</h2>{note}{_table(['annotator', *names], rows)}"


def _agreement(found: Overview) -> str:
    heads = ["labels", "domain", "guideline", "items", "labels on them", "agree", "alpha"]
    rows = [
        (
            one["kind"],
            one["domain"],
            one["guideline_version"],
            f"{one['item_count']:,}",
            f"{one['label_count']:,}",
            _number(one["agreement_frac"], ".1%"),
            _within(one["alpha"], one["alpha_low"], one["alpha_high"], ".3f"),
        )
        for one in found.agreement
    ]
    if not rows:
        return "<p>Nothing was judged by two annotators.</p>"
    return (
        "<p class=note>Alpha is 1 where all agree and 0 where they agree as by chance. "
        "Krippendorff asks for .8 to rely on labels, and for .667 at least.</p>"
        + _table(heads, rows)
    )


def _models(found: Overview) -> str:
    if not found.models:
        return ""
    rows = [
        (one["model"], f"{one['votes']:,}", _within(one["strength"], one["low"], one["high"]))
        for one in found.models
    ]
    return (
        "<h2>Models as annotators prefer them</h2><p class=note>Bradley-Terry with ties and with "
        "annotators of unlike reliability; a lead of 1 wins 73 % of what is decided.</p>"
        + _table(["model", "votes", "strength"], rows)
    )


def _contested(row: Row) -> str:
    chance = row["probability_a"]
    sides = "".join(
        f"<div{' class=better' if share > 0.5 else ''}><b>{name}</b> ({share:.0%})<br>"
        f"{_text(text)}</div>"
        for name, text, share in (
            ("a", row["response_a"], chance),
            ("b", row["response_b"], 1 - chance),
        )
    )
    votes = [
        (
            short(one["annotator_id"]),
            {1.0: "a", 0.0: "b"}.get(one["vote"], "tie"),
            f"{one['weight']:.2f}",
            one["reason"] or "",
        )
        for one in row["votes"]
    ]
    return (
        f"<div class=pair><p>{_text(row['prompt'])}</p><div class=sides>{sides}</div>"
        f"{_table(['annotator', 'vote', 'weight', 'reason'], votes)}</div>"
    )


def _text(text: str) -> str:
    return escape(text if len(text) <= LONG else f"{text[:LONG]} …")


def _table(heads: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """A table without the columns that are empty in every row."""
    columns = [(head, cells) for head, *cells in zip(heads, *rows, strict=True) if any(cells)]
    head = "".join(f"<th>{escape(one)}</th>" for one, _ in columns)
    lines = zip(*(cells for _, cells in columns), strict=True)
    body = "".join(f"<tr>{''.join(map(_cell, line))}</tr>" for line in lines)
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(value: str) -> str:
    return (
        f"<td{' class=n' if value[:1].isdigit() or value[:1] in '+-' else ''}>{escape(value)}</td>"
    )


def _number(value: Any, form: str) -> str:
    return "" if value is None else f"{value:{form}}"


def _within(value: Any, low: Any, high: Any, form: str = ".2f") -> str:
    if value is None:
        return ""
    return f"{value:{form}}" + (f" ({low:{form}} to {high:{form}})" if low is not None else "")


def _of(share: Any, count: int) -> str:
    return "" if share is None else f"{share:.0%} of {count:,}"
