"""A trace as one page for an auditor: what it is, then where it came from or what it touched.

Every number stands in the trace; the page needs no other file and no network.
"""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from flywheel.errors import LineageError

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#222}
h1{font-size:1.5rem;margin-bottom:0}h2{font-size:1.1rem;margin-top:2.2rem}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .6rem;
border-bottom:1px solid #ddd;vertical-align:top;overflow-wrap:break-word}
th{font-weight:600;color:#555}.note{color:#666}
.n{white-space:nowrap;text-align:right;font-variant-numeric:tabular-nums}
.tiles{display:flex;flex-wrap:wrap;gap:.8rem;margin:1.2rem 0}
.tile{border:1px solid #ddd;border-radius:.4rem;padding:.5rem .9rem;min-width:7rem}
.tile b{display:block;font-size:1.2rem;font-variant-numeric:tabular-nums}
.tile span{color:#666;font-size:.85rem}
.said{border-left:3px solid #3b6ea5;padding:.2rem .8rem;white-space:pre-wrap;margin:.4rem 0}
.path{margin:1rem 0;line-height:2.2}.path code{border:1px solid #bbb;border-radius:.3rem;
padding:.15rem .5rem;background:#f7f7f7}code{font-size:.9em}
.bar{background:#3b6ea5;height:.6rem;min-width:2px}td.b{width:9rem;vertical-align:middle}
.warn{background:#fbefee;border:1px solid #e3b7b3;border-radius:.4rem;padding:.5rem .9rem}
"""
PARTS = (  # of what lies behind something: list in the trace, heading, what one is
    ("by_source", "Sources", "source"),
    ("by_licence", "Licences", "licence"),
    ("by_guideline", "Guideline versions", "guideline"),
    ("by_annotator", "Annotators", "annotator"),
)
TOO_LONG = ("record_uid", "batch_id", "annotator_kind")
WORDS = {
    "evaluate": "test models on it",
    "train_internal": "train models for use in house",
    "train_release": "publish weights trained on it",
    "serve_commercial": "serve models trained on it to customers",
    "publish_data": "pass the data on",
}


def write_page(path: Path, found: dict[str, Any]) -> None:
    """Write what `trace` found as a page.

    Raises:
        LineageError: It cannot be written.
    """
    page = f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>Trace of {escape(found["name"])}</title>
<style>{STYLE}</style></head><body>{_body(found)}</body></html>
"""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise LineageError(
            f"cannot write {path}: {error.strerror or error}; name a file in a folder that can be "
            f"written to"
        ) from error


def _body(found: dict[str, Any]) -> str:
    kind = {"generation": "checkpoint", "served": "served answer"}.get(found["kind"], found["kind"])
    title = f"<h1>{escape(kind.capitalize())} <code>{escape(found['name'])}</code></h1>"
    if found["kind"] in ("answer", "served"):
        behind = _backward(found["from"]) if "from" in found else ""
        return title + _answered(found) + behind
    return title + (_backward(found) if "ancestry" in found else _forward(found))


def _answered(found: dict[str, Any]) -> str:
    """What was asked and answered, when and by which weights."""
    withheld = "not kept, because the user did not agree to that"
    told = [
        (key.replace("_", " "), str(found[key]))
        for key in ("at", "stage", "policy", "score", "file", "content_hash")
        if found.get(key) is not None
    ]
    gone = "" if "from" in found else f"<p class=warn>{escape(found['checkpoint'])}.</p>"
    said = "".join(
        f"<h2>{what}</h2><div class=said>{escape(str(found[key] or withheld))}</div>"
        for what, key in (("What was asked", "prompt"), ("What was answered", "response"))
    )
    return f"{said}<h2>Which weights answered</h2>{gone}{_table(('', ''), told)}"


def _backward(found: dict[str, Any]) -> str:
    steps = found.get("descent", [])
    path = " &larr; ".join(f"<code>{escape(one)}</code>" for one in found["ancestry"])
    hash_ = f"content <code>{found['content_hash']}</code>" if found["content_hash"] else ""
    champion = "; it is the champion" if found["is_champion"] else ""
    compute = found.get("compute_cost_usd")
    tiles = [
        (f"{found['records']:,}", "records behind it"),
        (f"{found['times_seen']:,}", "times seen in training" if steps else "rows rest on them"),
        (f"{found['label_cost_usd']:,.2f} USD", "paid for these labels"),
    ]
    if steps:
        hours = found["compute_hours"]
        price = "no price of an hour is set" if compute is None else f"{hours:,.2f} h of compute"
        tiles.append((f"{hours:,.2f} h" if compute is None else f"{compute:,.2f} USD", price))
    missing = found["records_no_longer_landed"]
    gone = (
        f"<p class=warn>{missing:,} of these records are landed no longer: who said them, and "
        f"under which terms, is not known here.</p>"
        if missing
        else ""
    )
    if found["ancestors_unknown"]:
        gone += f"<p class=warn>More may be behind it: {_unknown(found)}</p>"
    heads = ("checkpoint", "content", "read", "records", "tokens", "hours", "USD")
    came = [[_shown(one) for one in step.values()] for step in steps]
    return (
        f"<p class=note>{hash_}{champion}</p>{_tiles(tiles)}{gone}"
        f"<p class=path>{path}</p>"
        f"<h2>What it may be used for</h2>{_rights(found)}"
        + (f"<h2>How it was trained</h2>{_table(heads, came)}" if came else "")
        + "".join(
            f"<h2>{title}</h2>{_part(what, found[name])}"
            for name, title, what in PARTS
            if found[name]
        )
        + "<h2>Decisions</h2>"
        + (_dicts(found["decisions"]) or "<p class=note>None was taken on it.</p>")
        + "<h2>Records seen most often</h2><p class=note>Every other is in the warehouse: "
        + "<code>fct_record_checkpoints</code> and <code>dim_records</code>.</p>"
        + _dicts(found["examples"])
    )


def _unknown(found: dict[str, Any]) -> str:
    names = ", ".join(found["unknown_ancestors"])
    return f"what {escape(names)} saw cannot be told any more."


def _rights(found: dict[str, Any]) -> str:
    uses = "".join(f"<li>{escape(WORDS[one])}</li>" for one in found["allowed_uses"])
    owed = ", ".join(one.replace("_", " ") for one in found["duties"]) or "none"
    limits = ", ".join(found["limited_by"])
    limited = f" More is not, because of: {escape(limits)}." if limits else ""
    return (
        f"<p class=note>What the licences and consents of all its records allow together today, "
        f"with the licence of what training started from, as far as the table of licences "
        f"tells.{limited}</p>"
        f"<ul>{uses or '<li>nothing</li>'}</ul><p>Duties: {escape(owed)}.</p>"
    )


def _part(what: str, rows: list[dict[str, Any]]) -> str:
    most = max(one["times_seen"] for one in rows) or 1
    lines = "".join(
        f"<tr><td>{escape(str(one['name']))}</td><td class=n>{one['records']:,}</td>"
        f"<td class=n>{one['times_seen']:,}</td><td class=b><div class=bar "
        f'style="width:{100 * one["times_seen"] / most:.1f}%"></div></td>'
        f"<td class=n>{one['cost_usd']:,.2f}</td></tr>"
        for one in rows
    )
    return (
        f"<table><tr><th>{what}</th><th class=n>records</th><th class=n>times seen</th><th></th>"
        f"<th class=n>USD</th></tr>{lines}</table>"
    )


def _forward(found: dict[str, Any]) -> str:
    touched = sum(one["times_seen"] for one in found["checkpoints"])
    champion = {
        True: "<p class=warn>The champion rests on it.</p>",
        None: f"<p class=warn>Whether the champion rests on it is not known: {_unknown(found)}</p>",
    }.get(found["champion_is_touched"], "")
    taken_back = [one["withdrawn_at"] for one in found["consent_statements"]]
    withdrawn = [str(one) for one in taken_back if one]
    warning = (
        f"<p class=warn>Consent was withdrawn ({escape(', '.join(withdrawn))}). The checkpoints "
        f"below rest on it.</p>"
        if withdrawn
        else ""
    )
    tiles = [
        (f"{found['records']:,}", "landed records"),
        (f"{len(found['datasets']):,}", "splits of datasets hold them"),
        (f"{len(found['checkpoints']):,}", "checkpoints saw them"),
        (f"{len(found['descendants']):,}", "more descend from those"),
        (f"{touched:,}", "times seen in training"),
    ]
    heirs = [(one,) for one in found["descendants"]]
    return (
        f"{_tiles(tiles)}{warning}{champion}"
        f"<h2>Checkpoints that were trained on it</h2>"
        f"{_dicts(found['checkpoints']) or '<p class=note>None.</p>'}"
        f"<h2>Checkpoints that descend from those</h2>"
        f"{_table(('checkpoint',), heirs) if heirs else '<p class=note>None.</p>'}"
        f"<h2>Datasets</h2>{_dicts(found['datasets']) or '<p class=note>None.</p>'}"
        + (
            f"<h2>What was said of the consent</h2>{_dicts(found['consent_statements'])}"
            if found["consent_statements"]
            else ""
        )
        + f"<h2>Records</h2>{_dicts([_brief(one) for one in found['examples']])}"
    )


def _brief(record: dict[str, Any]) -> dict[str, Any]:
    """A record without what a page has no room for; `flywheel trace` shows it all."""
    return {key: one for key, one in record.items() if key not in TOO_LONG}


def _tiles(tiles: Iterable[tuple[str, str]]) -> str:
    shown = "".join(
        f"<div class=tile><b>{escape(value)}</b><span>{escape(what)}</span></div>"
        for value, what in tiles
    )
    return f"<div class=tiles>{shown}</div>"


def _dicts(rows: list[dict[str, Any]]) -> str:
    """A table of rows that have the same keys; nothing where there are none."""
    if not rows:
        return ""
    heads = [one.replace("_", " ").replace("usd", "USD") for one in rows[0]]
    lines = [
        [
            f"{one:,.2f}" if key == "cost_usd" and one is not None else _shown(one)
            for key, one in row.items()
        ]
        for row in rows
    ]
    return _table(heads, lines)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return (
        f"{value:,.4g}"
        if isinstance(value, float) and value < 1
        else (f"{value:,.2f}" if isinstance(value, float) else str(value))
    )


def _table(heads: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """A table without the columns that are empty in every row."""
    columns = [(head, cells) for head, *cells in zip(heads, *rows, strict=True) if any(cells)]
    kinds = [" class=n" if all(_is_number(one) for one in cells) else "" for _, cells in columns]
    head = "".join(
        f"<th{kind}>{escape(one)}</th>" for (one, _), kind in zip(columns, kinds, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(f"<td{kind}>{escape(one)}</td>" for one, kind in zip(line, kinds, strict=True))
        + "</tr>"
        for line in zip(*(cells for _, cells in columns), strict=True)
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _is_number(text: str) -> bool:
    return not text or text.replace(",", "").replace(".", "", 1).replace("e-", "").isdigit()
