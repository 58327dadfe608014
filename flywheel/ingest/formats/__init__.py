"""Readers: one module a format, each with `sniff` (how sure, and why) and `read`.

`sniff` sees one object and answers from 0 to 1. `read` turns one object into records, and raises
`RecordError` (or msgspec's own) with the reason where it cannot. Where several rows of a file make
one record, `gather` turns all of them into records, and `read` is it on a file of one row.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from flywheel.errors import SettingsError
from flywheel.ingest.formats import (
    art,
    atif,
    langfuse,
    nvidia,
    openai,
    otel,
    own,
    question_answer,
    swe_agent,
    tau_bench,
    tensorzero,
    trl,
)
from flywheel.ingest.formats.gathered import Gather
from flywheel.records import Record

RAW = "raw"
LEAST_SURE = 0.2  # of the first objects that must look like a format


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
        Format("flywheel", own.sniff, own.read, "a key `kind` that names one of ours"),
        Format("tau_bench", tau_bench.sniff, tau_bench.read, "task_id, reward, info and traj"),
        Format("openai", openai.sniff, openai.read, "messages, or input and preferred_output"),
        Format("trl", trl.sniff, trl.read, "prompt, completion, chosen, rejected, label"),
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
    """
    seen = list(samples)
    sure = {
        name: sum(one.sniff(value) for value in seen) / max(1, len(seen))
        for name, one in FORMATS.items()
    }
    best = max(sure, key=sure.__getitem__)
    if sure[best] < LEAST_SURE:
        return RAW, 1 - sure[best], "the keys are those of no known format"
    return best, sure[best], FORMATS[best].told_by


def named(name: str) -> Format:
    """The format called `name`.

    Raises:
        SettingsError: There is none.
    """
    if name not in FORMATS:
        raise SettingsError(f"no format {name!r}; there are auto, {', '.join(FORMATS)} and {RAW}")
    return FORMATS[name]
