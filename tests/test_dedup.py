# ruff: noqa: RUF001
import random
import re
from itertools import combinations
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.dedup import Report, mark, positive_control
from flywheel.dedup.join import similar_pairs
from flywheel.dedup.overlap import EvaluationRuns
from flywheel.dedup.sets import words_of
from flywheel.dedup.texts import TEXTS
from flywheel.errors import SettingsError, WarehouseError
from flywheel.lake import DERIVED, write_table
from flywheel.layout import Layout
from flywheel.records.message import Message, dump, text_of
from tests.benchmarks.dedup_corpus import corpus
from tests.small_lake import dbt, row, write_lake

SENTENCE = "the shop pays back the price of a broken lamp within nine days of the call"


def brute_force(texts: list[str], threshold: float) -> list[tuple[int, int, float]]:
    sets = [
        {tuple(words[i : i + 3]) for i in range(max(len(words) - 2, 1))} if words else set()
        for words in map(words_of, texts)
    ]
    found = []
    for a, b in combinations(range(len(texts)), 2):
        similarity = len(sets[a] & sets[b]) / max(len(sets[a] | sets[b]), 1)
        if similarity >= threshold - 1e-9:
            found.append((a, b, pytest.approx(similarity)))
    return found


def pairs(texts: list[str], threshold: float) -> list[tuple[int, int, float]]:
    return [
        (int(a), int(b), float(s)) for a, b, s in zip(*similar_pairs(texts, threshold), strict=True)
    ]


@st.composite
def families(draw: st.DrawFn) -> list[str]:
    """Texts that are copies of a few originals with a few words changed."""
    words = st.sampled_from(["a", "b", "c", "d", "e", "f"])
    originals = draw(st.lists(st.lists(words, max_size=30), min_size=1, max_size=4))
    texts = []
    for original in draw(st.lists(st.sampled_from(originals), max_size=14)):
        copy = list(original)
        for place in draw(st.lists(st.integers(0, 29), max_size=3)):
            if place < len(copy):
                copy[place] = draw(st.sampled_from(["x", "y"]))
        texts.append(" ".join(copy))
    return texts


@pytest.mark.parametrize("threshold", [0.7, 0.8, 0.9])
@settings(max_examples=60, deadline=None)
@given(texts=families())
def test_the_join_finds_exactly_the_pairs_of_brute_force(
    threshold: float, texts: list[str]
) -> None:
    assert pairs(texts, threshold) == brute_force(texts, threshold)


def test_the_pairs_are_the_same_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(3)
    texts = [SENTENCE.replace(rng.choice(SENTENCE.split()), "lamp") for _ in range(60)]
    whole = pairs(texts, 0.7)
    monkeypatch.setattr("flywheel.dedup.sets.BLOCK", 7)
    assert len(whole) > 100
    assert pairs(texts, 0.7) == whole


def test_case_and_spacing_do_not_count_and_empty_texts_are_similar_to_nothing() -> None:
    assert pairs(["Pay me  BACK", "pay me\nback", "", " ", "hi", "Hi"], 1.0) == [
        (0, 1, 1.0),
        (4, 5, 1.0),
    ]
    assert pairs([], 0.8) == []


def test_an_evaluation_prompt_is_found_inside_a_longer_text() -> None:
    runs = EvaluationRuns([SENTENCE, "short words"])
    (found,) = runs.find(["nothing of the kind", f"Dear all , {SENTENCE.upper()} , bye"])
    assert (found.text, found.item) == (1, 0)
    assert found.span == SENTENCE


def test_another_prompt_of_the_same_template_is_not_contained() -> None:
    form = "#chat bob paid $ 2 1 . one sealed {} , 0 7 days ago , gold , for $ 9 1 . i am {} ."
    asked = form.format("lamp", "ann")
    runs = EvaluationRuns([asked])
    siblings = [form.format("mug", "ann"), form.format("lamp", "kim"), f"dear {asked} yours"]
    assert [found.text for found in runs.find(siblings)] == [2]
    halves = f"{' '.join(asked.split()[:14])} well {' '.join(asked.split()[10:])}"
    assert runs.find([halves]) == [], "every run is there, but not in one piece"


def test_a_run_across_two_texts_is_no_overlap() -> None:
    words = SENTENCE.split()
    assert EvaluationRuns([SENTENCE]).find([" ".join(words[:8]), " ".join(words[8:])]) == []


