"""The command line: each command is a thin call of what the Dagster UI calls too.

The environment is read here and in `assets/resources.py`, nowhere else: FLYWHEEL_HOME is the
root of data and models (`var` by default). With --json the last thing on stdout is one JSON
document and everything else goes to stderr; that of a command that failed has a field `error`.
"""

import argparse
import getpass
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.errors import FlywheelError

if TYPE_CHECKING:
    from assets.resources import Home

STARTED = time.time()


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 when it did what was asked, 1 with the reason on stderr otherwise."""
    arguments = parser().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that locks and children go too
    status = 1
    try:
        answer = arguments.command(arguments)
        status = 1 if answer and "error" in answer else 0
    except FlywheelError as error:
        answer = {"error": str(error)}
    except OSError as error:
        answer = {
            "error": f"{error.filename or home().root}: {error.strerror or error}; free some disk "
            f"space or mend the permissions, and give the same command again: what is done stays "
            f"done"
        }
    except KeyboardInterrupt:
        print(file=sys.stderr)
        answer = {"error": "interrupted; the same command goes on where it stopped"}
        status = 130
    if status:
        print(f"flywheel: {answer['error']}", file=sys.stderr)
    if arguments.json and answer is not None:
        print(json.dumps(answer, indent=2, default=str))
    return status


def parser() -> argparse.ArgumentParser:
    """Every command with its options."""
    from flywheel import commands as others
    from flywheel.erasure import commands as of_erasure
    from flywheel.evaluate import commands as of_evaluation
    from flywheel.stores import commands as of_stores

    top = argparse.ArgumentParser(prog="flywheel", description=__doc__.splitlines()[0])
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[..., Any], help_text: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=help_text, description=help_text)
        one.add_argument("--json", action="store_true", help="print one JSON document")
        one.set_defaults(command=command)
        return one

    run = add("run", take_sample_turn, "deliver the sample feedback and take one whole turn")
    run.add_argument("--seed", type=int, default=0, help="of the sample world and of training")

    one = add("land", land, "take files in: typed records, quarantine, raw sources")
    one.add_argument(
        "paths", nargs="*", metavar="PATH", help="files, folders, s3:// or hf:// (default: inbox)"
    )
    one.add_argument("--format", default="auto", help="name of a reader (default: look inside)")
    one.add_argument("--source", help="name of the source (default: the folder's name)")

    turn = add("turn", take_turn, "take one turn of the wheel on what has landed")
    turn.add_argument("--base-model", help="Hugging Face folder or hub name, or 'sample'")
    turn.add_argument("--generation", help="e.g. g0002 (default: the next, or the one cut off)")
    turn.add_argument("--seed", type=int, help="of initialization and of order")

    turn.add_argument(
        "--budget-minutes", type=float, help="fit training and sampling into about this long"
    )

    add("status", status, "what landed, what is quarantined and why, generations, champion")

    for name, text in (
        ("approve", "say yes to a challenger that waits for a person"),
        ("reject", "say no to a challenger that waits for a person"),
    ):
        one = add(name, judge, text)
        one.add_argument("generation")
        one.add_argument("--by", help="who decides (default: the user)")
        one.add_argument("--reason", required=True, help="why")
        one.add_argument("--decision", type=int, help="entry of the ledger that was read")
        one.set_defaults(verdict=name)

    back = add("rollback", roll_back, "make the previous champion the champion again")
    back.add_argument("--by", help="who decides (default: the user)")
    back.add_argument("--reason", required=True, help="why")

    others.add_commands(add, home, decider)
    of_evaluation.add_commands(add, home)
    of_stores.add_commands(add, home)
    of_erasure.add_commands(add, home, decider)

    ui = add("ui", open_ui, "serve the Dagster UI on loopback, with schedules and sensors")
    ui.add_argument("--port", type=int, default=3000)
    return top


def home() -> "Home":
    """The home that every command works in."""
    from assets.resources import Home

    return Home()


def take_sample_turn(arguments: argparse.Namespace) -> dict[str, Any]:
    """Deliver the sample world, or let its annotators answer the queue, and take a turn."""
    from flywheel.sample import answer_queues, deliver

    layout = home().layout
    deliver(layout, seed=arguments.seed)
    answer_queues(layout)
    return _turn(arguments, base_model="sample")


def take_turn(arguments: argparse.Namespace) -> dict[str, Any]:
    """Take a turn on what has landed."""
    return _turn(
        arguments,
        generation=arguments.generation,
        base_model=arguments.base_model,
        budget_minutes=arguments.budget_minutes,
    )


def _turn(arguments: argparse.Namespace, **options: Any) -> dict[str, Any]:
    from flywheel import screen

    with screen.progress(quiet=arguments.json) as progress:
        from assets import drive

        where = home()
        drive.take_turn(
            where, seed=arguments.seed, started_at=STARTED, progress=progress, **options
        )
    result: dict[str, Any] = json.loads(where.layout.turn_result.read_text())
    if not arguments.json:
        screen.show_turn(result, where.layout)
    return result


def land(arguments: argparse.Namespace) -> dict[str, Any]:
    """Take files in and say what became of every line."""
    from flywheel import screen
    from flywheel.ingest import left_alone, read_batches
    from flywheel.stores import is_address
    from flywheel.turn import status_of

    named = [path if is_address(path) else str(Path(path).resolve()) for path in arguments.paths]
    missing = [one for one in arguments.paths if not is_address(one) and not Path(one).exists()]
    if missing:
        raise FlywheelError(f"no such file or folder: {', '.join(missing)}")
    where = home()
    before = {one.batch_id for one in read_batches(where.layout)}
    failure: dict[str, str] = {}
    try:
        with screen.progress(quiet=arguments.json) as progress:
            from assets import drive

            drive.land_now(
                where,
                named,
                file_format=arguments.format,
                source=arguments.source,
                progress=progress,
            )
    except FlywheelError as error:
        failure = {"error": str(error)}  # said after what landed
    new = [one for one in read_batches(where.layout) if one.batch_id not in before]
    blocked = status_of(where.layout)["blocked"]
    left = left_alone(where.layout)
    if not arguments.json:
        screen.show_landing(new, blocked, left)
    return {
        "batches": [screen.batch_facts(batch) for batch in new],
        "blocked": blocked,
        "left_alone": left,
        **failure,
    }


def status(arguments: argparse.Namespace) -> dict[str, Any]:
    """Say what is there, from the files alone."""
    from flywheel import screen
    from flywheel.lineage import reading_of
    from flywheel.turn import status_of

    where = home()
    facts = status_of(where.layout, reading_of(where.settings))
    if not arguments.json:
        screen.show_status(facts)
    return facts


def judge(arguments: argparse.Namespace) -> dict[str, Any]:
    """Carry out a person's verdict on a waiting challenger."""
    from flywheel.lineage import forbidden_by
    from flywheel.process.settings import build
    from flywheel.promotion import GateSettings, approve, reject
    from flywheel.serve.settings import ServeSettings

    where = home()
    options: dict[str, Any] = {
        "by": decider(arguments.by),
        "reason": arguments.reason,
        "decision": arguments.decision,
        "approvers": build(GateSettings, where.settings("gate")).approvers,
    }
    if arguments.verdict == "approve":
        options["stages"] = build(ServeSettings, where.settings("serve")).stages
        options["forbidden"] = forbidden_by(where.layout, where.settings)
        entry = approve(where.layout, arguments.generation, **options)
    else:
        entry = reject(where.layout, arguments.generation, **options)
    return _said(arguments, entry)


