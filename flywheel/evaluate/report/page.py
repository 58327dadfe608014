"""One page for who decides: the verdict, the numbers behind it, what they rest on, the answers.

It is written by the evaluation, and again when the gate has spoken and checkpoints are rated, with
what other tools have measured by then. It reads files alone, needs no other file and no network,
and can be printed.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from flywheel.evaluate.outside.results import results_beside
from flywheel.evaluate.report.following import following_told
from flywheel.evaluate.report.others import others_told
from flywheel.evaluate.report.reward import reward_told
from flywheel.evaluate.report.side_by_side import side_by_side
from flywheel.evaluate.report.tables import number, table
from flywheel.evaluate.report.wording import LIMITS, READING, pairs_told, verdict_told
from flywheel.evaluate.statistics.ratings import rating_plot
from flywheel.labels.charts import dot_plot

Told = dict[str, Any]
STYLE = """
body{font:16px/1.55 system-ui,sans-serif;max-width:64rem;margin:0 auto;padding:1.5rem 1rem 4rem;
color:#222}h1{font-size:1.6rem;margin:.2rem 0}h2{font-size:1.15rem;margin:2.4rem 0 .4rem}
.verdict{border-left:.5rem solid #888;background:#f5f5f5;padding:.8rem 1rem;margin:1rem 0}
.PROMOTE{border-color:#2f7d4f;background:#eef7ee}.REJECT{border-color:#b3392f;background:#fbefee}
.HOLD{border-color:#b36b00;background:#fdf5e6}.verdict b{font-size:1.15rem}
.verdict ul{margin:.4rem 0 0;padding-left:1.2rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(11rem,1fr));gap:.8rem}
.tile{border:1px solid #ddd;border-radius:.5rem;padding:.7rem .9rem}
.tile b{display:block;font-size:1.7rem;font-variant-numeric:tabular-nums}
.tile span{color:#555;font-size:.9rem}svg{max-width:100%;height:auto}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.93rem}
td,th{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #e3e3e3;vertical-align:top}
th{color:#555;font-weight:600}td.n{white-space:nowrap;font-variant-numeric:tabular-nums}
.note{color:#666;font-size:.93rem}.pair{border:1px solid #ddd;border-radius:.5rem;margin:.7rem 0;
padding:.6rem .9rem}.pair p{margin:.2rem 0 .5rem;color:#555;white-space:pre-wrap}
.sides{display:grid;grid-template-columns:repeat(auto-fit,minmax(15rem,1fr));gap:.8rem}
.sides div{white-space:pre-wrap;background:#f7f7f7;padding:.5rem .7rem;border-radius:.3rem}
.sides .better{background:#eef7ee}
"""


def write_report(
    folder: Path, result: Told, decision: Told | None = None, ratings: Sequence[Told] = ()
) -> Path:
    """Write `report.html` of a generation into the folder of its evaluation.

    Args:
        folder: With the samples of the evaluation.
        result: Of the evaluation.
        decision: Of the gate: decision and reasons, and whether a person is awaited.
        ratings: Of all checkpoints, as `ratings.rated` gives them.
    """
    policy, reward = result["policy"], result["reward_model"]
    samples = pq.read_table(folder / "samples.parquet").to_pylist()
    simulated = (
        "<p class=note>The annotators of this world are simulated, and what scores the answers is "
        "a program.</p>"
        if result["simulated"]
        else ""
    )
    generation = escape(result["generation"])
    page = f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<title>Generation {generation}</title><style>{STYLE}</style></head><body>
<h1>Generation {generation}</h1>
{verdict_told(decision, policy)}
{_tiles(policy, reward)}{simulated}
<p class=note>{policy["prompts"]} prompts that nothing was trained on, in {policy["groups"]} groups
of near repeats, graded by {escape(policy["grader"])}. {READING}</p>
{_plain_plot(policy)}
<h2>Where it is better, and where not</h2>
{_slices(policy["slices"])}
<h2>What judge, people and other tools say</h2>
{others_told(result, results_beside(folder, result["policy_content_hash"]))}
<h2>Beside all other checkpoints</h2>
{_ratings(ratings)}
<h2>Was the reward model followed too far?</h2>
{following_told(policy)}
<h2>What the reward model is worth</h2>
<p>{pairs_told(reward)}</p>
{reward_told(reward)}
{_demonstrations(result["demonstrations"])}
<h2>Means</h2>{_means(policy)}
<h2>Answers side by side</h2>
{side_by_side(samples, policy["opponent"])}
<h2>What this does not show</h2>
<ul>{"".join(f"<li>{one}</li>" for one in LIMITS)}</ul>
</body></html>
"""
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8", errors="backslashreplace")
    return path


def _tiles(policy: Told, reward: Told) -> str:
    """Three to five numbers."""
    opponent = policy["opponent"]
    names = {opponent: f"the {opponent}", "sft": "the SFT policy"}
    tiles = [
        (f"preferred over {names[name]}", one["win_rate"], one["ci"])
        for name, one in _compared(policy).items()
        if name in names
    ]
    tiles.append(
        ("held-out pairs that the reward model gets right", reward["accuracy"], reward["ci"])
    )
    if reward["annotator_accuracy"] is not None:
        ends = reward["annotator_accuracy_ci"]
        tiles.append(("pairs that an annotator gets right", reward["annotator_accuracy"], ends))
    length = policy["mean_response_tokens"] / max(policy["opponent_response_tokens"], 1e-9)
    more = (
        f"<div class=tile><b>{length:.2f}</b><span>times the length of the "
        f"{escape(opponent)}'s answers</span></div>"
    )
    return (
        "<div class=tiles>"
        + "".join(
            f"<div class=tile><b>{value:.1%}</b><span>{escape(name)}<br>95 %: {low:.1%} to "
            f"{high:.1%}</span></div>"
            for name, value, (low, high) in tiles
        )
        + f"{more}</div>"
    )


def _compared(policy: Told) -> dict[str, Told]:
    """Whom the challenger was compared with: the rate of no outcome is no number."""
    first = policy["opponent"]
    order = sorted(policy["versus"], key=lambda name: name != first)
    return {name: one for name in order if (one := policy["versus"][name])["prompts"]}


def _plain_plot(policy: Told) -> str:
    """Win rates over everybody, in two ways of answering."""
    points = [
        (name, told["ci"][0], told["win_rate"], told["ci"][1])
        for name, told in (
            row
            for other, one in _compared(policy).items()
            for row in (
                (f"over {other}", one),
                (f"over {other}, at equal length", one["length_controlled"]),
            )
        )
    ]
    points += [
        (f"over {other}, greedy", one["ci"][0], one["win_rate"], one["ci"][1])
        for other, one in _compared(policy["greedy"]).items()
    ]
    if not points:
        return "<p class=note>Nobody has compared its answers with others' yet.</p>"
    return dot_plot("How often the challenger is preferred", points, (0, 1), 0.5)


def _slices(found: list[Told]) -> str:
    found = [one for one in found if one["prompts"]]
    if not found:
        return "<p class=note>There are too few prompts to cut them into slices.</p>"
    points = [
        (f"{one['axis']}: {one['name']}", one["ci"][0], one["win_rate"], one["ci"][1])
        for one in found
    ]
    rows = [
        (f"{one['axis']}: {one['name']}", *number(one, "win_rate"), str(one["prompts"]))
        for one in found
    ]
    note = (
        f"<p class=note>{len(found)} slices were looked at: one that is off by chance is to be "
        "expected among twenty. The gate counts them.</p>"
    )
    plot = dot_plot("Preferred over its opponent, by slice", points, (0, 1), 0.5)
    return plot + note + table(("slice", "win rate", "95 % interval", "error", "prompts"), rows)


def _ratings(ratings: Sequence[Told]) -> str:
    rated = [row for row in ratings if row["is_connected"]]
    if not rated:
        return "<p class=note>Checkpoints are rated when the gate has spoken.</p>"
    rows = [
        (
            row["name"],
            f"{row['rating']:.0f}",
            f"{row['low']:.0f} to {row['high']:.0f}",
            str(row["prompt_count"]),
            row["models"],
        )
        for row in rated
    ]
    lost = len(ratings) - len(rated)
    left = (
        f" {lost} more share no prompt with these, and cannot be placed beside them."
        if lost
        else ""
    )
    return (
        rating_plot(rated)
        + f"<p class=note>A lead of 100 points wins 64 % of what is decided.{left}</p>"
        + table(("checkpoint", "rating", "95 % interval", "prompts", "seen as"), rows)
    )


def _demonstrations(found: Told | None) -> str:
    """How well held-out demonstrations are predicted; lower is better."""
    if found is None:
        return ""
    rows = [(name, *number(found, name, f"{name}_")) for name in ("base", "sft", "policy")]
    note = f"{found['rows']} demonstrations, {found['tokens']} tokens; lower is better."
    heads = ("", "nats per token", "95 % interval", "error")
    return f"<h2>Held-out demonstrations</h2><p class=note>{note}</p>{table(heads, rows)}"


def _means(policy: Told) -> str:
    rows = [
        (
            name,
            f"{policy['mean_score'][name]:.3f} ± {policy['mean_score_se'][name] or 0:.3f}"
            if name in policy["mean_score"]
            else "",
            f"{policy['mean_tokens'][name]:.1f}",
            f"{policy['distinct_frac'][name]:.0%}",
        )
        for name in policy["mean_tokens"]
    ]
    return table(("", "mean score ± standard error", "tokens", "different answers"), rows)
