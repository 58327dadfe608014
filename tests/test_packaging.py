"""`pip install .`: the package alone, in a folder of its own, is the whole project."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
PARTS = ("flywheel", "assets", "dbt_project", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as pip installs it."""
    return install(tmp_path_factory.mktemp("installed"))


def install(root: Path, **environment: str) -> Path:
    """Install from a copy, since a build writes beside its source."""
    source = root / "source"
    tracked = ["git", "-C", str(PROJECT), "ls-files", "-z", "--", *PARTS]
    listed = subprocess.run(tracked, capture_output=True, text=True)
    names = listed.stdout.split("\0") if listed.returncode == 0 else []
    if not any(names):
        pytest.skip("not a git checkout: what belongs to the package cannot be told")
    for name in filter(None, names):
        if (PROJECT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((PROJECT / name).read_bytes())
    flags = ["--quiet", "--no-deps", "--no-build-isolation", "--target", str(root / "site")]
    command = [sys.executable, "-m", "pip", "install", *flags, str(source)]
    subprocess.run(command, check=True, timeout=240, env={**os.environ, **environment})
    return root / "site"


def call(installed: Path, folder: Path, code: str) -> str:
    """Run Python in `folder` with the installed package and nothing of the checkout."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    environment.pop("FLYWHEEL_HOME", None)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_an_installed_package_brings_its_dbt_project_and_keeps_data_where_it_is_called(
    installed: Path, tmp_path: Path
) -> None:
    code = """
import json
from assets import definitions, resources
from assets.storage import instance_of
layout = resources.Home().layout
with instance_of(layout):
    pass
models = [s.key.to_user_string() for s in definitions.defs.resolve_all_asset_specs()]
print(json.dumps([definitions.__file__, str(layout.root), models]))
"""
    file, home, models = json.loads(call(installed, tmp_path, code).splitlines()[-1])
    assert Path(file).is_relative_to(installed)
    assert Path(home) == tmp_path / "var"
    assert (tmp_path / "var" / "dagster" / "dagster.yaml").exists()
    assert {"marts/fct_preferences", "training/policy"} <= set(models)


def test_the_command_line_of_an_installed_package_works(installed: Path, tmp_path: Path) -> None:
    code = "import sys; from flywheel.cli import main; sys.exit(main(['status', '--json']))"
    assert json.loads(call(installed, tmp_path, code))["home"] == str(tmp_path / "var")


KERNELS = (
    "from flywheel.dedup import kernel; from flywheel.ingest import native\n"
    "print(kernel.state()); print(native.state())"
)


@pytest.mark.skipif(not shutil.which("cc"), reason="there is no C compiler here")
def test_an_installation_with_a_compiler_has_its_kernels(installed: Path, tmp_path: Path) -> None:
    assert call(installed, tmp_path, KERNELS) == "C kernel\n" * 2


@pytest.mark.slow
def test_an_installation_without_a_compiler_works_in_numpy_and_says_so(tmp_path: Path) -> None:
    bare = install(tmp_path, CC=str(tmp_path / "no-such-compiler"))
    count = (
        "from flywheel.dedup.join import similar_pairs; print(len(similar_pairs(['a', 'a'], 1)[0]))"
    )
    said = call(bare, tmp_path, f"{KERNELS}\n{count}")
    assert said.count("install a C compiler") == 2
    assert said.endswith("\n1\n")