def roll_back(arguments: argparse.Namespace) -> dict[str, Any]:
    """Make the previous champion the champion again."""
    from flywheel.lineage import forbidden_by
    from flywheel.promotion import rollback

    where, by = home(), decider(arguments.by)
    forbidden = forbidden_by(where.layout, where.settings)
    entry = rollback(where.layout, by=by, reason=arguments.reason, forbidden=forbidden)
    return _said(arguments, entry)


def decider(named: str | None) -> str:
    """Who decides: the person named, else the user, who need not have a name in a container."""
    if named is not None:
        return named
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # Python 3.13 raises the latter
        return f"uid {os.getuid()}"


def _said(arguments: argparse.Namespace, entry: Any) -> dict[str, Any]:
    from flywheel.promotion import title_holder

    now = title_holder(home().layout)
    facts = {"entry": entry, "champion": now.generation if now else None}
    if not arguments.json:
        print(f"champion is now {facts['champion'] or 'nobody'}")
        for told in entry.reasons[1:]:  # after the person's own
            print(told)
    return facts


def open_ui(arguments: argparse.Namespace) -> None:
    """Become `dagster dev`, on loopback only."""
    from assets.resources import IS_CHECKOUT, PROJECT
    from assets.storage import instance_of

    where = home().layout
    where.inbox.mkdir(parents=True, exist_ok=True)
    with instance_of(where):
        pass  # made once, before webserver and daemon open it together
    os.environ["DAGSTER_HOME"] = str(where.dagster_home)
    os.environ["FLYWHEEL_HOME"] = str(where.root)
    os.chdir(PROJECT)
    dagster = str(Path(sys.executable).with_name("dagster"))
    where_from = ["-w", "workspace.yaml"] if IS_CHECKOUT else ["-m", "assets.definitions"]
    flags = ["dev", "-h", "127.0.0.1", "-p", str(arguments.port), *where_from]
    pages = arguments.port + 1
    os.environ.setdefault("FLYWHEEL_PAGES", f"http://127.0.0.1:{pages}")
    served = [str(where.root), str(pages), str(os.getpid())]
    subprocess.Popen([sys.executable, "-m", "flywheel.pages", *served])
    os.execv(dagster, [dagster, *flags])


if __name__ == "__main__":
    sys.exit(main())
