"""`flywheel erase`."""

import argparse
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

WHAT = {
    "record": "one record by its id, or a served answer by its response_id",
    "annotator": "all that somebody said",
    "user": "what somebody asked the champion, and what was said of the answers",
    "subject": "records that name somebody as their data_subject, whoever said them",
}


def add_commands(
    add: Callable[..., argparse.ArgumentParser],
    home: Callable[[], Any],
    decider: Callable[[str | None], str],
) -> None:
    """Add the command with its options."""

    def take_out(arguments: argparse.Namespace) -> dict[str, Any]:
        return _take_out(arguments, home(), decider)

    one = add("erase", take_out, "take a record, or all of a person, out of this home for good")
    which = one.add_mutually_exclusive_group(required=True)
    for what, text in WHAT.items():
        which.add_argument(f"--{what}", metavar="ID", help=text)
    one.add_argument("--by", help="who asks for it (default: the user)")
    one.add_argument("--reason", default="", help="why; needed, but for --dry-run")
    one.add_argument("--dry-run", action="store_true", help="say what would go, and change nothing")


def _take_out(
    arguments: argparse.Namespace, where: Any, decider: Callable[[str | None], str]
) -> dict[str, Any]:
    from flywheel.erasure.run import erase, look_for

    what = next(one for one in WHAT if getattr(arguments, one) is not None)
    name = getattr(arguments, what)
    if arguments.dry_run:
        plan = look_for(where.layout, what, name)
        names = ("removed", "checkpoints", "descendants", "left")
        facts = {"dry_run": True} | {one: getattr(plan, one) for one in names}
    else:
        entry = erase(
            where.layout,
            what,
            name,
            by=decider(arguments.by),
            reason=arguments.reason,
            key_file=where.settings("personal_data").get("key_file", ""),
            log=lambda line: None,
        )
        facts = asdict(entry)
    if not arguments.json:
        _show(facts)
    return facts


def _show(facts: dict[str, Any]) -> None:
    told = ", ".join(f"{n} {place.replace('_', ' ')}" for place, n in facts["removed"].items())
    if "dry_run" in facts:
        print(f"would be taken out: {told or 'nothing'}")
    else:
        print(f"erasure {facts['number']}, by {facts['by']} at {facts['at']}: {told or 'nothing'}")
    for one in facts["checkpoints"]:
        print(f"{one['checkpoint']} saw {one['records']} of them, {one['times_seen']} times in all")
    if facts["descendants"]:
        print(f"descend from these: {', '.join(facts['descendants'])}")
    for one in facts["left"]:
        print(f"still held: {one}")
