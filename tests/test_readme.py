"""README is executed: a command in it that does not work is a failing test."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
LINES = [
    line.split("  #")[0].split(" #")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.S)
    for line in block.splitlines()
    if line.strip()
]
MAKE = [line for line in LINES if line.startswith("make ")]
OWN = [line for line in LINES if line.startswith("flywheel ")]
RUN_HERE = ("flywheel status", "flywheel land")  # the others take a turn: see test_one_turn.py


def test_there_is_something_to_run() -> None:
    assert {"make run", "make test"} <= set(MAKE) and len(OWN) >= 5


@pytest.mark.parametrize("line", MAKE)
def test_make_knows_the_command(line: str) -> None:
    done = subprocess.run(
        [*shlex.split(line), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("line", OWN)
def test_flywheel_knows_the_command_and_its_options(line: str) -> None:
    from flywheel.cli import parser

    assert parser().parse_args(shlex.split(line)[1:]).command


@pytest.mark.parametrize("line", [line for line in OWN if line.startswith(RUN_HERE)])
def test_the_command_works_in_an_empty_home(line: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flywheel.cli", *shlex.split(line)[1:]],
        cwd=ROOT,
        env=os.environ | {"FLYWHEEL_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_dbt_command_builds_a_development_warehouse(tmp_path: Path) -> None:
    (line,) = [line for line in LINES if "dbt build" in line]
    project = tmp_path / "dbt_project"
    ignore = shutil.ignore_patterns("target", "logs")
    shutil.copytree(ROOT / "dbt_project", project, ignore=ignore)
    from flywheel.lake import ensure
    from flywheel.layout import Layout

    ensure(Layout(tmp_path / "var"))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=tmp_path,
        env=os.environ | {"PATH": path, "FLYWHEEL_LAKE": str(tmp_path / "var" / "lake")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]


def test_every_file_that_readme_names_is_there() -> None:
    named = re.findall(r"\]\(([^)#]+)\)", README)
    missing = [name for name in named if "://" not in name and not (ROOT / name).exists()]
    assert not missing
