"""One page to look at: the numbers with their intervals, and answers side by side."""

from html import escape
from pathlib import Path
from typing import Any

from flywheel.evaluate.graders import Asked
from flywheel.evaluate.versus import Answers

SHOWN = 20  # pairs of answers at each end
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#222}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2.2rem}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.35rem .6rem;
border-bottom:1px solid #ddd;vertical-align:top}th{font-weight:600;color:#555}
td.n{white-space:nowrap;font-variant-numeric:tabular-nums}.note{color:#666}
.win{background:#eef7ee}.loss{background:#fbefee}pre{white-space:pre-wrap;margin:0;font:inherit}
"""


def write_report(
    path: Path, result: dict[str, Any], asked: list[Asked], answers: dict[str, Answers]
) -> None:
    """Write the page; it needs no other file and no network."""
    policy, reward = result["policy"], result["reward_model"]
    opponent = policy["opponent"]
    rates = [
        (f"challenger preferred over {name}", one["win_rate"], one["ci"], 0.5)
        for name, one in policy["versus"].items()
    ]
    rates += [
        (f"at equal length, over {name}", one["win_rate"], one["ci"], 0.5)
        for name, two in policy["versus"].items()
        if (one := two["length_controlled"])
    ]
    rates += [
        (f"greedy: challenger preferred over {name}", one["win_rate"], one["ci"], 0.5)
        for name, one in policy["greedy"]["versus"].items()
    ]
    rates += [
        (name, reward[field], reward[f"{field}_ci" if field != "accuracy" else "ci"], 0.5)
        for name, field in (
            ("reward model orders held-out pairs as annotators do", "accuracy"),
            ("an annotator sides with the weighted vote of the others", "annotator_accuracy"),
            ("the reward model in his place", "accuracy_in_their_place"),
            ("the longer response is preferred", "longest_wins"),
            ("the shorter response is preferred", "shortest_wins"),
        )
        if reward.get(field) is not None
    ]
    simulated = (
        "<p class=note>The annotators of this world are simulated, and what scores the answers is "
        "a program.</p>"
        if result["simulated"]
        else ""
    )
    page = f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Generation {escape(result["generation"])}</title>
<style>{STYLE}</style></head><body>
<h1>Generation {escape(result["generation"])}</h1>{simulated}
<p>{policy["prompts"]} prompts that nothing was trained on, in {policy["groups"]} groups of near
repeats, graded by {escape(policy["grader"])}. {_pairs(reward)} Bars are 95 % intervals over groups,
the line is one half.</p>
<table>{"".join(_rate(*one) for one in rates)}</table>
<h2>Means</h2>
<table><tr><th></th>{"".join(f"<th>{escape(n)}</th>" for n in policy["mean_score"])}</tr>
{_means("score", policy["mean_score"])}{_means("greedy score", policy["greedy"]["mean_score"])}
{_means("tokens", policy["mean_tokens"])}</table>
{_demonstrations(result["demonstrations"])}
{_slices("Slices of the win rate", _named(policy["slices"]), "win_rate", "prompts")}
{_slices("Reward model by domain", reward["by_domain"], "accuracy", "pairs", "longest_wins")}
{_slices("Reward model by length", reward["by_length"], "accuracy", "pairs")}
{_sides(asked, answers, opponent)}
</body></html>
"""
    path.write_text(page, encoding="utf-8", errors="backslashreplace")


def _pairs(reward: dict[str, Any]) -> str:
    """The held-out pairs, what length alone would get, and how far annotators agree."""
    lead, ceiling = reward["over_length"], reward["annotator_ceiling"]
    rule = "the longer wins" if lead["baseline"] == "longest_wins" else "the shorter wins"
    told = (
        f"{reward['pairs']} held-out pairs are decided; {reward['undecided']} more are split "
        f"evenly and left out of accuracy. On the decided ones the reward model is "
        f"{lead['difference']:+.3f} ({lead['ci'][0]:+.3f} to {lead['ci'][1]:+.3f}) ahead of "
        f"'{rule}', the better of the two rules of length."
    )
    if reward["plurality_agreement"] is not None:
        low, high = reward["plurality_agreement_ci"]
        told += (
            f" It agrees with the plurality of votes on {reward['plurality_agreement']:.1%} "
            f"({low:.1%} to {high:.1%}) of the {reward['plurality_pairs']} pairs that have one; "
            f"{reward['plurality_undecided']} with votes have none."
        )
    if reward.get("annotator_accuracy") is not None:
        low, high = reward["over_annotators_ci"]
        told += (
            f" Set against the weighted vote of the others on {reward['annotator_accuracy_pairs']} "
            f"pairs, an annotator is right {reward['annotator_accuracy']:.1%} of the time and the "
            f"reward model in his place {reward['accuracy_in_their_place']:.1%} (a difference of "
            f"{reward['over_annotators']:+.3f}, {low:+.3f} to {high:+.3f}): his is the ceiling."
        )
    if ceiling is None:
        return f"{told} No pair was judged by two annotators, so their ceiling is not known."
    return (
        f"{told} On the {reward['annotator_ceiling_pairs']} pairs that two annotators or more "
        f"decided, evenly split ones included, one agrees with another {ceiling:.1%} of the time, "
        f"and the reward model with one {reward['agreement_with_one_annotator']:.1%}."
    )


def _rate(name: str, value: float, ci: list[float], line: float) -> str:
    left, width = 200 * ci[0], max(2.0, 200 * (ci[1] - ci[0]))
    return (
        f"<tr><td>{escape(name)}</td><td class=n>{value:.3f} ({ci[0]:.3f} to {ci[1]:.3f})</td>"
        f'<td><svg width="200" height="16" role="img" aria-label="{ci[0]:.2f} to {ci[1]:.2f}">'
        f'<rect width="200" height="16" fill="#f2f2f2"/>'
        f'<rect x="{left:.1f}" y="4" width="{width:.1f}" height="8" fill="#3b6ea5"/>'
        f'<line x1="{200 * line}" x2="{200 * line}" y2="16" stroke="#c33"/></svg></td></tr>'
    )


def _means(name: str, values: dict[str, float]) -> str:
    return (
        f"<tr><td>{name}</td>{''.join(f'<td class=n>{v:.3f}</td>' for v in values.values())}</tr>"
    )


def _demonstrations(found: dict[str, Any] | None) -> str:
    """How well held-out demonstrations are predicted; lower is better."""
    if found is None:
        return ""
    rows = ""
    for name in ("base", "sft", "policy"):
        low, high = found[f"{name}_ci"]
        loss = f"{found[name]:.3f} ({low:.3f} to {high:.3f})"
        fell = found.get(f"{name}_minus_base_ci")
        difference = f"{fell[0]:+.3f} to {fell[1]:+.3f}" if fell else ""
        rows += f"<tr><td>{name}</td>{_cell(loss)}{_cell(difference)}</tr>"
    return (
        f"<h2>Held-out demonstrations</h2><table><tr><th>{found['rows']} demonstrations, "
        f"{found['tokens']} tokens</th><th>nats per token, 95 % interval</th>"
        f"<th>minus the base's, 95 % interval</th></tr>{rows}</table>"
    )


def _slices(title: str, found: dict[str, Any], value: str, count: str, *beside: str) -> str:
    """A table of slices: the value with its interval where it has one, its count, what else."""
    rows = ""
    for name, one in found.items():
        told = f"{one[value]:.3f}"
        if "ci" in one:
            told += f" ({one['ci'][0]:.3f} to {one['ci'][1]:.3f})"
        cells = (told, str(one[count]), *(f"{one[other]:.3f}" for other in beside))
        rows += f"<tr><td>{escape(name)}</td>{''.join(map(_cell, cells))}</tr>"
    heads = "".join(f"<th>{head}</th>" for head in ("", value, count, *beside))
    return f"<h2>{title}</h2><table><tr>{heads}</tr>{rows}</table>"


def _named(slices: list[dict[str, Any]]) -> dict[str, Any]:
    return {f"{one['axis']}: {one['name']}": one for one in slices}


def _sides(asked: list[Asked], answers: dict[str, Answers], opponent: str) -> str:
    """Where the challenger lost most, then where it won most."""
    mine, other = answers["policy"], answers[opponent]
    order = sorted(range(len(asked)), key=lambda place: mine.scores[place] - other.scores[place])
    shown = order[:SHOWN] + order[SHOWN:][-SHOWN:]
    rows = []
    for place in shown:
        difference = mine.scores[place] - other.scores[place]
        kind = "win" if difference > 0 else "loss" if difference < 0 else ""
        cells = [f"<td><pre>{escape(asked[place].prompt[-1].content)}</pre></td>"]
        for side in (mine, other):
            cells.append(f"<td><pre>{escape(side.responses[place].text)}</pre></td>")
            cells.append(_cell(f"{side.scores[place]:.2f}"))
        rows.append(f"<tr class={kind or 'tie'}>{''.join(cells)}</tr>")
    return (
        f"<h2>Side by side: the worst and the best for the challenger</h2><table><tr>"
        f"<th>prompt</th><th>challenger</th><th></th><th>{escape(opponent)}</th><th></th></tr>"
        f"{''.join(rows)}</table>"
    )


def _cell(number: str) -> str:
    return f"<td class=n>{number}</td>"
