"""Commands beside the turn of the wheel: what is there, for other tools and for people who ask."""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any


def add_commands(
    add: Callable[..., argparse.ArgumentParser],
    home: Callable[[], Any],
    decider: Callable[[str | None], str],
) -> None:
    """Add each command with its options.

    Args:
        add: Makes a command of a name, a function and a help text.
        home: The home that every command works in.
        decider: Who decides, of the name that was given.
    """
    out = add(
        "export", partial(export, home), "write a frozen dataset for another tool, with a manifest"
    )
    out.add_argument("dataset", help="e.g. preference (frozen last) or preference/g0002")
    out.add_argument("--to", required=True, help="trl, openai, openrlhf or label_studio")
    out.add_argument("--out", required=True, type=Path, help="folder for the files")
    out.add_argument("--cut-off", type=float, default=0.5, help="share of marks that is a thumb up")

    one = add("trace", partial(trace_back, home), "where something came from, or what it went into")
    one.add_argument(
        "name",
        help="a generation, checkpoint, dataset, answer (g0001/<prompt_key>), record, annotator, "
        "source, licence, guideline, batch, consent, or the response_id of a served answer; "
        "'source:ukp' where the name alone is not enough",
    )
    one.add_argument("--html", type=Path, help="write it as a page, too, for who has no terminal")

    people = add(
        "ask-people",
        partial(ask_people, home),
        "queue challenger's and champion's answers for people to compare, blind",
    )
    people.add_argument("generation", help="e.g. g0002")
    people.add_argument(
        "--pairs", type=int, default=100, help="prompts to ask about (default: 100)"
    )
    people.add_argument(
        "--along",
        type=int,
        default=0,
        help="pairs, too, of answers from along the ways that the reward is followed on and of the "
        "SFT policy: where people's preference turns",
    )
    people.add_argument("--seed", type=int, default=0, help="of the choice and of the order")

    board = add(
        "tensorboard", partial(curves, home), "write the training curves for TensorBoard to show"
    )
    board.add_argument("generation", nargs="?", help="e.g. g0002 (default: every one)")

    add("docs", partial(document, home), "write dbt's pages of every model and column, as one file")

    served = add("serve", partial(serve, home), "answer as the champion, on loopback, and log it")
    served.add_argument("--port", type=int, default=8000)
    served.add_argument("--host", default="127.0.0.1", help="nobody is asked who he is: keep it")

    stage = add(
        "canary",
        partial(canary, home, decider),
        "how a challenger on a stage does, and what to do with it",
    )
    stage.add_argument(
        "act",
        nargs="?",
        default="show",
        choices=("show", "decide", "advance", "stop"),
        help="decide: as the statistic says; advance, stop: as a person says",
    )
    stage.add_argument("--by", help="who decides (default: the user)")
    stage.add_argument("--reason", default="", help="why")

    model = add(
        "fetch-model", partial(fetch, home), "write SmolLM2-135M-Instruct as a Hugging Face folder"
    )
    model.add_argument("folder", type=Path, nargs="?", default=Path("var/models/smollm2"))


def export(home: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    """Write a dataset for another tool, and say what it cost."""
    from flywheel import screen
    from flywheel.export import find_dataset, write_export

    directory = find_dataset(home().layout, arguments.dataset)
    facts = write_export(directory, arguments.to, arguments.out, cut_off=arguments.cut_off)
    if not arguments.json:
        screen.show_export(facts, arguments.out)
    return facts


def trace_back(home: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    """Ask the lineage, from either side."""
    from flywheel import screen
    from flywheel.lineage import reading_of, trace, write_page

    where = home()
    found = trace(where.layout, arguments.name, reading_of(where.settings))
    if arguments.html:
        write_page(arguments.html, found)
    if not arguments.json:
        screen.show_trace(found)
    return found


def ask_people(home: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    """Write pairs for people to compare, and say where."""
    from flywheel.collect.pairs import ask_people as written

    facts = written(
        home().layout,
        arguments.generation,
        pairs=arguments.pairs,
        along=arguments.along,
        seed=arguments.seed,
    )
    if not arguments.json:
        print(f"{facts['lines']} pairs in {facts['queue']}; land what people say as comparisons")
    return facts


def curves(home: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    """Write event files, and say where."""
    from flywheel.process.tensorboard import export

    layout = home().layout
    written = export(layout, arguments.generation)
    if not arguments.json:
        print(f"{len(written)} runs written; tensorboard --logdir {layout.tensorboard}")
    return {"folder": str(layout.tensorboard), "runs": [str(folder) for folder in written]}


def document(home: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    """Write the pages of the warehouse, and say where."""
    from flywheel import screen

    with screen.progress(quiet=arguments.json) as progress:
        from assets import drive

        where = home()
        drive.document_now(where, progress)
    if not arguments.json:
        print(f"open {where.layout.dbt_docs}")
    return {"page": str(where.layout.dbt_docs)}


def serve(home: Any, arguments: argparse.Namespace) -> None:
    """Answer until interrupted."""
    from flywheel.lineage import reading_of
    from flywheel.privacy import Policy
    from flywheel.process.settings import build
    from flywheel.serve.app import serve as answer
    from flywheel.serve.settings import ServeSettings

    where = home()
    settings = build(ServeSettings, where.settings("serve"))
    personal = Policy.of_settings(where.settings("personal_data"))
    print(f"the champion answers at http://{arguments.host}:{arguments.port}/v1", file=sys.stderr)
    reading = reading_of(where.settings)
    answer(where.layout, settings, personal, reading, host=arguments.host, port=arguments.port)


def canary(home: Any, decider: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    """Say how a stage stands, or end it."""
    from flywheel.errors import PromotionError
    from flywheel.lineage import forbidden_by
    from flywheel.process.settings import build
    from flywheel.promotion import GateSettings, advance, stop
    from flywheel.serve.online import decide_stage, look
    from flywheel.serve.settings import ServeSettings

    where = home()
    settings, entry = build(ServeSettings, where.settings("serve")), None
    seen, forbidden = look(where.layout, settings), forbidden_by(where.layout, where.settings)
    if arguments.act == "decide":
        seen, entry = decide_stage(where.layout, settings, forbidden)
    elif arguments.act != "show":
        if seen is None:
            raise PromotionError("nobody is on a stage")
        word: dict[str, Any] = {
            "since": seen.since,
            "by": decider(arguments.by),
            "reasons": [arguments.reason],
        }
        if arguments.act == "advance":
            approvers = build(GateSettings, where.settings("gate")).approvers
            word |= {"stages": settings.stages, "approvers": approvers, "forbidden": forbidden}
            entry = advance(where.layout, **word)
        else:
            entry = stop(where.layout, **word)
    facts = {"stage": seen.facts if seen else None, "entry": entry}
    if not arguments.json:
        told = f"{seen.generation} is on {seen.stage}: {seen.reasons[0]}" if seen else ""
        print(told or "nobody is on a stage")
        if seen and seen.unusable:
            print(f"{seen.unusable} lines could not be compared: too long to score, or no scale")
        if entry:
            print(f"{entry.action} by {entry.by}; {entry.stage or 'no stage'} from here")
    return facts


def fetch(home: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    """Bring a small real model."""
    from flywheel.models.fetch import fetch_smollm2

    return {
        "folder": str(
            fetch_smollm2(arguments.folder, log=lambda line: print(line, file=sys.stderr))
        )
    }
