"""Planted faults: what a real delivery breaks, put in on purpose, with the ground truth kept.

Two moments: `plant_records` adds records that are well formed but wrong (replays, swapped sides,
leaks of the evaluation, personal data), `spoil_lines` adds lines that are not records at
all. What was planted goes to `sample/planted.json`, which nothing but `flywheel.sample.check`
reads. A fault is caught where it should be, or it passed: `check.py` says which.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from random import Random
from typing import Any

import msgspec

from flywheel.records import Comparison, Record
from flywheel.sample.annotators import ANNOTATORS
from flywheel.sample.desk import ASSISTANT, Desk
from flywheel.sample.feedback import draw_replies
from flywheel.sample.world import Request, draw_request, read_request, write_reply

FAR_FUTURE = datetime(2099, 1, 1, tzinfo=UTC)
PERSON = "jo.miller@desk.example"  # an annotator id that is personal data
CONTACTS = (  # of nobody: a reserved domain, a card for tests, a number set aside for films
    "mail me : kit.moreno@post.example .",
    "my card is 4111 1111 1111 1111 .",
    "call me : +44 20 7946 0958 .",
)
LEAKS = 20  # evaluation prompts in the demonstrations, half of them word for word


class Planted(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of fault in one file.

    Attributes:
        fault: Its name.
        file: The file it lies in.
        where: Who should catch it: 'quarantine', 'blank', 'excluded', or a check of its own.
        statuses: Statuses in fct_excluded that count as caught, for `excluded`.
        items: Per planted fault the record ids involved; one of them must be caught.
        lines: Line numbers from 1, for `quarantine` and `blank`; filled in once lines are final.
    """

    fault: str
    file: str
    where: str
    statuses: tuple[str, ...] = ()
    items: tuple[tuple[str, ...], ...] = ()
    lines: tuple[int, ...] = ()


def plant_records(rng: Random, kinds: dict[str, list[Record]]) -> list[Planted]:
    """Add well-formed but wrong records to the kinds; ids of the added start with 'x'."""
    demos, pairs = kinds["demonstrations"], kinds["comparisons"]
    fresh = Desk(rng, prefix="x")

    def again(record: Record, **changes: Any) -> Record:
        fresh.count += 1
        return msgspec.structs.replace(record, id=f"x-{fresh.count:05d}", **changes)

    def add(
        fault: str, kind: str, where: str, records: Sequence[tuple[Record, Record]], *statuses: str
    ) -> Planted:
        kinds[kind].extend(copy for copy, _ in records)
        items = tuple(tuple(dict.fromkeys((str(x.id), str(of.id)))) for x, of in records)
        file = f"{kind}.jsonl"
        return Planted(fault=fault, file=file, where=where, statuses=statuses, items=items)

    def new(count: int, make: Callable[[], Record]) -> list[tuple[Record, Record]]:
        return [(made, made) for made in (make() for _ in range(count))]

    def telling_demonstration() -> Record:
        request = draw_request(rng)
        told = f"{write_reply(request)} {CONTACTS[fresh.count % len(CONTACTS)]}"
        return again(rng.choice(demos), prompt=request.text, response=told, domain=request.domain)

    def same_sides() -> Record:
        return again(rng.choice(strict), response_b=(one := _reply(rng)), response_a=one)

    strict = [p for p in pairs if isinstance(p, Comparison) and p.choice != "tie"]
    chosen = rng.sample([one for one in demos if one.domain], 32)
    replays = rng.sample(strict, 16)
    tests = rng.sample(kinds["evaluation_prompts"], LEAKS)
    return [
        add(
            "exact duplicate",
            "demonstrations",
            "excluded",
            [(again(one), one) for one in chosen[:12]],
            "duplicate_of",
        ),
        add(
            "near duplicate",
            "demonstrations",
            "excluded",
            [(again(one, prompt=_elsewhere(one)), one) for one in chosen[12:24]],
            "near_duplicate",
            "duplicate_of",
        ),
        add(
            "replayed comparison",
            "comparisons",
            "excluded",
            [(again(one), one) for one in replays[:8]],
            "duplicate_of",
        ),
        add(
            "comparison replayed with sides swapped",
            "comparisons",
            "excluded",
            [(again(one, **_swapped(one)), one) for one in replays[8:]],
            "duplicate_of",
        ),
        add("identical sides", "comparisons", "excluded", new(6, same_sides), "void"),
        add("conflicting labels", "comparisons", "conflict", _conflicts(rng, fresh, 8)),
        add(
            "evaluation prompt in training, word for word",
            "demonstrations",
            "excluded",
            [(again(rng.choice(demos), **_answered(one.prompt)),) * 2 for one in tests[::2]],
            "contaminated",
        ),
        add(
            "evaluation prompt in training, nearly",
            "demonstrations",
            "excluded",
            [(again(rng.choice(demos), **_answered(_elsewhere(one))),) * 2 for one in tests[1::2]],
            "contaminated",
        ),
        add(
            "date in the future",
            "demonstrations",
            "quarantine",
            [(again(one, occurred_at=FAR_FUTURE),) * 2 for one in chosen[24:28]],
        ),
        add(
            "address, card or phone number in a response",
            "demonstrations",
            "excluded",
            new(6, telling_demonstration),
            "personal_data",
        ),
        add(
            "annotator id that is personal data",
            "ratings",
            "pseudonym",
            [(again(one, annotator_id=PERSON),) * 2 for one in rng.sample(kinds["ratings"], 5)],
        ),
    ]