def test_what_many_evaluation_prompts_share_is_boilerplate() -> None:
    system = "you are a kind and careful assistant of a shop that sells lamps and chairs only"
    prompts = [f"{system} {name} {SENTENCE.replace('lamp', name)}" for name in "uvwxyz"]
    runs = EvaluationRuns(prompts)
    assert runs.find([system]) == []
    assert [o.item for o in runs.find([f"{system} and {prompts[2]}"])] == [2]


@pytest.mark.parametrize("copies", [1, 3, 40])
def test_a_prompt_asked_many_times_is_no_boilerplate(copies: int) -> None:
    runs = EvaluationRuns(["short words", *[SENTENCE] * (copies - 1), SENTENCE.upper()])
    found = runs.scan([f"dear all , {SENTENCE} , bye"])
    assert [one.item for one in found.contained] == list(range(1, copies + 1))
    assert [(one.item, one.covered_13_frac) for one in found.covered] == [(1, 1.0)]
    assert (runs.whole, runs.unsought) == ([], [0])


def test_a_prompt_that_others_hold_is_looked_for_whole() -> None:
    others = [f"{name} {SENTENCE} {name}" for name in "uvw"]
    runs = EvaluationRuns([*others, SENTENCE])
    words = SENTENCE.split()
    halves = " ".join([*words[:14], "well", *words[1:]])
    found = runs.find([f"dear all , {SENTENCE} , bye", halves, SENTENCE.replace("nine", "ten")])
    assert [(one.text, one.item, one.span) for one in found] == [(0, 3, SENTENCE)]
    assert runs.whole == [3]


ASKED = {
    "zh": "另一列火车十点出发，速度是第一列的两倍，请问第二列火车什么时候能追上第一列？",
    "ja": "カタカナとひらがなの違いを七歳の子どもにわかるように説明してください。",
    "th": "ช่วยอธิบายให้เด็กเจ็ดขวบฟังว่าทำไมท้องฟ้าจึงเป็นสีฟ้า",
}


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_text_without_spaces_has_near_copies_and_is_found_inside_other_text(
    tmp_path: Path, asked: str
) -> None:
    quoted = f"他问：「{asked}」OK。"
    assert [one.text for one in EvaluationRuns([asked]).find([asked[:-3], quoted])] == [1]
    assert [pair[:2] for pair in pairs([asked, "短", f"{asked} 谢谢"], 0.8)] == [(0, 2)]
    path, layout = warehouse(
        tmp_path, [said("e", asked, evaluation_set="s"), said("r", quoted, "response")]
    )
    quiet_mark(path, layout)
    assert [mark["kind"] for mark in derived(layout, "contamination")] == ["contained"]
    control = positive_control(path)
    assert control.passed and control.planted == 4


@pytest.mark.parametrize("greeting", ["谢谢你的帮助！", "どうもありがとう", "ขอบคุณมากครับ"])
def test_a_phrase_of_a_few_signs_is_too_common_to_look_for(greeting: str) -> None:
    runs = EvaluationRuns([greeting, "中国的首都是哪里？"])
    assert runs.unsought == [0]
    assert [one.item for one in runs.find([f"{greeting}中国的首都是哪里？北京"])] == [1]


def warehouse(root: Path, rows: list[dict[str, object]]) -> tuple[Path, Layout]:
    table = pa.Table.from_pylist(
        [
            {
                "text_id": f"{row['role']}:{row.get('evaluation_set')}:{row['text_key']}",
                "text_key": row["text_key"],
                "role": row["role"],
                "is_evaluation": row.get("evaluation_set") is not None,
                "evaluation_set": row.get("evaluation_set"),
                "text": row["text"],
                "group_hints": row.get("hints", []),
                "first_seen": f"b:{number:06}",
            }
            for number, row in enumerate(rows)
        ]
    )
    path = root / "warehouse.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.register("rows", table)
        connection.execute("create schema intermediate")
        connection.execute(f"create table {TEXTS} as select *, hash(text) as print from rows")
    return path, Layout(root)


def derived(layout: Layout, name: str) -> list[dict[str, object]]:
    table = pq.read_table(layout.derived(name))
    assert table.schema.equals(DERIVED[name])
    return table.to_pylist()


def said(key: str, text: str, role: str = "prompt", **more: object) -> dict[str, object]:
    return {"text_key": key, "text": text, "role": role, **more}


