"""The sample delivery: same seed, same bytes; every line is a record or a planted fault."""

import gzip
import json
import re
from collections import Counter
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest

from flywheel.errors import FlywheelError, SettingsError
from flywheel.layout import Layout
from flywheel.records import KINDS, Comparison, Demonstration, Ranking
from flywheel.records.kinds import AnyRecord
from flywheel.sample.annotators import ANNOTATORS
from flywheel.sample.answers import answer_queue, answer_queues
from flywheel.sample.deliver import Truth, compose, corpus_path, deliver, read_truth
from flywheel.sample.faults import PERSON
from flywheel.sample.world import read_request

SCALE = 0.15
DECODER = msgspec.json.Decoder(AnyRecord)


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return compose(seed=0, scale=SCALE)[0]


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    layout = Layout(tmp_path_factory.mktemp("home"))
    deliver(layout, seed=0, scale=SCALE)
    return layout


@pytest.fixture(scope="module")
def truth(layout: Layout) -> Truth:
    return read_truth(layout)


def own(files: dict[str, bytes]) -> dict[str, list[bytes]]:
    return {
        name: content.split(b"\n")[:-1]
        for name, content in files.items()
        if name.endswith(".jsonl") and not name.startswith("openai")
    }


def test_the_same_seed_writes_the_same_bytes_and_another_seed_others(
    files: dict[str, bytes],
) -> None:
    assert compose(seed=0, scale=SCALE)[0] == files
    other = compose(seed=1, scale=SCALE)[0]
    assert all(other[name] != content for name, content in files.items())


def test_every_line_is_a_record_or_a_planted_fault(files: dict[str, bytes], truth: Truth) -> None:
    planted = {
        (one.file, line)
        for one in truth.planted
        if one.where in ("quarantine", "blank") and one.fault not in WELL_FORMED
        for line in one.lines
    }
    bad = set()
    for name, lines in own(files).items():
        for number, line in enumerate(lines, start=1):
            try:
                DECODER.decode(line)
            except (msgspec.MsgspecError, FlywheelError, UnicodeDecodeError):
                bad.add((name, number))
    assert bad == planted


KIND = re.compile(rb'^{"kind":"(\w+)"', re.MULTILINE)
WELL_FORMED = {"date in the future", "key given twice"}  # only a suite, or a strict reader, sees


def test_all_kinds_are_delivered_and_no_file_is_spoilt_beyond_the_limit(
    files: dict[str, bytes], truth: Truth
) -> None:
    kinds: Counter[bytes] = Counter()
    for name, lines in own(files).items():
        kinds.update(KIND.findall(b"\n".join(lines)))
        bad = sum(len(one.lines) for one in truth.planted if one.file == name)
        assert bad <= 0.2 * len(lines)
    assert {kind.decode() for kind in kinds} == set(KINDS)


def records(files: dict[str, bytes], name: str) -> list[object]:
    found = []
    for line in files[name].split(b"\n")[:-1]:
        try:
            found.append(DECODER.decode(line))
        except (msgspec.MsgspecError, FlywheelError, UnicodeDecodeError):
            continue
    return found


def test_evaluation_prompts_are_fresh_but_for_the_planted_leak(
    files: dict[str, bytes], truth: Truth
) -> None:
    tests = {one.prompt for one in records(files, "evaluation_prompts.jsonl")}  # type: ignore[attr-defined]
    leaked = [
        one
        for name in ("demonstrations.jsonl", "rankings.jsonl", "comparisons.jsonl")
        for one in records(files, name)
        if one.prompt in tests  # type: ignore[attr-defined]
    ]
    planted = next(one for one in truth.planted if one.fault.endswith("word for word"))
    assert {one.id for one in leaked} == {item[0] for item in planted.items}  # type: ignore[attr-defined]
    assert len(planted.items) == 10


def test_records_say_that_their_authors_are_simulated(files: dict[str, bytes]) -> None:
    for name in own(files):
        for one in records(files, name):
            assert one.metadata["simulated"] is True  # type: ignore[attr-defined]
            assert one.annotator_kind in ("program", "unknown")  # type: ignore[attr-defined]
            assert one.source == "sample-refund-desk"  # type: ignore[attr-defined]


def test_no_ranking_shows_a_reply_twice_and_some_have_a_second_opinion(
    files: dict[str, bytes],
) -> None:
    found = [one for one in records(files, "rankings.jsonl") if isinstance(one, Ranking)]
    assert all(len(set(one.responses)) == len(one.responses) == 4 for one in found)
    judged = Counter(str(one.prompt) for one in found)
    assert 0.08 < sum(count == 2 for count in judged.values()) / len(judged) < 0.3


def test_every_annotator_judges_the_same_pairs_before_real_work(files: dict[str, bytes]) -> None:
    found = [one for one in records(files, "comparisons.jsonl") if isinstance(one, Comparison)]
    judges: dict[str, set[str]] = {}
    for one in found:
        judges.setdefault(str(one.prompt), set()).add(str(one.annotator_id))
    everybody = {one.name for one in ANNOTATORS}
    assert sum(names == everybody for names in judges.values()) == round(150 * 0.72 / 12)


