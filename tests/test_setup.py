"""Set-up: what `make run` and `make test` do before anything else, and how it fails.

The interpreters here are shell scripts that answer as a Python would, so that every fault can
be had in milliseconds; the slow test at the end goes through a real venv and a real pip.
"""

import ast
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parent.parent / "tools"
PYPROJECT = """\
[build-system]
requires = []
[project]
name = "flywheel"
[tool.ruff]
line-length = 100
"""

# Answers the questions that tools/setup.py asks; pip.sh says what pip does.
PYTHON_SCRIPT = """\
#!/bin/sh
case "$*" in
  *find_spec*) echo {version}; echo {lacking} ;;
  *"-m venv"*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && echo "#!$3/bin/python" > "$3/bin/pip" ;;
  *"-m pip"*) echo "$*" >> "{root}/pip_calls"; . "{root}/pip.sh" ;;
esac
"""  # noqa: E501


def script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return path


class Project:
    """A folder with tools/, pyproject.toml, constraints.txt and an interpreter of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(exist_ok=True)
        shutil.copytree(TOOLS, root / "tools", ignore=shutil.ignore_patterns("__pycache__"))
        (root / "pyproject.toml").write_text(PYPROJECT)
        (root / "constraints.txt").write_text("six==1.17.0\n")
        (root / "pip.sh").write_text("echo Installing collected packages\n")
        self.python = self.interpreter("python_of_project", "3.12.4")

    def interpreter(self, name: str, version: str, lacking: str = "") -> Path:
        text = PYTHON_SCRIPT.format(root=self.root, version=version, lacking=lacking)
        return script(self.root / name, text)

    def start(self, **environment: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, str(self.root / "tools" / "setup.py")],
            env={**os.environ, "PYTHON": str(self.python), "FLYWHEEL_FREE_GB": "0"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def set_up(self, **environment: str) -> tuple[int, str, str]:
        process = self.start(**environment)
        output, errors = process.communicate(timeout=120)
        return process.returncode, output, errors

    @property
    def pip_calls(self) -> list[str]:
        path = self.root / "pip_calls"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def stamp(self) -> Path:
        return self.root / ".venv" / ".flywheel-stamp"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "checkout")


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.02)


def test_every_python_from_3_8_on_can_read_the_scripts() -> None:
    for path in TOOLS.glob("*.py"):
        ast.parse(path.read_text(), feature_version=(3, 8))


def test_set_up_installs_with_the_pins_and_then_has_nothing_to_do(project: Project) -> None:
    status, output, errors = project.set_up()
    assert (status, errors) == (0, "")
    assert "3.12.4" in output and "ready" in output
    (call,) = project.pip_calls
    assert f"-c {project.root}/constraints.txt" in call
    assert call.endswith(f"-e {project.root}[test,gguf]")
    assert project.set_up() == (0, "", "")
    assert len(project.pip_calls) == 1


def test_new_pins_are_installed_and_other_settings_are_not(project: Project) -> None:
    project.set_up()
    pyproject = project.root / "pyproject.toml"
    pyproject.write_text(PYPROJECT.replace("100", "99"))
    assert project.set_up() == (0, "", "")
    pyproject.write_text(PYPROJECT + "[project.optional-dependencies]\ntest = []\n")
    assert "up to date" in project.set_up()[1]
    (project.root / "constraints.txt").write_text("six==1.16.0\n")
    assert "up to date" in project.set_up()[1]
    assert len(project.pip_calls) == 3


@pytest.mark.parametrize("version", ["3.8.18", "3.10.13", "3.14.0", "2.7.18"])
def test_an_unsuitable_python_is_refused_with_the_range_and_a_remedy(
    project: Project, version: str
) -> None:
    project.interpreter("python_of_project", version)
    status, _, errors = project.set_up()
    assert status == 1
    assert "3.11, 3.12 or 3.13" in errors and f"is {version}" in errors
    assert "apt-get install python3.12" in errors and "make run PYTHON=" in errors
    assert not (project.root / ".venv").exists()


def test_a_python_without_venv_is_refused_with_the_package_to_install(project: Project) -> None:
    project.interpreter("python_of_project", "3.12.4", lacking="ensurepip")
    status, _, errors = project.set_up()
    assert status == 1
    assert "without ensurepip" in errors and "apt-get install python3.12-venv" in errors


def test_a_python_that_does_not_run_is_refused(project: Project) -> None:
    status, _, errors = project.set_up(PYTHON="/no/such/python")
    assert status == 1
    assert "no working /no/such/python" in errors


def test_a_suitable_python_is_found_on_the_path_when_the_first_is_too_old(project: Project) -> None:
    old = project.interpreter("python3", "3.8.18")
    project.interpreter("python3.12", "3.12.9")
    project.interpreter("python3.11", "3.10.2")  # a shim that answers with another version
    run_as_old = (
        f"import sys, runpy; sys.executable = {str(old)!r}; sys.path[0] = 'tools'; "
        f"runpy.run_path('tools/setup.py', run_name='__main__')"
    )
    environment = {"PATH": f"{project.root}:/usr/bin:/bin", "FLYWHEEL_FREE_GB": "0"}
    answer = subprocess.run(
        [sys.executable, "-c", run_as_old],
        cwd=project.root,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    assert "python3.12 3.12.9" in answer.stdout


def test_a_disk_too_small_is_refused_before_anything_is_made(project: Project) -> None:
    status, _, errors = project.set_up(FLYWHEEL_FREE_GB="1e9")
    assert status == 1
    assert "GB free" in errors and "FLYWHEEL_FREE_GB" in errors
    assert not (project.root / ".venv").exists()


def test_a_folder_that_may_not_be_written_is_refused() -> None:
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    try:
        project = Project(folder / "checkout")
        project.root.chmod(0o555)
        somebody = {"user": 65534} if os.getuid() == 0 else {}
        answer = subprocess.run(
            ["/bin/sh", "-c", f'exec python3 "{project.root}/tools/setup.py"'],
            env={"PATH": "/usr/bin:/bin", "PYTHON": str(project.python)},
            capture_output=True,
            text=True,
            **somebody,
        )
    finally:
        project.root.chmod(0o755)
        shutil.rmtree(folder)
    assert answer.returncode == 1, answer.stderr
    assert "must be writable" in answer.stderr and "owner of the folder" in answer.stderr


@pytest.mark.parametrize(
    ("log", "meaning", "remedy"),
    [
        (
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(: "
            "Failed to establish a new connection: [Errno 101] Network is unreachable')'\n"
            "ERROR: No matching distribution found for setuptools>=77",
            "package index cannot be reached",
            "PIP_INDEX_URL",
        ),
        (
            "Building wheel for thing (pyproject.toml): started\n"
            "error: command 'gcc' failed: No such file or directory\n"
            "ERROR: Failed building wheel for thing",
            "no C compiler",
            "apt-get install build-essential",
        ),
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] "
            "No space left on device",
            "the disk is full",
            "pip cache purge",
        ),
        ("ERROR: ResolutionImpossible: for help visit", "do not fit together", "mend the pins"),
        ("Segmentation fault", "Not a failure that set-up knows", "read the log"),
    ],
)
def test_a_failed_pip_is_explained_from_its_log(
    project: Project, log: str, meaning: str, remedy: str
) -> None:
    (project.root / "pip.sh").write_text(f"cat <<'END'\nLooking in indexes\n{log}\nEND\nexit 1\n")
    status, _, errors = project.set_up()
    assert status == 1
    assert meaning in errors and remedy in errors and "setup.log" in errors
    assert log.splitlines()[-1][:60] in errors and "Looking in" not in errors
    assert not project.stamp.exists()


def test_a_killed_set_up_goes_on_the_next_time_once_its_pip_has_ended(project: Project) -> None:
    begun = project.root / "begun"
    (project.root / "pip.sh").write_text(
        f'echo $$ > "{begun}.draft"; mv "{begun}.draft" "{begun}"; exec sleep 60'
    )
    first = project.start()
    wait_for(begun)
    first.kill()
    first.communicate()
    assert not project.stamp.exists()

    (project.root / "pip.sh").write_text("true\n")
    second = project.start()
    assert second.stdout is not None
    assert "another set-up is at work" in second.stdout.readline()
    os.kill(int(begun.read_text()), signal.SIGKILL)  # the pip that the first one left behind
    output, _ = second.communicate(timeout=20)
    assert "up to date" in output and project.stamp.exists()


def test_packages_left_half_written_are_forgotten_so_that_pip_installs_them(
    project: Project,
) -> None:
    project.set_up()
    site = project.root / ".venv" / "lib" / "python3.12" / "site-packages"
    for name, record in {"whole": "whole.py,,\n", "torn": "torn.py,,\n", "early": ""}.items():
        (site / f"{name}-1.dist-info").mkdir(parents=True)
        (site / f"{name}-1.dist-info" / "RECORD").write_text(record)
    (site / "whole.py").write_text("")
    project.stamp.unlink()
    status, output, _ = project.set_up()
    assert status == 0
    assert [path.name for path in site.glob("*.dist-info")] == ["whole-1.dist-info"]
    assert "torn-1.dist-info was left half written" in output and "early-1" in output


def test_a_moved_checkout_gets_an_environment_of_its_own(project: Project) -> None:
    project.set_up()
    moved = project.root.with_name("elsewhere")
    project.root.rename(moved)
    project.root = moved
    project.python = project.interpreter("python_of_project", "3.12.4")
    assert "making .venv" in project.set_up()[1]


def test_a_python_asked_for_by_name_replaces_another(project: Project) -> None:
    project.set_up()
    other = project.interpreter("python_of_other", "3.13.0")
    assert "making .venv" in project.set_up(PYTHON=str(other))[1]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHON"}
    again = subprocess.run(
        [sys.executable, str(project.root / "tools" / "setup.py")],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (again.returncode, again.stdout) == (0, "")  # nobody asks, so 3.13 stays


def test_two_set_ups_at_once_install_once(project: Project) -> None:
    (project.root / "pip.sh").write_text(f'touch "{project.root}/begun"; sleep 0.5\n')
    first = project.start()
    wait_for(project.root / "begun")
    status, output, _ = project.set_up()
    first.communicate(timeout=20)
    assert (first.returncode, status) == (0, 0)
    assert "waiting for it" in output
    assert len(project.pip_calls) == 1


# A build backend of a dozen lines, so that pip has something to install without an index.
BACKEND = """
import zipfile