def quiet_mark(path: Path, layout: Layout, threshold: float = 0.8) -> Report:
    return mark(path, layout, threshold=threshold, log=lambda _: None)


def test_every_repeated_text_is_similar_to_the_one_kept_for_it(tmp_path: Path) -> None:
    words = [f"w{i}" for i in range(40)]
    chain = [" ".join(words[i : i + 36]) for i in range(5)]  # neighbours alike, ends not
    rows = [said(f"r{i}", text, "response") for i, text in enumerate(chain)]
    path, layout = warehouse(tmp_path, rows)
    report = quiet_mark(path, layout, threshold=0.9)
    repeats = derived(layout, "near_duplicates")
    kept = {row["text_key"]: row["representative_key"] for row in repeats}
    assert kept == {"r1": "r0", "r3": "r2"}
    assert all(row["jaccard"] >= 0.9 for row in repeats)
    assert report.near_duplicates["dagster/row_count"] == 2


def test_groups_follow_chains_and_hints_and_are_named_after_the_first(tmp_path: Path) -> None:
    rows = [
        said("a", SENTENCE, hints=["h"]),
        said("b", f"{SENTENCE} please"),
        said("c", f"{SENTENCE} please sir"),
        said("d", "something else entirely", hints=["h"]),
        said("e", "alone in the world"),
        said("c2", f"{SENTENCE} please", evaluation_set="s"),
    ]
    path, layout = warehouse(tmp_path, rows)
    quiet_mark(path, layout)
    groups = {row["prompt_key"]: row["group_id"] for row in derived(layout, "prompt_groups")}
    assert groups == {"a": "a", "b": "a", "c": "a", "d": "a", "c2": "a", "e": "e"}


def test_exact_near_and_contained_copies_of_an_evaluation_prompt_are_marked(tmp_path: Path) -> None:
    rows = [
        said("e", SENTENCE, evaluation_set="desk-v1"),
        said("e", SENTENCE),
        said("near", f"{SENTENCE} please"),
        said("reply", f"As you say , {SENTENCE} .", "response"),
        said("path", f"found : {SENTENCE}", "trajectory"),
        said("clean", "the shop pays back the price of a book"),
    ]
    path, layout = warehouse(tmp_path, rows)
    quiet_mark(path, layout)
    marks = derived(layout, "contamination")
    assert {(m["role"], m["text_key"], m["kind"]) for m in marks} == {
        ("prompt", "e", "exact"),
        ("prompt", "near", "near"),
        ("response", "reply", "contained"),
        ("trajectory", "path", "contained"),
    }
    assert {m["evaluation_set"] for m in marks} == {"desk-v1"}
    (repeat,) = derived(layout, "near_duplicates")  # of the training copy, never of the test
    assert (repeat["text_key"], repeat["representative_key"]) == ("near", "e")


RULES = " ".join(f"rule {n} : never promise what page {n * 7} of the handbook" for n in range(30))
QUESTIONS = {
    "lamp": "why did the old lamp on my desk go dark when the desk was moved to the hall ?",
    "bike": "how many days does the shop take to send a new chain for the green bike ?",
    "tent": "may i bring back a tent that was opened once and found to be torn at the top ?",
    "book": "which of the two books on the shelf would you give to a child of nine ?",
}


def under_the_rules(uid: str, asked: str, **evaluation: str) -> dict[str, object]:
    """A landed row whose prompt is a question below a long system prompt."""
    turns = Message(role="system", content=RULES), Message(role="user", content=asked)
    prompt = {"prompt": dump(turns), "prompt_text": text_of(turns), "prompt_key": uid}
    kind = "evaluation_prompt" if evaluation else "demonstration"
    reply = {"response": f"the answer to {uid}"} if kind == "demonstration" else {}
    return row(kind, uid, **reply, **evaluation) | prompt


def test_a_system_prompt_that_all_prompts_share_makes_none_of_them_alike(tmp_path: Path) -> None:
    delivered = [under_the_rules(name, asked) for name, asked in QUESTIONS.items()]
    delivered += [
        under_the_rules("test", QUESTIONS["lamp"], evaluation_set="desk-v1", grader="g"),
        under_the_rules("again", f"{QUESTIONS['bike']} please"),
    ]
    layout = write_lake(tmp_path, delivered)
    dbt(layout, "run", "--select", "+int_texts", "--exclude", "tag:after_dedup")
    quiet_mark(layout.warehouse, layout)
    groups = {row["prompt_key"]: row["group_id"] for row in derived(layout, "prompt_groups")}
    assert groups == {name: name for name in QUESTIONS} | {"test": "lamp", "again": "bike"}
    assert {mark["text_key"] for mark in derived(layout, "contamination")} == {"lamp"}


