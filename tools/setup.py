"""Make `.venv` ready for work, or say what is missing and how to get it.

`make run` and `make test` call this first, with whatever `python3` is at hand, so it uses the
standard library only and any Python from 3.8 on can read it well enough to be told that it is
too old. It is safe to repeat and to interrupt:

* `.venv/.flywheel-stamp` is written last and holds a hash of what was installed (the packaging
  sections of pyproject.toml, constraints.txt, the kernel in C, the Python version). Where it
  fits, nothing is touched and no network is needed.
* Without it the installation goes on where it stopped; packages that the interruption left
  half written are found by pip's own lists of files and installed again.
* A second set-up waits for the first. pip inherits the lock, so it is held even when the
  set-up itself was killed and its pip lives on.

Environment: PYTHON names the interpreter to use; FLYWHEEL_FREE_GB is the disk space to insist
on, for those who know that their wheels need less. pip's own variables work as always.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

from remedies import explain

try:
    import fcntl
except ImportError:
    sys.exit("set-up: flywheel runs on Linux and macOS; on Windows use WSL (wsl --install)")

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / ".flywheel-stamp"
LOG = ROOT / "var" / "setup.log"

SUPPORTED = ((3, 11), (3, 12), (3, 13))  # in the order in which they are looked for
FREE_GB = 6.0  # public torch wheels for Linux bring CUDA along: 5 GB unpacked, 1 GB for the rest
# what pip reads of pyproject
PACKAGING = ("[build-system]", "[project", "[tool.setuptools", "[[tool.setuptools")
COMPILED = ROOT / "flywheel" / "dedup" / "kernel.c"  # pip builds it; a change is built again

# Printed by the interpreter in question: version, and what it lacks to make an environment.
PROBE = """
import importlib.util, sys
print("%d.%d.%d" % sys.version_info[:3])
print(*[name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None])
"""


class SetupError(Exception):
    """Set-up cannot go on: what is needed, what was found, what to do."""


def main() -> int:
    """Bring `.venv` up to date; 0 when it is, 1 with the reason on stderr when it is not."""
    try:
        if not is_current():
            check_writable()
            with lock():
                if not is_current():  # another set-up may have done it while we waited
                    install()
    except (SetupError, OSError, subprocess.CalledProcessError) as error:
        print(f"set-up: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nset-up: interrupted; run it again to go on where it stopped", file=sys.stderr)
        return 130
    return 0


# ---- what is there -------------------------------------------------------------------------


def is_current() -> bool:
    """Whether `.venv` holds what is asked for, made by a Python that still works."""
    return STAMP.exists() and STAMP.read_text() == fingerprint(venv_version())


def fingerprint(version: str) -> str:
    """Return the hash of everything that decides what gets installed, and where."""
    wanted = [str(ROOT), version, (ROOT / "constraints.txt").read_text()]
    wanted.append(COMPILED.read_text() if COMPILED.exists() else "")
    is_packaging = False
    for line in (ROOT / "pyproject.toml").read_text().splitlines():
        if line.startswith("["):
            is_packaging = line.startswith(PACKAGING)
        if is_packaging:
            wanted.append(line)
    return hashlib.sha256("\n".join(wanted).encode()).hexdigest() + "\n"


def venv_version() -> str:
    """Return the version of `.venv`'s Python, "" where a new `.venv` must be made.

    That is so when it does not run, is not supported, was moved or copied here from another
    folder (its scripts name the old one), or is not the one that PYTHON asks for.
    """
    version, _ = probe(str(VENV / "bin" / "python"))
    pip = VENV / "bin" / "pip"
    if not is_supported(version) or not pip.exists() or str(VENV) not in pip.read_text():
        return ""
    asked = os.environ.get("PYTHON")
    if asked and minor(probe(asked)[0]) != minor(version):
        return ""
    return version


def probe(python: str) -> tuple[str, str]:
    """Return the version of an interpreter ("" if it does not run) and the modules it lacks."""
    try:
        answer = subprocess.run(
            [python, "-I", "-c", PROBE],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=60,
            check=True,
        ).stdout.splitlines()
        return answer[0].strip(), answer[1].strip()
    except (OSError, subprocess.SubprocessError, IndexError):
        return "", ""


def minor(version: str) -> tuple[int, ...]:
    """Return (3, 11) of "3.11.7", () of anything that is no version."""
    match = re.match(r"(\d+)\.(\d+)", version)
    return tuple(int(part) for part in match.groups()) if match else ()


def is_supported(version: str) -> bool:
    """Whether flywheel runs on this version of Python."""
    return minor(version) in SUPPORTED


def find_python() -> str:
    """Return the interpreter to build with: PYTHON, else this one, else one on the PATH.

    Raises:
        SetupError: None is in the supported range, or the one found cannot make environments.
    """
    asked = os.environ.get("PYTHON")
    named = [f"python{major}.{minor}" for major, minor in SUPPORTED]
    candidates = [asked] if asked else [sys.executable, *named]
    found: list[str] = []
    for python in candidates:
        version, lacking = probe(python)
        if is_supported(version) and not lacking:
            return python
        if version:
            found.append(f"{python} is {version}" + (f" without {lacking}" if lacking else ""))
            if is_supported(version) and lacking:
                found[-1] += f" (apt-get install python{'.'.join(version.split('.')[:2])}-venv)"
    raise SetupError(
        f"flywheel needs Python 3.11, 3.12 or 3.13 with its venv module; found: "
        f"{'; '.join(found) or f'no working {candidates[0]}'}.\n"
        f"  Install one (Debian, Ubuntu: apt-get install python3.12 python3.12-venv; macOS: "
        f"brew install python@3.12; anywhere: pyenv install 3.12)\n"
        f"  or name one that you have: make run PYTHON=/path/to/python3.12"
    )


def check_writable() -> None:
    """Refuse a folder that cannot be written, before anything is half done."""
    try:
        LOG.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=str(ROOT)), tempfile.TemporaryFile(dir=str(LOG.parent)):
            pass
    except OSError as error:
        raise SetupError(
            f"{ROOT} must be writable, for .venv and var: {error}.\n"
            f"  Run as the owner of the folder, or clone into a folder of your own"
        ) from error


def check_space() -> None:
    """Refuse a disk that a fresh installation would fill."""
    needed = float(os.environ.get("FLYWHEEL_FREE_GB", FREE_GB))
    free = shutil.disk_usage(str(ROOT)).free / 1e9
    if free < needed:
        raise SetupError(
            f"a fresh .venv needs {needed:g} GB, but the disk of {ROOT} has {free:.1f} GB free.\n"
            f"  Free some space, clone onto a larger disk, or, if your index offers torch without "
            f"CUDA (2.5 GB are enough then), set FLYWHEEL_FREE_GB=2.5"
        )


# ---- what is done --------------------------------------------------------------------------


def lock() -> IO[str]:
    """Return an open file that holds the set-up lock until it is closed; waits for its turn."""
    path = LOG.parent / "setup.lock"
    held = open(path, "a+")  # noqa: SIM115  the caller closes it
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"set-up: another set-up is at work here, waiting for it (lock: {path})", flush=True)
        fcntl.flock(held, fcntl.LOCK_EX)
    os.set_inheritable(held.fileno(), True)  # pip keeps it if we are killed
    return held


def install() -> None:
    """Create `.venv` if need be, install, mend what an interruption broke, stamp it."""
    started = time.monotonic()
    version = venv_version()
    if not version:
        python = find_python()
        check_space()
        say(f"set-up: making .venv with {python} {probe(python)[0]}; log in {LOG}")
        shutil.rmtree(str(VENV), ignore_errors=True)
        run([python, "-m", "venv", str(VENV)], "w", "python -m venv failed")
        version = venv_version()
    else:
        say(f"set-up: bringing .venv (Python {version}) up to date; log in {LOG}")
        LOG.write_text("")
        for record in half_written():
            say(f"set-up: {record.name} was left half written, installing it again")
            shutil.rmtree(str(record))  # what pip does not know of, it installs
    pip = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check"]
    pip += ["--no-input", "-c", str(ROOT / "constraints.txt")]
    STAMP.unlink() if STAMP.exists() else None
    run([*pip, "-e", f"{ROOT}[test,gguf]"], "a", "pip could not install the dependencies")
    parse_models()
    draft = STAMP.with_suffix(".draft")
    draft.write_text(fingerprint(version))
    draft.replace(STAMP)
    say(f"set-up: ready in {time.monotonic() - started:.0f} s")


def parse_models() -> None:
    """Load the code location once: dbt parses its models, so that the first turn need not."""
    python = str(VENV / "bin" / "python")
    try:
        run([python, "-c", "import assets.definitions"], "a", "the code location does not load")
    except SetupError as error:  # somebody's edit; linters and tests say more than set-up can
        say(f"set-up: {error}")


def half_written() -> list[Path]:
    """Return pip's records of packages whose list of files is missing or names lost files.

    pip writes that list last, but takes a package without one for installed.
    """
    found = []
    for record in sorted(VENV.glob("lib/python*/site-packages/*.dist-info")):
        files = record / "RECORD"
        text = files.read_text() if files.exists() else ""
        paths = [row[0] for row in csv.reader(text.splitlines()) if row]
        kept = [path for path in paths if not path.endswith(".pyc")]
        if not paths or not all((record.parent / path).exists() for path in kept):
            found.append(record)
    return found


def run(command: list[str], mode: str, failure: str) -> None:
    """Run a command with its output in the log and its present step on one line of the screen.

    Raises:
        SetupError: It failed; with the end of the log, what that means and what to do.
    """
    environment = dict(os.environ)
    environment.pop("PYTHONHOME", None)
    environment.pop("PYTHONPATH", None)
    with open(LOG, mode) as log:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            universal_newlines=True,
            env=environment,
            cwd=str(ROOT),
            close_fds=False,  # the lock
        )
        for line in process.stdout or ():
            log.write(line)
            log.flush()
            show(line)
        show("")
        if process.wait():
            raise SetupError(f"{failure}; log in {LOG}. {explain(LOG.read_text())}")


def say(text: str) -> None:
    """Print one line for people, now."""
    print(text, flush=True)


def show(line: str) -> None:
    """Show pip's present step on a terminal, always on the same line; "" wipes it."""
    if sys.stdout.isatty():
        match = re.match(r"\s*(Collecting|Downloading|Building|Installing) ?(\S*)", line)
        if match or not line:
            step = " ".join(match.groups()) if match else ""
            print(f"\r\033[K{'  ' + step[:70] if step else ''}", end="", flush=True)


if __name__ == "__main__":
    sys.exit(main())