def write_wheel(folder, name, files):
    path, info = f"{name}-0.1-py3-none-any.whl", f"{name}-0.1.dist-info/"
    with zipfile.ZipFile(f"{folder}/{path}", "w") as wheel:
        for file in files:
            wheel.writestr(file, "")
        wheel.writestr(info + "METADATA", f"Metadata-Version: 2.1\\nName: {name}\\nVersion: 0.1\\n"
                       + ("Requires-Dist: thing\\n" if name == "flywheel" else ""))
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "".join(f"{file},,\\n" for file in files))
    return path

def build_editable(folder, config_settings=None, metadata_directory=None):
    return write_wheel(folder, "flywheel", [])
"""


@pytest.mark.slow
def test_a_real_venv_and_a_real_pip_mend_and_explain_without_network(tmp_path: Path) -> None:
    project = Project(tmp_path / "checkout")
    (project.root / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "flywheel"\nversion = "0.1"\ndependencies = ["thing"]\n'
    )
    (project.root / "backend.py").write_text(BACKEND)
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    offline = {"PYTHON": sys.executable, "PIP_INDEX_URL": "http://127.0.0.1:9/simple"}
    offline |= {"PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "1", "PIP_NO_CACHE_DIR": "1"}
    offline |= {"PIP_FIND_LINKS": str(wheels)}

    status, _, errors = project.set_up(**offline)
    assert status == 1
    assert "package index cannot be reached" in errors and "PIP_INDEX_URL" in errors

    space: dict[str, Callable[..., str]] = {}
    exec(BACKEND, space)
    space["write_wheel"](wheels, "thing", ["thing.py"])
    assert project.set_up(**offline)[0] == 0
    assert project.set_up(**offline) == (0, "", "")

    (module,) = (project.root / ".venv").glob("lib/python*/site-packages/thing.py")
    module.unlink()  # as after a kill -9 while pip was writing it
    project.stamp.unlink()
    assert "thing-0.1.dist-info was left half written" in project.set_up(**offline)[1]
    assert module.exists()
