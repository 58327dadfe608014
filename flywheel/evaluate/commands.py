"""Commands about what is tested on."""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any


def add_commands(add: Callable[..., argparse.ArgumentParser], home: Callable[[], Any]) -> None:
    """Add each command with its options.

    Args:
        add: Makes a command of a name, a function and a help text.
        home: The home that every command works in.
    """
    add(
        "evaluation-sets",
        partial(evaluation_sets, home),
        "what is tested on: versions, licences, graders, and what of it stands in training text",
    )

    one = add(
        "harness",
        partial(harness, home),
        "run tasks of the lm-evaluation-harness on a policy, or list what other tools measured",
    )
    one.add_argument("generation", help="e.g. g0002")
    one.add_argument("--tasks", default="", help="names, separated by commas; none: list results")
    one.add_argument("--include", type=Path, help="folder with further tasks, YAML")
    one.add_argument("--limit", type=int, default=0, help="samples of each task at most")
    one.add_argument("--few-shot", type=int, default=-1, help="examples in the prompt")
    one.add_argument("--plain", action="store_true", help="without the chat template")

    one = add(
        "read-inspect",
        partial(read_inspect, home),
        "take what logs of inspect_ai measured as results of a policy",
    )
    one.add_argument("generation", help="whose policy was measured, e.g. g0002")
    one.add_argument("logs", nargs="+", type=Path, metavar="LOG", help=".eval or .json files")


def harness(home: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run tasks, store what came out, and show all that is stored of the generation."""
    from flywheel.evaluate.outside.results import measure, read_results

    layout, generation = home().layout, arguments.generation
    if arguments.tasks:
        measure(
            layout,
            generation,
            tasks=arguments.tasks,
            include=str(arguments.include.resolve()) if arguments.include else "",
            limit=arguments.limit,
            few_shot=arguments.few_shot,
            chat=not arguments.plain,
            log=lambda line: print(line, file=sys.stderr),
        )
    return _results(read_results(layout, generation), arguments)


def read_inspect(home: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    """Store what logs tell, and show all that is stored of the generation."""
    from flywheel.evaluate.outside.inspect_log import read_inspect_log
    from flywheel.evaluate.outside.results import read_results, store_results

    layout, generation = home().layout, arguments.generation
    rows = [row for path in arguments.logs for row in read_inspect_log(path)]
    store_results(layout, generation, rows)
    return _results(read_results(layout, generation), arguments)


def _results(found: list[dict[str, Any]], arguments: argparse.Namespace) -> dict[str, Any]:
    for one in () if arguments.json else found:
        value = "no value" if one["value"] is None else f"{one['value']:.3f}"
        error = "" if one["stderr"] is None else f" (standard error {one['stderr']:.3f})"
        left = ", ".join(f"{count} {why}" for why, count in one["left_out"].items())
        print(
            f"{one['task']} version {one['task_version'] or '?'}, {one['metric']}: {value}{error} "
            f"on {one['samples']} samples, by {one['by']}, {one['at']}"
            + (f"; left out: {left}" if left else "")
            + ("" if one["is_current"] else "; of weights that lie there no longer")
        )
    if not found and not arguments.json:
        print(f"no other tool has measured {arguments.generation} yet")
    return {"generation": arguments.generation, "results": found}


def evaluation_sets(home: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    """List every version of every set, with the last look for it in training data."""
    from flywheel.evaluate.sets.registry import listed

    found = listed(home().layout)
    if not arguments.json:
        _show_sets(found)
    return {"evaluation_sets": found}


def _show_sets(found: list[dict[str, Any]]) -> None:
    if not found:
        print("no evaluation set was entered yet; take a turn")
    for one in found:
        graders, licences = ", ".join(one["graders"]), ", ".join(one["licences"])
        print(
            f"{one['name']} version {one['version']} ({one['content_hash'][:12]}, {one['at']}): "
            f"{one['prompts']} prompts graded by {graders}, licence {licences}"
        )
        look = one["decontamination"]
        if look:
            print(
                f"  {look['trained_on']} of them in what is trained on, "
                f"{sum(look['left_out'].values())} in landed text that is left out "
                f"({look['generation']}, {look['checked_at']})"
            )
        else:
            why = "nobody has looked for it yet" if one["is_newest"] else "an older version"
            print(f"  {why}")
