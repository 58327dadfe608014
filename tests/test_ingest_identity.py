"""What is the same prompt, the same group, the same event, whatever file or form it came in."""

import json
from pathlib import Path

from flywheel.ingest import land
from flywheel.ingest.keys import prompt_key
from flywheel.lake import read_folder
from flywheel.layout import Layout
from flywheel.records.message import prompt_of

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "2+3?"},
    {"role": "assistant", "content": "6"},
    {"role": "user", "content": "Sure?"},
    {"role": "assistant", "content": "No: 5"},
]
BLUE, GREEN = ([{"role": "assistant", "content": content}] for content in ("blue", "green"))


def test_the_turns_of_one_conversation_share_a_group_and_another_opening_has_its_own(
    tmp_path: Path,
) -> None:
    other = [{"role": "user", "content": "Other?"}, {"role": "assistant", "content": "yes"}]
    lines = [json.dumps({"messages": turns}) for turns in (CHAT, other)]
    pair = {"prompt": CHAT[:2], "chosen": BLUE, "rejected": GREEN}
    (tmp_path / "chats.jsonl").write_text("\n".join(lines))
    (tmp_path / "pairs.jsonl").write_text(json.dumps(pair))
    layout = Layout(tmp_path / "home")
    land([tmp_path / "chats.jsonl", tmp_path / "pairs.jsonl"], layout, log=lambda _: None)
    table = read_folder(layout.landing("demonstration"))
    first, later, apart = table["group_hint"].to_pylist()
    assert first == later != apart and len(set(table["prompt_key"].to_pylist())) == 3
    assert read_folder(layout.landing("comparison"))["group_hint"].to_pylist() == [first]


def test_the_tools_of_a_row_are_part_of_its_prompt(tmp_path: Path) -> None:
    one, other = ({"type": "function", "function": {"name": name}} for name in "fg")
    turned = {"function": {"name": "f"}, "type": "function"}
    rows = [{"prompt": "p", "completion": "c", "tools": t} for t in ([one], [other], [], [turned])]
    rows += [{"prompt": "p", "completion": "c", "tools": json.dumps([one])}]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    layout = Layout(tmp_path / "home")
    land([tmp_path / "x.jsonl"], layout, log=lambda _: None)
    table = read_folder(layout.landing("demonstration"))
    f, g, none, again, text = table["prompt_key"].to_pylist()
    assert f == again == text and len({f, g, none}) == 3
    assert none == prompt_key(prompt_of("p")) and len(set(table["group_hint"].to_pylist())) == 1