def test_swapped_replays_say_the_same_thing_from_the_other_side(
    files: dict[str, bytes], truth: Truth
) -> None:
    by_id = {one.id: one for one in records(files, "comparisons.jsonl")}  # type: ignore[attr-defined]
    planted = next(one for one in truth.planted if "swapped" in one.fault)
    for copy, original in planted.items:
        a, b = by_id[copy], by_id[original]
        assert isinstance(a, Comparison) and isinstance(b, Comparison)
        assert (a.response_a, a.response_b) == (b.response_b, b.response_a)
        assert {a.choice, b.choice} == {"a", "b"}
        assert (a.annotator_id, a.occurred_at) == (b.annotator_id, b.occurred_at)


def test_foreign_formats_hold_the_same_world(files: dict[str, bytes]) -> None:
    openai = [json.loads(line) for line in files["openai_preferences.jsonl"].splitlines()]
    assert all(read_request(row["input"]["messages"][0]["content"]) for row in openai)
    assert len({row["input"]["messages"][0]["content"] for row in openai}) == len(openai)
    trl = gzip.decompress(files["trl_demonstrations.jsonl.gz"]).splitlines()
    assert all(json.loads(line)["completion"][0]["role"] == "assistant" for line in trl)
    assert files["comparisons_resent.jsonl"] == files["comparisons.jsonl"]


def test_delivering_again_changes_nothing_and_another_seed_is_refused(layout: Layout) -> None:
    before = {path: path.stat().st_mtime_ns for path in layout.inbox.rglob("*")}
    assert not deliver(layout, seed=0, scale=SCALE).is_new
    assert {path: path.stat().st_mtime_ns for path in layout.inbox.rglob("*")} == before
    with pytest.raises(SettingsError, match="FLYWHEEL_HOME"):
        deliver(layout, seed=1, scale=SCALE)


def test_a_delivery_cut_off_half_way_is_completed(tmp_path: Path, files: dict[str, bytes]) -> None:
    layout = Layout(tmp_path)
    folder = deliver(layout, seed=0, scale=SCALE).folder
    (tmp_path / "sample" / "planted.json").unlink()
    (folder / "rankings.jsonl").unlink()
    assert deliver(layout, seed=0, scale=SCALE).is_new
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files


def test_the_corpus_is_pages_of_words(layout: Layout) -> None:
    texts = pq.read_table(corpus_path(layout))["text"].to_pylist()
    assert len(texts) == round(9000 * SCALE)
    assert len({word for text in texts for word in text.split()}) < 140


def test_personal_data_is_planted_once(files: dict[str, bytes]) -> None:
    holders = [name for name, content in files.items() if PERSON.encode() in content]
    assert holders == ["ratings.jsonl"]


def queue(layout: Layout, *lines: object) -> Path:
    path = layout.annotation_queue / "g0001.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_annotators_answer_a_queue_with_rankings_in_the_inbox(
    tmp_path: Path, files: dict[str, bytes]
) -> None:
    layout = Layout(tmp_path)
    asked = records(files, "rankings.jsonl")[:5]
    lines: list[dict[str, object]] = [
        {
            "prompt": [{"role": "user", "content": one.prompt}],  # type: ignore[attr-defined]
            "responses": list(one.responses),  # type: ignore[attr-defined]
            "models": ["policy-1"] * 4,
        }
        for one in asked
    ]
    lines.append({"prompt": "what is the capital of france ?", "responses": ["a", "b"]})
    lines.append({"prompt": lines[0]["prompt"], "responses": ["same", "same"]})
    path = answer_queue(layout, queue(layout, *lines))
    assert path == layout.inbox / "refund_desk" / "answers_g0001.jsonl"
    answers = [DECODER.decode(line) for line in path.read_bytes().splitlines()]
    assert len(answers) == 10  # two annotators each; the other lines cannot be judged
    for one in answers:
        assert isinstance(one, Ranking) and one.models == ("policy-1",) * 4
    assert len({one.id for one in answers}) == 10
    assert answers[0].annotator_id != answers[1].annotator_id
    before = path.read_bytes()
    assert answer_queues(layout) == [path] and path.read_bytes() == before


def test_a_queue_of_another_shape_is_refused_with_its_line(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    with pytest.raises(SettingsError, match=r"line 1: expected an object with `prompt`"):
        answer_queue(layout, queue(layout, {"question": "why?"}))
    with pytest.raises(SettingsError, match="no annotation queue"):
        answer_queue(layout, tmp_path / "nowhere.jsonl")


def test_demonstrators_mostly_follow_the_old_guideline(files: dict[str, bytes]) -> None:
    named = records(files, "demonstrations.jsonl")
    found = [one for one in named if isinstance(one, Demonstration)]
    old = sum(one.guideline_version == "v1" for one in found) / len(found)
    assert 0.5 < old < 0.8
