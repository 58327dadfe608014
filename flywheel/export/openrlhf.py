"""OpenRLHF's rows: input and output, or prompt, chosen, rejected and margin; lists of messages.

The margin is subtracted inside the loss of the reward model (openrlhf/models/loss.py). It is the
log-odds that the chosen side is better, times MARGIN_PER_NAT, and so never negative.
Source: OpenRLHF/OpenRLHF at 3c3be62, openrlhf/datasets.
"""

from collections.abc import Iterable, Iterator

from flywheel.export.chat import with_objects
from flywheel.export.line import Line, Row, Way, Writer, decided, log_odds, passed
from flywheel.records.message import load

VERSION = "OpenRLHF 3c3be62 (2026-08-13)"
MARGIN_PER_NAT = (
    0.1  # at p = .99, the surest there is, a margin of .46: far below a reward's spread
)


def demonstrations(rows: Iterable[Row], way: Way) -> Iterator[Line]:
    """Train with --data.input_key input --data.output_key output."""
    for row in rows:
        prompt, response = with_objects(load(row["prompt"])), with_objects(load(row["response"]))
        yield Line({"input": prompt, "output": response}, [row])


def preferences(rows: Iterable[Row], way: Way) -> Iterator[Line]:
    """Train with --data.prompt_key prompt --data.chosen_key chosen --data.rejected_key rejected."""
    way.settings["margin_per_nat"] = MARGIN_PER_NAT
    for row, chosen, rejected, line in decided(rows, way):
        line.value.update(
            prompt=with_objects(load(row["prompt"])),
            chosen=with_objects(chosen),
            rejected=with_objects(rejected),
            margin=round(MARGIN_PER_NAT * log_odds(line.beside["p"]), 6),
        )
        yield line


def trajectories(rows: Iterable[Row], way: Way) -> Iterator[Line]:
    """Train with --data.input_key input --data.multiturn."""
    for row in passed(rows, way):
        prompt, steps = load(row["prompt"]), load(row["steps"])
        way.lost["turns_of_prompts_not_masked"] += sum(turn.role == "assistant" for turn in prompt)
        yield Line({"input": with_objects((*prompt, *steps))}, [row])


def evaluation(rows: Iterable[Row], way: Way) -> Iterator[Line]:
    """Prompts, with the reference as label for the function that rewards."""
    for row in rows:
        label, datasource = row["reference"] or "", row["evaluation_set"]
        value = {"input": with_objects(load(row["prompt"])), "label": label}
        yield Line({**value, "datasource": datasource}, [row])


WRITERS: dict[str, Writer] = {
    "demonstration": demonstrations,
    "preference": preferences,
    "trajectory": trajectories,
    "evaluation": evaluation,
}