def test_marks_are_the_same_each_time_and_an_empty_warehouse_has_none(tmp_path: Path) -> None:
    path, layout = warehouse(tmp_path, [said("a", SENTENCE), said("b", SENTENCE + " now")])
    quiet_mark(path, layout)
    first = layout.derived("near_duplicates").read_bytes()
    quiet_mark(path, layout)
    assert layout.derived("near_duplicates").read_bytes() == first
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"delete from {TEXTS}")
    assert quiet_mark(path, layout).prompt_groups["largest_group"] == 0


@pytest.mark.parametrize("evaluation", [[], [SENTENCE, "hi", "how do lamps break ?"]])
def test_the_positive_control_catches_all_it_plants(tmp_path: Path, evaluation: list[str]) -> None:
    rows = [said(f"e{i}", text, evaluation_set="s") for i, text in enumerate(evaluation)]
    path, _ = warehouse(tmp_path, [*rows, said("a", "a prompt")])
    control = positive_control(path)
    assert control.passed and control.problem is None
    assert control.caught == control.planted == 8
    assert control.too_short == (1 if evaluation else 0)


def test_the_positive_control_notices_a_net_with_a_hole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = warehouse(tmp_path, [said("e", SENTENCE, evaluation_set="s")])
    with monkeypatch.context() as broken:
        nothing = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
        broken.setattr("flywheel.dedup.control.similar_pairs", lambda texts, threshold: nothing)
        control = positive_control(path)
        assert (control.caught, control.planted, control.missed) == (3, 4, ["s: e"])
    monkeypatch.setattr(EvaluationRuns, "find", lambda self, texts: [])
    control = positive_control(path)
    assert (control.caught, control.planted, control.passed) == (2, 4, False)
    assert "1 evaluation prompts were planted and not caught: s: e; " in str(control.problem)


def test_the_positive_control_notices_prompts_that_hide_one_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [SENTENCE, *(f"{name} {SENTENCE} {name}" for name in "uvw")]
    rows = [said(f"e{n}", text, evaluation_set="s") for n, text in enumerate([*asked, SENTENCE])]
    path, _ = warehouse(tmp_path, rows)
    control = positive_control(path)
    assert control.passed and control.looked_for_whole == 2 and control.planted == 20
    scan = EvaluationRuns.find
    monkeypatch.setattr(  # as though what is boilerplate alone were not looked for
        EvaluationRuns,
        "find",
        lambda self, texts: [one for one in scan(self, texts) if one.item not in self.whole],
    )
    assert positive_control(path).missed == ["s: e0", "s: e4"]


def test_a_long_prompt_that_cannot_be_looked_for_fails_the_control(tmp_path: Path) -> None:
    asked = "\u0f56\u0f7c\u0f51\u0f0b" * 12  # Tibetan: a dot between syllables, and no space
    rows = [said(name, asked, evaluation_set="s") for name in ("e", "f")]
    path, _ = warehouse(tmp_path, [*rows, said("hi", "hi", evaluation_set="s")])
    control = positive_control(path)
    assert control.caught == control.planted == 3 and not control.passed
    assert (control.unprotected, control.too_short) == (["s: e", "s: f"], 1)
    assert "cannot be looked for inside other texts: s: e; s: f; their" in str(control.problem)


DERIVED_FILES = ("near_duplicates", "prompt_groups", "contamination", "evaluation_overlaps")


def test_marks_of_many_nights_are_those_of_one_run_over_everything(tmp_path: Path) -> None:
    rng = random.Random(9)
    texts = corpus(240, seed=21)
    rows = [
        said(f"k{n}", text, rng.choice(["prompt", "response", "trajectory"]), hints=[f"h{n % 90}"])
        for n, text in enumerate(texts)
    ]
    tests = [said(f"e{n}", texts[n], evaluation_set="s") for n in (3, 50, 120)]
    rows += [said("inside", f"so : {texts[3]} .", "response")]
    rows.append(said("half", " ".join(texts[50].split()[:60]), "response"))
    nights = [rows[:100], [*rows[:180], *tests[:1]], [*rows[40:], *tests], [*rows, *tests[1:]]]
    for number, night in enumerate(nights):
        (tmp_path / f"fresh{number}").mkdir()
        path, fresh = warehouse(tmp_path / f"fresh{number}", night)
        quiet_mark(path, fresh)
        grown = Layout(tmp_path / "grown")
        report = quiet_mark(path, grown)
        for name in DERIVED_FILES:
            assert grown.derived(name).read_bytes() == fresh.derived(name).read_bytes(), name
    assert all(derived(grown, name) for name in DERIVED_FILES)
    assert report.near_duplicates["newly_compared"] <= 41
    assert quiet_mark(path, grown).near_duplicates["newly_compared"] == 0


