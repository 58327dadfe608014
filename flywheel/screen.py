"""What a person sees on the terminal: progress while it works, one screen when it is done."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from flywheel.ingest import BatchManifest
from flywheel.layout import Layout

DOING = {
    "landing": "landing feedback",
    "staging_models": "dbt: staging and intermediate",
    "duplicates": "duplicates, groups, leaks",
    "label_weights": "weighing labels",
    "quality": "looking for personal data",
    "mart_models": "dbt: marts",
    "marts": "pages of label quality",
    "datasets": "freezing datasets",
    "training__base_policy": "pre-training or adopting the base",
    "training__sft_policy": "imitating demonstrations (SFT)",
    "training__reward_model": "fitting the reward model",
    "training__policy": "preference optimisation (DPO)",
    "evaluation": "evaluating on held-out prompts",
    "promotion__model_card": "the model card",
    "promotion__turn_result": "what the turn came to",
    "promotion": "the gate",
    "collection": "choosing what to judge next",
}
Step = Callable[[str, str], None]


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[Step]:
    """Show one line a step with its seconds; on stderr, so that stdout stays for results."""
    columns = (SpinnerColumn(finished_text="✓"), TextColumn("{task.description}"))
    console = Console(stderr=True, quiet=quiet)
    with Progress(*columns, TimeElapsedColumn(), console=console) as bar:
        loading = bar.add_task("loading the project", total=1)
        tasks: dict[str, Any] = {}

        def step(name: str, state: str) -> None:
            bar.update(loading, completed=1)
            label = next((text for key, text in DOING.items() if name.startswith(key)), name)
            if state == "started" and label not in tasks:
                tasks[label] = bar.add_task(label, total=1)
            elif state == "done" and label in tasks:
                bar.update(tasks[label], completed=1)
            elif state == "failed" and label in tasks:
                bar.update(tasks[label], description=f"[red]{label}: failed")
            if not console.is_terminal:
                console.print(f"{state}: {label} ({name})")

        yield step


def screen() -> Console:
    """A terminal that shows text as it is: names of files and reasons are no markup."""
    return Console(markup=False, emoji=False)


def show_turn(turn: dict[str, Any], layout: Layout) -> None:
    """One screen: what came in, what was learned, what was decided."""
    console = screen()
    console.rule(Text(f"generation {turn['generation']}", "bold"))
    _facts(console, _turn_facts(turn))
    if turn["faults"]:
        _show_faults(console, turn["faults"])
    if turn["simulated"]:
        told = "The annotators of this world are simulated; the gold is a program."
        console.print(told, style="dim")
    report = layout.evaluation(turn["generation"]) / "report.html"
    console.print(f"answers side by side: {report}", soft_wrap=True)
    console.print(f"as JSON: {layout.turn_result}    look around: make ui", soft_wrap=True)


def _show_faults(console: Console, faults: list[dict[str, Any]]) -> None:
    """What was planted in the sample feedback, two faults a row."""
    table = Table(*("planted fault", "caught", "where") * 2, box=None, padding=(0, 1), style="dim")
    cells = [(one["fault"], f"{one['caught']}/{one['planted']}", one["where"]) for one in faults]
    for left, right in zip(cells[::2], [*cells[1::2], ("", "", "")], strict=False):
        table.add_row(*left, *right)
    console.print(table)


def _turn_facts(turn: dict[str, Any]) -> Iterator[tuple[str, str | Text]]:
    landed = ", ".join(f"{count} {plural(kind)}" for kind, count in turn["landed"].items() if count)
    yield "landed", landed
    reasons = turn["quarantined"]["by_reason"]
    why = ", ".join(f"{count} {reason}" for reason, count in list(reasons.items())[:6])
    yield "quarantined", f"{turn['quarantined']['total']} lines ({why})"
    if turn["excluded"]:
        yield "kept out", ", ".join(f"{count} {name}" for name, count in turn["excluded"].items())
    reward, policy = turn["reward_model"], turn["policy"]
    if reward:
        ceiling, lead = reward.get("annotator_ceiling"), reward["over_length"]
        plurality = reward["plurality_agreement"]
        yield (
            "reward model",
            f"right on {_share(reward['accuracy'], reward['ci'])} of {reward['pairs']} held-out "
            f"pairs; longest wins {reward['longest_wins']:.0%}, shortest "
            f"{reward['shortest_wins']:.0%}, ahead of the better by "
            f"{_share(lead['difference'], lead['ci'])}"
            + (f"; with the plurality of votes {plurality:.0%}" if plurality is not None else "")
            + (f"; two annotators agree {ceiling:.0%}" if ceiling is not None else "")
            + _beside_annotators(reward),
        )
    if policy:
        yield (
            "challenger",
            f"preferred over {policy['opponent']} {_share(policy['win_rate'], policy['ci'])} "
            f"on {policy['prompts']} prompts",
        )
        for name, one in (policy.get("versus") or {}).items():
            if one and name != policy["opponent"]:
                yield "", f"over {name} {_share(one['win_rate'], one['ci'])}"
    if turn["faults"]:
        caught = sum(one["passed"] for one in turn["faults"])
        missed = [one["fault"] for one in turn["faults"] if not one["passed"]]
        told = Text(f"{caught} of {len(turn['faults'])} kinds caught")
        if missed:
            told.append(f"; missed: {', '.join(missed)}", "red")
        yield "planted faults", told
    gate = turn["gate"]
    if gate:
        why = f"{_where(gate)}: {'; '.join(gate['reasons'])}"
        yield "gate", Text.assemble((gate["decision"], "bold"), why)
    yield "champion", str(turn["champion"] or "none yet")
    seconds = turn["seconds"]
    slowest = sorted(seconds["by_stage"].items(), key=lambda item: -item[1])
    yield (
        "time",
        f"{seconds['total']:.0f} s ({', '.join(f'{name} {s:.0f}' for name, s in slowest)}); "
        f"outside training and sampling {turn['orchestration_frac']:.0%}",
    )


def plural(kind: str) -> str:
    """Name of many records of a kind."""
    name = kind.replace("_", " ")
    return f"{name[:-1]}ies" if name.endswith("y") else f"{name}s"


def _beside_annotators(reward: dict[str, Any]) -> str:
    """What annotators reach themselves, against the weighted vote of the others, and the model."""
    if reward.get("annotator_accuracy") is None:
        return ""
    people, model = (reward[name] for name in ("annotator_accuracy", "accuracy_in_their_place"))
    return f"; an annotator against the others {people:.0%}, the model in his place {model:.0%}"


def _where(gate: dict[str, Any]) -> str:
    """Where a challenger is that was put forward and has no title yet, or has it no longer."""
    if gate["awaiting"]:
        return ", waits for a person"
    if gate["stage"]:
        return f", on {gate['stage']}"
    told = ""
    if back := gate.get("rollback"):
        why = f"by {back['by']}: {'; '.join(back['reasons'])}"
        told = f", {'given the title back' if back['is_given'] else 'rolled back'} ({why})"
    return told + (", returns by a person's yes alone" if gate.get("needs_yes") else "")


def _share(value: float, interval: Sequence[float]) -> str:
    return f"{value:.0%} ({interval[0]:.0%} to {interval[1]:.0%})"


def _facts(console: Console, facts: Iterator[tuple[str, str | Text]]) -> None:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in facts:
        table.add_row(name, text)
    console.print(table)


def batch_facts(batch: BatchManifest) -> dict[str, Any]:
    """What became of one file, as plain data."""
    names = "batch_id file format sure why lines rows quarantined blanks set_aside skipped erased"
    return {name: getattr(batch, name) for name in (*names.split(), "blocked")} | {
        "rows_by_kind": batch.rows_by_kind
    }


def show_landing(
    batches: Sequence[BatchManifest],
    blocked: Sequence[dict[str, str]],
    left: Sequence[dict[str, str]],
) -> None:
    """A table of what became of each new file; below it what is blocked or was left alone."""
    console = screen()
    if batches:
        _show_batches(console, batches)
    else:
        console.print("nothing new has landed; what had landed before is not landed again")
    for state, files in (("blocked", blocked), ("left alone", left)):
        for one in files:
            console.print(f"{state}: {one['file']}: {one['reason']}")


def _show_batches(console: Console, batches: Sequence[BatchManifest]) -> None:
    table = Table(
        Column("file", overflow="fold"), "format", "lines", "rows", "quarantined", "blank"
    )
    table.add_column("")
    for one in batches:
        numbers = (one.lines, one.rows, one.quarantined, one.blanks)
        blocked = Text("blocked" if one.blocked else "", "red")
        table.add_row(one.file, one.format, *map(str, numbers), blocked)
    console.print(table)
    for one in batches:
        if not one.sure:  # it could not be read, which is told below
            continue
        skipped = ", ".join(f"{count} {why}" for why, count in one.skipped.items())
        beside = f"; beside its labels {skipped}" if skipped else ""
        waiting = f"; {one.set_aside} lines hold no label" if one.set_aside else ""
        told = Text(f"{one.file}: {one.format}, {one.sure:.0%} sure: {one.why}{waiting}{beside}")
        console.print(told)


def show_export(facts: dict[str, Any], folder: Path) -> None:
    """What was written for another tool, and what the tool has no place for."""
    lines = ", ".join(f"{one['lines']} lines in {name}" for name, one in facts["files"].items())
    lost = ", ".join(f"{n} {why.replace('_', ' ')}" for why, n in facts["lossy"].items())
    rows: list[tuple[str, str | Text]] = [
        ("folder", str(folder)),
        ("written", lines),
        ("rows", f"{facts['rows_written']} written, {facts['rows_dropped']} dropped"),
        ("lossy", lost or "nothing"),
    ]
    _facts(screen(), iter(rows))


def show_status(facts: dict[str, Any]) -> None:
    """One screen of what stands."""
    console = screen()

    def lines() -> Iterator[tuple[str, str | Text]]:
        yield "home", facts["home"]
        kinds = ", ".join(f"{n} {plural(kind)}" for kind, n in facts["landed"].items() if n)
        yield "landed", f"{kinds or 'nothing'} in {facts['batches']} batches"
        yield "quarantined", str(facts["quarantined"]["total"])
        for reason, count in facts["quarantined"]["by_reason"].items():
            yield "", f"{count} {reason}"
        kinds = facts["quarantined"]["by_kind"]
        if kinds:
            yield "", "of kind " + ", ".join(f"{name} {count}" for name, count in kinds.items())
        for one in facts["blocked"]:
            yield "blocked", f"{one['file']}: {one['reason']}"
        for one in facts["generations"]:
            gate = one["gate"]
            yield (
                one["generation"],
                f"{gate['decision']}{_where(gate)}: {'; '.join(gate['reasons'])}"
                if gate
                else "not judged",
            )
        yield "champion", facts["champion"] or "none yet"
        for trouble in filter(None, (facts["may_not_be_used"], facts["erasure_cut_off"])):
            yield "", Text(trouble, "red")
        if store := facts["store"]:
            waiting = f", {store['waiting']} wait" if store["waiting"] else ""
            yield "store", f"{store['address']}: {store['files']} files{waiting}"
            if store["trouble"]:
                yield "", Text(store["trouble"], "red")

    _facts(console, lines())


def show_trace(found: dict[str, Any]) -> None:
    """Print what a trace found: facts first, then a table for each list."""
    console = Console()
    plain = {key: one for key, one in found.items() if not isinstance(one, list | dict)}
    if plain.get("champion_is_touched", ...) is None:
        plain["champion_is_touched"] = "unknown"
    console.print("\n".join(f"{key.replace('_', ' ')}: {one}" for key, one in plain.items()))
    for key, rows in found.items():
        if not isinstance(rows, list) or not rows:
            continue
        if not isinstance(rows[0], dict):
            console.print(f"{key.replace('_', ' ')}: {', '.join(map(str, rows))}")
            continue
        table = Table(*rows[0], title=key.replace("_", " "), title_justify="left")
        for row in rows:
            table.add_row(*(str(one) for one in row.values()))
        console.print(table)
    if "from" in found:
        show_trace(found["from"])
