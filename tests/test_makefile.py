"""Makefile: what `make clean` removes, and what it leaves to its owner."""

import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parent.parent / "Makefile"
MADE = (".venv", ".hypothesis", ".mypy_cache", "build", "dbt_project/target")
OWNED = ("var/inbox/ours/feedback.jsonl", "var/settings.toml", "var/registry/ledger.jsonl")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copy(MAKEFILE, tmp_path)
    for name in MADE:
        (tmp_path / name).mkdir(parents=True)
    for name in OWNED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("ours")
    return tmp_path


def make(checkout: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["make", *arguments], cwd=checkout, capture_output=True, text=True)


def left(checkout: Path, names: tuple[str, ...]) -> list[str]:
    return [name for name in names if (checkout / name).exists()]


def test_clean_removes_what_was_made_and_keeps_what_a_team_owns(checkout: Path) -> None:
    done = make(checkout, "clean")
    assert done.returncode == 0 and "make clean-all CONFIRM=1" in done.stdout
    assert left(checkout, MADE) == [] and left(checkout, OWNED) == list(OWNED)


def test_clean_all_asks_before_it_removes_anything(checkout: Path) -> None:
    assert make(checkout, "clean-all").returncode != 0
    assert left(checkout, MADE + OWNED) == list(MADE + OWNED)
    assert make(checkout, "clean-all", "CONFIRM=1").returncode == 0
    assert left(checkout, MADE + OWNED) == []
