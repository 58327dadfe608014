"""Commands about what is tested on."""

import argparse
from collections.abc import Callable
from functools import partial
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


def evaluation_sets(home: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    """List every version of every set, with the last look for it in training data."""
    from flywheel.evaluate.registry import listed

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