def test_what_covers_half_of_a_prompt_is_shown_and_excludes_nothing(tmp_path: Path) -> None:
    words = [f"w{n}" for n in range(40)]
    rows = [
        said("e", " ".join(words), evaluation_set="s"),
        said("most", " ".join(["before", *words[:30], "other", "words"]), "response"),
        said("pieces", " ".join([*words[:10], "x", *words[12:22], "y", *words[25:]]), "trajectory"),
        said("phrase", " ".join([*words[:12], "and so on"]), "response"),
    ]
    path, layout = warehouse(tmp_path, rows)
    quiet_mark(path, layout)
    shown = {row["text_key"]: row for row in derived(layout, "evaluation_overlaps")}
    assert shown.keys() == {"most", "pieces"}
    assert shown["most"]["covered_8_frac"] == shown["most"]["covered_13_frac"] == 30 / 40
    assert shown["most"]["span"] == " ".join(words[:30])
    assert shown["pieces"]["covered_8_frac"] == 35 / 40
    assert shown["pieces"]["covered_13_frac"] == 15 / 40
    assert shown["pieces"]["span"] == " ".join(words[25:])
    assert derived(layout, "contamination") == []


def test_a_threshold_out_of_range_and_a_missing_warehouse_are_refused(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    with pytest.raises(SettingsError, match=re.escape("[deduplication]")):
        mark(tmp_path / "warehouse.duckdb", layout, threshold=0.2)
    with pytest.raises(WarehouseError, match="materialize"):
        mark(tmp_path / "warehouse.duckdb", layout)


def talk(kind: str, uid: str, *turns: tuple[str, str], **values: object) -> dict[str, object]:
    """A landed row whose prompt is a conversation of several turns."""
    messages = tuple(Message(role=role, content=content) for role, content in turns)
    prompt = {"prompt": dump(messages), "prompt_text": text_of(messages), "prompt_key": uid}
    return row(kind, uid, **values) | prompt


def test_what_continues_a_conversation_shares_its_split_whatever_group_was_given(
    tmp_path: Path,
) -> None:
    first, answer = ("user", QUESTIONS["lamp"]), ("assistant", "it has a worn plug")
    then, rules = ("user", QUESTIONS["tent"]), ("system", RULES)
    steps = (
        Message(role="user", content=QUESTIONS["bike"]),
        Message(role="assistant", content="9"),
    )
    delivered = [
        talk("demonstration", "start", first, response="r1", group_hint="desk"),
        talk("demonstration", "later", first, answer, then, response="r2", group_hint="other"),
        talk("demonstration", "apart", rules, then, response="r3"),
        talk("demonstration", "asked", rules, ("user", QUESTIONS["bike"]), response="r4"),
        talk("trajectory", "path", rules, outcome="passed", task_id="t")
        | {"steps": dump(steps), "steps_text": text_of(steps), "steps_key": "s", "step_count": 2},
    ]
    layout = write_lake(tmp_path, delivered)
    dbt(layout, "run", "--exclude", "tag:after_dedup")
    quiet_mark(layout.warehouse, layout)
    groups = {row["prompt_key"]: row["group_id"] for row in derived(layout, "prompt_groups")}
    assert groups["later"] == groups["start"], "one is the beginning of the other"
    assert groups["path"] == groups["asked"], "the user speaks in the first step"
    assert len(set(groups.values())) == 3
    torn = [{"prompt_key": key, "group_id": f"g{n}"} for n, key in enumerate(groups)]
    write_table(
        pa.Table.from_pylist(torn, DERIVED["prompt_groups"]), layout.derived("prompt_groups")
    )
    with pytest.raises(AssertionError, match="assert_no_root_in_two_splits"):
        dbt(layout, "build", "--select", "tag:after_dedup", "--exclude", "test_type:unit")