def _reply(rng: Random) -> str:
    return draw_replies(rng, draw_request(rng), 1)[0]


def _request(record: Record) -> Request:
    request = read_request(str(record.prompt))
    assert request is not None, "the world writes requests it can read"
    return request


def _elsewhere(record: Record) -> str:
    """The same request asked at another site: one word of 27 differs."""
    return replace(_request(record), site="#desk").text


def _answered(prompt: Any) -> dict[str, Any]:
    request = read_request(str(prompt))
    assert request is not None, "the world writes requests it can read"
    return {"prompt": prompt, "response": write_reply(request), "domain": request.domain}


def _swapped(record: Record) -> dict[str, Any]:
    assert isinstance(record, Comparison)
    choice = {"a": "b", "b": "a", "tie": "tie"}[record.choice]
    return {"response_a": record.response_b, "response_b": record.response_a, "choice": choice}


def _conflicts(rng: Random, desk: Desk, count: int) -> list[tuple[Record, Record]]:
    """Pairs of opposite choices by two careful annotators."""
    first, second = [one for one in ANNOTATORS if one.type == "careful"][:2]
    found: list[tuple[Record, Record]] = []
    for _ in range(count):
        request = draw_request(rng)
        a, b = draw_replies(rng, request, 2)
        sides: dict[str, Any] = {
            "response_a": a,
            "response_b": b,
            "model_a": ASSISTANT,
            "model_b": ASSISTANT,
        }
        one = Comparison(choice="a", **sides, **desk.stamp(request, first, effort=0.4))
        other = Comparison(choice="b", **sides, **desk.stamp(request, second, effort=0.4))
        found += [(one, other), (other, one)]
    return found


def spoil_lines(
    rng: Random, file: str, kind: str, lines: list[bytes], planted: list[Planted]
) -> tuple[list[bytes], list[Planted]]:
    """Put bad lines of every sort among the good ones; all line numbers are known at the end."""
    bad: list[tuple[str, str, bytes]] = []
    for fault, where, count, spoil in SPOILERS.get(kind, ()):
        bad += [(fault, where, spoil(rng, rng.choice(lines))) for _ in range(count)]
    places = sorted(rng.sample(range(1, len(lines)), len(bad)))
    rng.shuffle(bad)
    whole: list[bytes] = []
    numbers: dict[tuple[str, str], list[int]] = {}
    waiting = list(zip(places, bad, strict=True))
    for index, line in enumerate(lines):
        while waiting and waiting[0][0] == index:
            fault, where, text = waiting.pop(0)[1]
            whole.append(text)
            numbers.setdefault((fault, where), []).append(len(whole))
        whole.append(line)
    found = [
        Planted(fault=fault, file=file, where=where, lines=tuple(at))
        for (fault, where), at in sorted(numbers.items())
    ]
    return whole, [_located(one, file, whole) for one in planted] + found


def _located(planted: Planted, file: str, lines: list[bytes]) -> Planted:
    """Fill in the line numbers of records that belong into quarantine."""
    if planted.file != file or planted.where != "quarantine":
        return planted
    marks = [f'"id":"{item[0]}"'.encode() for item in planted.items]
    at = [number for number, line in enumerate(lines, 1) if any(mark in line for mark in marks)]
    return msgspec.structs.replace(planted, lines=tuple(at))


Spoil = Callable[[Random, bytes], bytes]


def _without(key: str) -> Spoil:
    def spoil(_: Random, line: bytes) -> bytes:
        return _dump({name: value for name, value in json.loads(line).items() if name != key})

    return spoil


def _with(**fields: Any) -> Spoil:
    return lambda _, line: _dump(json.loads(line) | fields)


def _dump(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()  # NaN is written as NaN


SPOILERS: dict[str, tuple[tuple[str, str, int, Spoil], ...]] = {
    "demonstrations": (
        ("line cut off", "quarantine", 12, lambda rng, line: line[: rng.randint(20, 90)]),
        ("text between records", "quarantine", 3, lambda *_: b"--- exported by desk tool 3 ---"),
        ("bytes that are not UTF-8", "quarantine", 3, lambda _, line: line[:-2] + b'\xff\xfe"}'),
        ("missing field", "quarantine", 8, _without("response")),
        ("misspelt field", "quarantine", 4, _with(respones="dear kim")),
        ("key given twice", "quarantine", 4, lambda _, line: b'{"response":"x",' + line[1:]),
        ("NaN", "quarantine", 4, _with(seconds=float("nan"))),
        ("blank line", "blank", 5, lambda rng, _: b" " * rng.randint(0, 2)),
    ),
    "rankings": (("a rank too few", "quarantine", 3, _with(ranks=[1, 2, 3])),),
    "ratings": (("rating off its scale", "quarantine", 3, _with(rating=11.0)),),
}

__all__ = ["PERSON", "Planted", "plant_records", "spoil_lines"]
