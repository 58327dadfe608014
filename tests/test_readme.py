"""README is executed: a command in it that does not work is a failing test."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flywheel.ingest import land
from flywheel.layout import Layout
from flywheel.models.publish import publish
from flywheel.promotion import Decision, champion, decide_and_record

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
IN_AN_EMPTY_HOME = (
    "flywheel status",
    "flywheel land examples/feedback",
    "flywheel canary",
    "flywheel evaluation-sets",
)
ON_AN_EVALUATION = (  # test_people.py, test_outside.py and test_serve.py give them
    "flywheel ask-people",
    "flywheel harness",
    "flywheel read-inspect",
    "flywheel serve",
)
ON_A_CHALLENGER = ("flywheel approve", "flywheel rollback")
ON_A_LINEAGE = ("flywheel trace",)
ON_A_PERSON = ("flywheel erase",)  # test_permission.py gives it
IN_ONE_TURN = ("flywheel turn --base-model sample",)  # test_one_turn.py takes it
ON_A_REAL_MODEL = ("flywheel fetch-model", "flywheel turn --base-model var/models")  # network


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


def test_every_command_is_given_somewhere_or_needs_a_download() -> None:
    groups = IN_AN_EMPTY_HOME + ON_AN_EVALUATION + ON_A_CHALLENGER + ON_A_LINEAGE
    groups += ON_A_PERSON + IN_ONE_TURN + ON_A_REAL_MODEL
    assert [line for line in OWN if not line.startswith(groups)] == []
    assert [start for start in groups if not any(map(re.compile(start).match, OWN))] == []


def give(line: str, home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flywheel.cli", *shlex.split(line)[1:]],
        cwd=ROOT,
        env=os.environ | {"FLYWHEEL_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("line", [line for line in OWN if line.startswith(IN_AN_EMPTY_HOME)])
def test_the_command_works_in_an_empty_home(line: str, tmp_path: Path) -> None:
    give(line, tmp_path)


def test_a_person_decides_with_the_commands_as_they_stand(tmp_path: Path) -> None:
    layout, holder = Layout(tmp_path), ""
    for generation, waits in (("g0001", False), ("g0002", True)):
        evidence = layout.evaluation(generation) / "result.json"
        evidence.parent.mkdir(parents=True)
        evidence.write_text('{"evaluation_sets": []}')
        folder, words = layout.checkpoint("policy", generation), generation
        weights = publish(folder, lambda draft, w=words: (draft / "weights").write_text(w), {})
        decide_and_record(
            layout,
            generation,
            Decision(decision="PROMOTE", reasons=["better"]),
            content_hash=weights["content_hash"],
            compared_with=holder,
            human_approval=waits,
        )
        holder = weights["content_hash"]
    champions = []
    for line in [line for line in OWN if line.startswith(ON_A_CHALLENGER)]:
        give(line, tmp_path)
        now = champion(layout)
        champions.append(now.generation if now else None)
    assert champions == ["g0002", "g0001"]


def test_lineage_answers_from_both_sides_as_it_stands(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    (layout.inbox / "desk").mkdir(parents=True)
    row = {"kind": "demonstration", "prompt": "p", "response": "r", "annotator_id": "ann"}
    (layout.inbox / "desk" / "one.jsonl").write_text(json.dumps(row) + "\n")
    land([layout.inbox], layout, log=lambda line: None)
    weights = layout.checkpoint("policy", "g0001") / "manifest.json"
    weights.parent.mkdir(parents=True)
    weights.write_text(json.dumps({"content_hash": "g0001"}))
    for line in [line for line in OWN if line.startswith(ON_A_LINEAGE)]:
        give(line, tmp_path)


def test_the_dbt_command_builds_a_development_warehouse(tmp_path: Path) -> None:
    (line,) = [line for line in LINES if "dbt build" in line]
    project = tmp_path / "dbt_project"
    ignore = shutil.ignore_patterns("target", "logs")
    shutil.copytree(ROOT / "dbt_project", project, ignore=ignore)
    from flywheel.lake import ensure

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
