"""Personal data: found, counted, and taken out before they lie in the lake."""

import json
import os
import random
import stat
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flywheel.errors import SettingsError
from flywheel.ingest import BatchManifest, land, read_batches, unaccounted
from flywheel.ingest.keys import opening_key, prompt_key, response_key
from flywheel.lake import read_folder
from flywheel.layout import Layout
from flywheel.privacy import Policy, Pseudonyms, find, kinds_found, read_originals, redact
from flywheel.privacy.find import suspects
from flywheel.quality import judge
from flywheel.records.message import load, text_of

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("FLYWHEEL_SHARED_DATA", ROOT.parent.parent / "shared" / "data"))
GSM8K = SHARED / "gsm8k" / "train.jsonl"
ALNUM = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
SENTENCE = "the lamp on my desk went dark because its wire broke and 12 of 30 said 4.50 $ is fine"


def luhn(digits: str) -> str:
    """The check digit after `digits`."""
    doubled = [int(d) * (2 if place % 2 == 0 else 1) for place, d in enumerate(reversed(digits))]
    return str(-sum(one // 10 + one % 10 for one in doubled) % 10)


def iban(country: str, account: str) -> str:
    number = "".join(str(int(sign, 36)) for sign in f"{account}{country}00")
    return f"{country}{98 - int(number) % 97:02d}{account}"


def grouped(value: str) -> str:
    return " ".join(value[at : at + 4] for at in range(0, len(value), 4))


def drawn(rng: random.Random, count: int, signs: str = "0123456789") -> str:
    return "".join(rng.choices(signs, k=count))


def card(rng: random.Random) -> str:
    digits = rng.choice("456") + drawn(rng, 14)
    whole = digits + luhn(digits)
    return rng.choice((whole, grouped(whole), grouped(whole).replace(" ", "-")))


def wrong_card(rng: random.Random) -> str:
    digits = rng.choice("456") + drawn(rng, 14)
    return digits + str((int(luhn(digits)) + 1) % 10)


def german(rng: random.Random) -> str:
    found = iban("DE", drawn(rng, 18))
    return rng.choice((found, grouped(found)))


def wrong_iban(rng: random.Random) -> str:
    found = iban("DE", drawn(rng, 18))
    return found[:2] + f"{(int(found[2:4]) + 1) % 100:02d}" + found[4:]


PLANTED: dict[str, tuple[Callable[[random.Random], str], ...]] = {
    "email": (
        lambda rng: f"{drawn(rng, 6, ALNUM)}.x+y@mail.{drawn(rng, 5, ALNUM)}.org",
        lambda rng: f"<{drawn(rng, 4, ALNUM)}@post.example>",
    ),
    "card": (card,),
    "phone": (
        lambda rng: f"+44 20 7{drawn(rng, 3)} {drawn(rng, 4)}",
        lambda rng: f"(+49151{drawn(rng, 7)}1)",
        lambda rng: f"({rng.randint(200, 999)}) {rng.randint(200, 999)}-{drawn(rng, 4)}",
    ),
    "iban": (german, lambda rng: iban("GB", f"NWBK{drawn(rng, 14)}") + " NOW"),
    "ip": (
        lambda rng: f"84.{rng.randint(0, 255)}.{rng.randint(0, 255)}.{rng.randint(1, 254)}",
        lambda rng: f"2a00:1450:4001:{drawn(rng, 3, 'abcdef')}::{drawn(rng, 3)}",
    ),
    "secret": (
        lambda rng: f"AKIA{drawn(rng, 16, ALNUM[:26] + '234567')}",
        lambda rng: f"ghp_{drawn(rng, 36, ALNUM)}",
        lambda rng: f"sk-proj-{drawn(rng, 40, ALNUM)}",
        lambda rng: f'api_key = "aB3{drawn(rng, 29, ALNUM)}"',
        lambda rng: (
            f"-----BEGIN RSA PRIVATE KEY-----\n{drawn(rng, 64, ALNUM)}\n"
            "-----END RSA PRIVATE KEY-----"
        ),
    ),
}
DECOYS: tuple[Callable[[random.Random], str], ...] = (
    lambda rng: f"you{rng.randint(0, 99)}@example.com or root@db.test",
    lambda _: "git@github.com:team/repo.git",
    lambda _: "x = a@weights.transpose() + logo@2x.png",
    wrong_card,
    wrong_iban,
    lambda rng: f"order 2026{drawn(rng, 4)}-4111 of 2026-01-31 , 10:45:30",
    lambda rng: f"100 + 12 345 678 = <<100+12345678={drawn(rng, 8)}>>",
    lambda rng: f"in 17{drawn(rng, 11)} ms",
    lambda rng: f"127.0.0.1 , 192.168.{rng.randint(0, 255)}.7 , 8.8.8.8 and v3.14.15.92",
    lambda _: "version 84.12.3.9 of libx.so.4.3.2.1.0",
    lambda _: "2001:db8::1 at 10:45:30 , std::vec::dead::beef",
    lambda _: "AKIAIOSFODNN7EXAMPLE and sk-your-key-goes-here-please",
    lambda _: "password = settings_of_the_module_v2 ; token: aaaaaaaaaaaaaaaaaaaaaaaa",
    lambda rng: f"commit {drawn(rng, 40, '0123456789abcdef')}",
    lambda _: "@ann , see a@b ; 1-800-FLOWERS ; call 555-0199 ; +1 000 000 0000",
)


def corpus(seed: int = 0, count: int = 3000) -> tuple[list[str], list[set[str]]]:
    """Short texts; a third holds one value, a third a decoy, and what each holds."""
    rng = random.Random(seed)
    texts, truth = [], []
    makers = [(name, make) for name, every in PLANTED.items() for make in every]
    for number in range(count):
        words = rng.choices(SENTENCE.split(), k=rng.randint(3, 30))
        held: set[str] = set()
        if number % 3 == 0:
            name, make = makers[number // 3 % len(makers)]
            words.insert(rng.randint(0, len(words)), make(rng))
            held = {name}
        elif number % 3 == 1:
            words.insert(rng.randint(0, len(words)), rng.choice(DECOYS)(rng))
        texts.append(" ".join(words))
        truth.append(held)
    return texts, truth


def test_what_was_planted_is_found_by_kind_and_decoys_are_not() -> None:
    texts, truth = corpus()
    found = kinds_found(pa.array(texts))
    wrong = {
        texts[place]: (found.get(place), held)
        for place, held in enumerate(truth)
        if set(found.get(place, ())) != held
    }
    assert wrong == {}, "precision and recall are both 1 on this corpus"
    assert sum(map(bool, truth)) == 1000


@pytest.mark.skipif(not GSM8K.exists(), reason=f"GSM8K is not at {GSM8K}")
def test_arithmetic_tells_of_nobody() -> None:
    lines = [json.loads(line) for line in GSM8K.read_text().splitlines()]
    texts = [line[name] for line in lines for name in ("question", "answer")]
    assert len(texts) == 14_946
    assert kinds_found(pa.array(texts)) == {}


values = st.sampled_from([make for every in PLANTED.values() for make in every])
texts_with_values = st.lists(
    st.one_of(
        st.text(max_size=12),
        st.text("\\\"'\n\t /.:+-(<é", max_size=6),
        st.builds(lambda make, seed: make(random.Random(seed)), values, st.integers(0, 9999)),
    ),
    max_size=5,
).map("".join)


@settings(max_examples=400, deadline=None)
@given(texts_with_values)
def test_the_fast_tier_lets_through_all_that_the_exact_one_finds(text: str) -> None:
    if text.encode("utf-8", "replace").decode() != text:
        return
    for told in (text, json.dumps(text), json.dumps([text], ensure_ascii=False)):
        for escaped in (False, True):
            if find(told, escaped=escaped):
                assert list(suspects(pa.array([None, told]))) == [1]


@settings(max_examples=300, deadline=None)
@example("DE59874254734595276299¹")
@given(texts_with_values)
def test_redacted_json_is_json_that_says_the_redacted_text_and_redacting_again_changes_nothing(
    text: str,
) -> None:
    def placeholder(kind: str, value: str) -> str:
        return f"<{kind.upper()}_0000aaaa>"

    whole, _ = redact(json.dumps({"content": text}), placeholder, escaped=True)
    said = json.loads(whole)["content"]
    assert redact(whole, placeholder, escaped=True) == (whole, Counter())
    if "\\" not in text:
        assert said == redact(text, placeholder)[0] or "\n" in text


def test_a_number_in_json_becomes_a_string() -> None:
    told = '{"n":1.50,"card":4111111111111111,"deep":[{"to":"x\\n+44 20 7946 0958"}]}'
    clean, counts = redact(told, lambda kind, _: f"<{kind}>", escaped=True)
    assert json.loads(clean) == {"n": 1.5, "card": "<card>", "deep": [{"to": "x\n<phone>"}]}
    assert counts == {"card": 1, "phone": 1}


def test_long_runs_of_one_sign_cost_no_more_than_their_length() -> None:
    """Backtracking engines square such texts: this took minutes without bounds."""
    for text in ("a." * 200_000 + " jo@mail.desk", "@" * 200_000, "-----BEGIN PRIVATE KEY" * 9_000):
        find(text, escaped=True)


SECRETS = ("jo.miller@mail.desk", "+44 20 7946 0958", "4111 1111 1111 1111", "4111111111111111")
TOLD = "write to jo.miller@mail.desk"
CALL = {"name": "pay", "arguments": {"card": 4111111111111111, "note": "x\n+44 20 7946 0958"}}
RECORDS: list[dict[str, Any]] = [
    {"kind": "demonstration", "prompt": "how ?", "response": "so"},
    {"kind": "demonstration", "prompt": f"{TOLD} ?", "response": "ok", "annotator_id": "ann"},
    {"kind": "demonstration", "prompt": "who ?", "response": TOLD.upper(), "id": "d-3"},
    {
        "kind": "trajectory",
        "prompt": "do",
        "outcome": "passed",
        "steps": [{"role": "assistant", "tool_calls": [CALL]}, {"role": "assistant"}],
    },
    {
        "kind": "ranking",
        "prompt": "which ?",
        "responses": ["plain", TOLD, "other"],
        "ranks": [1, 2, 3],
        "models": ["m1", "m2", "m3"],
    },
    {
        "kind": "critique",
        "prompt": "how ?",
        "response": "thus",
        "critique": "he said +44 20 7946 0958",
        "metadata": {"tools": [{"name": "mail", "description": TOLD}]},
        "data_subject": "jo.miller@mail.desk",
    },
]
TORN = b'{"kind": "demonstration", "prompt": "torn \\n4111 1111 1111 1111'


def deliver(layout: Layout, source: str = "support", records: Any = RECORDS) -> Path:
    file = layout.inbox / source / "x.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"\n".join([*map(msgspec.json.encode, records), TORN]) + b"\n")
    return file


def landed(layout: Layout, policy: Policy) -> BatchManifest:
    options: dict[str, Any] = {"judge": judge, "quarantine_limit": 1.0, "log": lambda _: None}
    (batch,) = land([layout.inbox], layout, personal=policy, **options)
    assert batch.lines == batch.rows + batch.quarantined + batch.blanks == 7
    assert unaccounted(layout) == []
    return batch


def everything(layout: Layout) -> str:
    """All that the lake says, manifests included."""
    tables = [pq.read_table(path).to_pylist() for path in layout.lake.rglob("*.parquet")]
    return repr(tables) + "".join(path.read_text() for path in layout.batches.glob("*.json"))


def test_redaction_leaves_nothing_of_a_person_in_the_lake_and_everything_consistent(
    tmp_path: Path,
) -> None:
    layout = Layout(tmp_path)
    deliver(layout)
    batch = landed(layout, Policy(sources={"support": "redact"}))
    assert not [secret for secret in SECRETS if secret.lower() in everything(layout).lower()]
    assert (batch.rows, batch.quarantined) == (6, 1)
    assert batch.personal_data == {"email": 5, "card": 2, "phone": 2}, "a torn line holds a card"
    plain, asked, answered = read_folder(layout.landing("demonstration")).to_pylist()
    assert plain["response_text"] == "so"
    mail = Pseudonyms(layout)("email", "jo.miller@mail.desk")
    assert asked["prompt_text"] == f"write to {mail} ?"
    assert answered["response_text"] == f"WRITE TO {mail}", "one person, one pseudonym"
    prompt = load(asked["prompt"])
    assert text_of(prompt) == asked["prompt_text"] and prompt_key(prompt) == asked["prompt_key"]
    assert asked["group_hint"] == f"opening {opening_key(prompt)}"
    assert answered["response_key"] == response_key(load(answered["response"]))
    assert asked["record_id"] == asked["content_sha256"][:32] and answered["record_id"] == "d-3"
    (attempt,) = read_folder(layout.landing("trajectory")).to_pylist()
    (call,) = load(attempt["steps"])[0].tool_calls
    assert call.arguments["card"] in attempt["steps_text"]
    assert attempt["steps_text"] == text_of(load(attempt["steps"]))
    (ranking,) = read_folder(layout.landing("ranking")).to_pylist()
    assert ranking["response_texts"] == ["plain", f"write to {mail}", "other"]
    assert ranking["response_keys"] == [response_key(load(one)) for one in ranking["responses"]]
    assert ranking["models"] == ["m1", "m2", "m3"]
    (critique,) = read_folder(layout.landing("critique")).to_pylist()
    assert critique["data_subject"] == mail
    tools = json.loads(critique["metadata"])["tools"]
    assert critique["prompt_key"] == prompt_key(load(critique["prompt"]), tools)
    assert critique["prompt_key"] != plain["prompt_key"]


def test_the_originals_lie_in_a_folder_of_their_own_and_give_everything_back(
    tmp_path: Path,
) -> None:
    layout = Layout(tmp_path)
    deliver(layout)
    batch = landed(layout, Policy(policy="redact"))
    for path in (layout.restricted, *layout.restricted.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    kept = read_originals(layout, batch.batch_id).to_pylist()
    rows = {
        row["record_uid"]: row
        for kind in ("demonstration", "trajectory", "ranking", "critique")
        for row in read_folder(layout.landing(kind)).to_pylist()
    }
    fields = {uid: json.loads(one["fields"]) for one in kept if (uid := one["record_uid"])}
    assert len(fields) == 5
    changed = [rows[uid][name] != was[name] for uid, was in fields.items() for name in was]
    assert all(changed)
    said = [text_of(load(was["prompt"])) for was in fields.values() if "prompt" in was]
    assert said == [f"{TOLD} ?"]
    assert [one["raw"] for one in kept if one["raw"]] == [TORN]


def test_the_same_delivered_again_is_the_same_event(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    file = deliver(layout)
    first = landed(layout, Policy(policy="redact"))
    file.rename(file.with_name("y.jsonl"))
    file.with_name("y.jsonl").write_bytes(b"\n" + file.with_name("y.jsonl").read_bytes())
    options: dict[str, Any] = {"judge": judge, "quarantine_limit": 1.0, "log": lambda _: None}
    (again,) = land([layout.inbox], layout, personal=Policy(policy="redact"), **options)
    assert again.rows_by_kind == first.rows_by_kind and sum(again.new_rows_by_kind.values()) == 0


def test_refused_lines_go_to_quarantine_without_what_they_told(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    deliver(layout)
    batch = landed(layout, Policy(policy="refuse"))
    assert (batch.rows, batch.quarantined) == (1, 6)
    assert not [secret for secret in SECRETS if secret.lower() in everything(layout).lower()]
    refused = [r for r in read_folder(layout.quarantine).to_pylist() if r["kind"]]
    assert {row["reason_kind"] for row in refused} == {"personal_data"}
    assert {row["reason"] for row in refused} == {
        "holds an e-mail address",
        "holds a payment card number",
    }
    kept = read_originals(layout, batch.batch_id).to_pylist()
    lines = (layout.inbox / "support" / "x.jsonl").read_bytes().splitlines()
    assert {one["line_no"]: one["raw"] for one in kept} == dict(enumerate(lines[1:], 2))


@pytest.mark.parametrize("policy", ["exclude", "allow"])
def test_what_is_left_to_the_marts_lands_as_it_is(tmp_path: Path, policy: str) -> None:
    layout = Layout(tmp_path)
    deliver(layout)
    batch = landed(layout, Policy(policy=policy))
    assert batch.rows == 6 and batch.personal_data == {}
    assert all(secret in everything(layout) for secret in SECRETS)
    assert not layout.restricted.exists()


def test_a_record_cannot_choose_its_policy_by_naming_another_source(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    deliver(layout, records=[one | {"source": "free"} for one in RECORDS])
    landed(layout, Policy(policy="redact", sources={"free": "allow"}))
    assert SECRETS[0] not in everything(layout)


def test_a_raw_source_is_redacted_as_the_json_it_is(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.inbox.mkdir()
    rows = [{"t": "none", "n": 1.50}, {"t": f"a\n{TOLD}", "n": 4111111111111111}]
    (layout.inbox / "x.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, rows)))
    (batch,) = land([layout.inbox], layout, personal=Policy(policy="redact"), log=lambda _: None)
    (path,) = layout.raw(batch.source).glob("*.parquet")
    plain, clean = pq.read_table(path)["record"].to_pylist()
    assert json.loads(plain) == rows[0]
    assert set(json.loads(clean)) == {"t", "n"} and SECRETS[0] not in clean
    assert json.loads(clean)["n"].startswith("<CARD_")
    (kept,) = read_originals(layout, batch.batch_id).to_pylist()
    assert json.loads(json.loads(kept["fields"])["record"]) == rows[1]


def test_escapes_that_json_does_not_need_hide_nobody_in_a_raw_source_or_in_quarantine(
    tmp_path: Path,
) -> None:
    layout = Layout(tmp_path)
    layout.inbox.mkdir()
    mail, phone = (
        Pseudonyms(layout)("email", SECRETS[0]),
        Pseudonyms(layout)("phone", "442079460958"),
    )
    good = [
        rb'{"t": "C:\\u0041", "n": 1.50}',
        rb'{"t": "say \u0022no\u0022 to jo.miller\u0040mail.desk", "n": 2.50}',
        rb'{"t": "\u002B44 20 7946 0958"}',
        rb'{"t": "{\"to\": \"\\u002B44 20 7946 0958\"}"}',
    ]
    file = layout.inbox / "x.jsonl"
    file.write_bytes(b"\n".join([*good, *(one[:-1] for one in good[1:])]) + b"\n")
    policy, options = Policy(policy="redact"), {"quarantine_limit": 1.0, "log": lambda _: None}
    (batch,) = land([layout.inbox], layout, personal=policy, **options)  # type: ignore[arg-type]
    (path,) = layout.raw(batch.source).glob("*.parquet")
    records = pq.read_table(path)["record"].to_pylist()
    assert records[0].encode() == good[0], "where nobody stands nothing changes"
    assert records[1] == r'{"t": "say \u0022no\u0022 to ' + mail + '", "n": 2.50}'
    assert json.loads(records[2]) == {"t": phone}
    assert json.loads(json.loads(records[3])["t"]) == {"to": phone}
    bad = read_folder(layout.quarantine).to_pylist()
    assert [one["raw"].decode() for one in bad] == [one[:-1] for one in records[1:]]
    content = file.read_bytes()
    lines = [content[one["byte_offset"] :][: one["byte_length"]] for one in bad]
    assert lines == [one[:-1] for one in good[1:]]
    assert [one["raw"] for one in read_originals(layout, batch.batch_id).to_pylist()][3:] == lines
    assert batch.personal_data == {"email": 2, "phone": 4}


def test_a_blocked_file_does_not_stay_in_clear_when_the_policy_changes(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.inbox.mkdir()
    (layout.inbox / "b.jsonl").write_text(f"bad {TOLD}\n" * 5)
    for policy, found in (("exclude", {}), ("redact", {"email": 5}), ("refuse", {"email": 5})):
        landing: dict[str, Any] = {"personal": Policy(policy=policy), "log": lambda _: None}
        (batch,) = land([layout.inbox], layout, **landing)
        assert batch.blocked and batch.personal_data == found
        assert (SECRETS[0] in everything(layout)) == (policy == "exclude")
    assert batch.blocked_because == (
        "it holds no object; 5 of 5 lines were quarantined, more than the limit"
    )
    assert [one.batch_id for one in read_batches(layout)] == [batch.batch_id]


def test_a_source_that_a_record_gives_itself_is_screened_and_that_of_the_folder_kept(
    tmp_path: Path,
) -> None:
    layout = Layout(tmp_path)
    own = "desk@mail.desk"
    deliver(layout, own, [RECORDS[0], *(one | {"source": SECRETS[0]} for one in RECORDS[:5])])
    landed(layout, Policy(policy="redact"))
    assert SECRETS[0] not in everything(layout)
    rows = read_folder(layout.landing("demonstration")).to_pylist()
    mail = Pseudonyms(layout)("email", SECRETS[0])
    assert [one["source"] for one in rows] == [own, mail, mail, mail]


def test_originals_are_encrypted_where_there_is_a_key(tmp_path: Path) -> None:
    layout, key = Layout(tmp_path / "home"), tmp_path / "key"
    key.write_text("ab" * 32 + "\n")
    deliver(layout)
    batch = landed(layout, Policy(policy="redact", key_file=str(key)))
    (sealed,) = (layout.restricted / "originals").iterdir()
    assert sealed.suffix == ".sealed" and b"PAR1" not in sealed.read_bytes()
    assert read_originals(layout, batch.batch_id, str(key)).num_rows == 6
    key.write_text("cd" * 32)
    with pytest.raises(SettingsError, match="does not open with the key"):
        read_originals(layout, batch.batch_id, str(key))


def test_without_its_key_nothing_lands(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    deliver(layout)
    for held in (None, "ab" * 31, "no hex"):
        if held:
            (tmp_path / "key").write_text(held)
        policy = Policy(policy="redact", key_file=str(tmp_path / "key"))
        with pytest.raises(SettingsError, match="32 bytes in hex"):
            land([layout.inbox], layout, personal=policy, log=lambda _: None)
    assert read_batches(layout) == []


def test_originals_of_a_landing_that_was_killed_are_removed_with_its_rows(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    deliver(layout)
    batch = landed(layout, Policy(policy="redact"))
    (layout.batches / f"{batch.batch_id}.json").unlink()
    (layout.inbox / "support" / "x.jsonl").write_text('{"kind":"demonstration","prompt":"p"}')
    landing: dict[str, Any] = {"personal": Policy(policy="redact"), "log": lambda _: None}
    land([layout.inbox], layout, **landing)
    assert read_originals(layout, batch.batch_id).num_rows == 0


def test_settings_that_name_no_policy_or_kind_are_refused() -> None:
    for table in ({"policy": "drop"}, {"sources": {"x": "hide"}}, {"kinds": ["email", "name"]}):
        with pytest.raises(SettingsError, match="personal_data"):
            Policy.of_settings(table)
    assert Policy.of_settings({"sources": {"x": "allow"}}).of("x") == "allow"
    only = Policy.of_settings({"kinds": ["ip"]})
    assert kinds_found(pa.array([TOLD, "at 84.12.3.9"]), only.kinds).keys() == {1}
