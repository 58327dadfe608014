"""Readers: one module a format, each with `sniff` (how sure, and why) and `read`.

`sniff` sees one object and answers from 0 to 1. `read` turns one object into records, and raises
`RecordError` (or msgspec's own) with the reason where it cannot. Where several rows of a file make
one record, `gather` turns all of them into records, and `read` is it on a file of one row.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from flywheel.errors import IngestError, SettingsError
from flywheel.ingest.formats import (
    argilla,
    art,
    atif,
    hh_rlhf,
    label_studio,
    langfuse,
    mlflow,
    nvidia,
    oasst,
    openai,
    openrlhf,
    otel,
    own,
    question_answer,
    sharegpt,
    swe_agent,
    tau_bench,
    tensorzero,
    trl,
)
from flywheel.ingest.formats.gathered import Gather
from flywheel.records import Record

RAW = "raw"
OWN = "flywheel"
LEAST_SURE = 0.2  # of the first objects that must look like a format
EQUALLY = 0.01  # two formats that differ by less are as likely the one as the other
SHOWN_KEYS = 6


@dataclass(frozen=True, slots=True)
class Format:
    """How one format is recognised and read."""

    name: str
    sniff: Callable[[dict[str, Any]], float]
    read: Callable[[dict[str, Any]], Sequence[Record]]
    told_by: str  # what makes it recognisable, for people
    gather: Gather | None = None  # where several rows of a file make one record


FORMATS = {
    one.name: one
    for one in (
        Format(OWN, own.sniff, own.read, "a key `kind` that names one of ours"),
        Format("tau_bench", tau_bench.sniff, tau_bench.read, "task_id, reward, info and traj"),
        Format("openai", openai.sniff, openai.read, "messages, or input and preferred_output"),
        Format(
            "trl",
            trl.sniff,
            trl.read,
            "prompt with completion, chosen and rejected, messages with label",
        ),
        Format("openrlhf", openrlhf.sniff, openrlhf.read, "input and output, or pairs with margin"),
        Format("sharegpt", sharegpt.sniff, sharegpt.read, "conversations of from and value"),
        Format("label_studio", label_studio.sniff, label_studio.read, "annotations with a result"),
        Format("argilla", argilla.sniff, argilla.read, "keys that end in .responses.status"),
        Format("mlflow", mlflow.sniff, mlflow.read, "assessment_name and source.source_type"),
        Format("oasst", oasst.sniff, oasst.read, "message_tree_id, or message_id and replies"),
        Format("hh_rlhf", hh_rlhf.sniff, hh_rlhf.read, "chosen and rejected that begin Human:"),
        Format("question_answer", question_answer.sniff, question_answer.read, "question, answer"),
        # runs of agents, and logs of models in use
        Format("atif", atif.sniff, atif.read, "a schema_version of ATIF"),
        Format("art", art.sniff, art.read, "messages_and_choices, or a group of trajectories"),
        Format("nvidia", nvidia.sniff, nvidia.read, "workload_id, client_id, request, response"),
        Format(
            "swe_agent",
            swe_agent.sniff,
            swe_agent.read,
            "a history with trajectory and info",
            swe_agent.gather,
        ),
        Format(
            "langfuse",
            langfuse.sniff,
            langfuse.read,
            "trace_id with type, or with data_type and string_value",
            langfuse.gather,
        ),
        Format("otel", otel.sniff, otel.read, "resourceSpans, or attributes gen_ai.*", otel.gather),
        Format(
            "tensorzero",
            tensorzero.sniff,
            tensorzero.read,
            "the columns of its tables, such as function_name and variant_name",
            tensorzero.gather,
        ),
    )
}


def recognise(samples: Iterable[dict[str, Any]]) -> tuple[str, float, str]:
    """Name the format of a file from its first objects: (name, how sure, why).

    A file that is only partly of a format is read as that format, so that what does not fit is
    quarantined, or blocks it, and is never taken for a raw source in silence.

    Raises:
        IngestError: Two formats match equally well.
    """
    seen = list(samples)
    scores = {name: [one.sniff(value) for value in seen] for name, one in FORMATS.items()}
    sure = {name: sum(each) / max(1, len(each)) for name, each in scores.items()}
    best, second = sorted(sure, key=sure.__getitem__, reverse=True)[:2]
    if sure[best] < LEAST_SURE:
        nearest = f"; the nearest is {_evidence(best, scores[best], seen)}" if sure[best] else ""
        return RAW, 1 - sure[best], f"the keys are those of no known format{nearest}"
    if sure[best] - sure[second] < EQUALLY:
        both = " and ".join(f"{n} ({_evidence(n, scores[n], seen)})" for n in (best, second))
        raise IngestError(f"two formats match equally well: {both}; say which with --format")
    return best, sure[best], _evidence(best, scores[best], seen)


def _evidence(name: str, scores: list[float], seen: list[dict[str, Any]]) -> str:
    """What tells a format, and in how many of the objects, with the keys they all have."""
    like = [value for value, score in zip(seen, scores, strict=True) if score]
    common = [key for key in like[0] if all(one.get(key) is not None for one in like)]
    keys = ", ".join(common[:SHOWN_KEYS]) + (", ..." if len(common) > SHOWN_KEYS else "")
    return (
        f"{FORMATS[name].told_by}, in {len(like)} of the first {len(seen)} objects, "
        f"which have {keys or 'no key in common'}"
    )


def named(name: str) -> Format:
    """The format called `name`.

    Raises:
        SettingsError: There is none.
    """
    if name not in FORMATS:
        raise SettingsError(f"no format {name!r}; there are auto, {', '.join(FORMATS)} and {RAW}")
    return FORMATS[name]
