"""`settings.toml`: what a team may set, and what it is told of a slip of the pen."""

from pathlib import Path

import pytest

from assets.resources import Home
from flywheel.errors import SettingsError


def settings(root: Path, text: str, stage: str) -> dict[str, object]:
    (root / "settings.toml").write_text(text)
    return Home(root=str(root)).settings(stage)


def test_what_is_set_is_read_and_a_whole_number_is_a_number(tmp_path: Path) -> None:
    assert settings(tmp_path, "[deduplication]\nthreshold = 1\n", "deduplication") == {
        "threshold": 1
    }
    assert settings(tmp_path, "[sft]\nepochs = 2\n", "sft") == {"epochs": 2}
    assert settings(tmp_path, "", "gate") == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[gates]\nhuman_approval = true\n", r"no use for gates; .*\[gate\]"),
        ("[deduplication]\ntreshold = 0.9\n", r"no setting 'treshold'; it has threshold"),
        ("[automation]\nmin_new_judgements = 'many'\n", r"must be a int, got 'many'"),
        ("[landing]\nquiet_seconds = true\n", r"must be a float, got True"),
        ("landing = 3\n", "must be a table"),
    ],
)
def test_a_slip_of_the_pen_is_refused_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    stage = text.strip("[").split("]")[0].split(" ")[0].replace("gates", "gate")
    with pytest.raises(SettingsError, match=told) as refusal:
        settings(tmp_path, text, stage)
    assert str(tmp_path / "settings.toml") in str(refusal.value)
