"""Pages beside the UI: what is given out, to whom, and where assets link to."""

import http.client
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from assets.pages import address_of
from flywheel.layout import Layout
from flywheel.pages import server


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """A home's pages, served."""
    for name in ("docs/dbt/index.html", "artifacts/evaluations/g0001/report.html"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("<p>a page</p>")
    (tmp_path / "docs" / "secret.parquet").write_text("rows")
    (tmp_path / "restricted").mkdir()
    (tmp_path / "restricted" / "key.html").write_text("secret")
    (tmp_path / "docs" / "way_out.html").symlink_to(tmp_path / "restricted" / "key.html")
    pages = server(tmp_path, 0)
    threading.Thread(target=pages.serve_forever, daemon=True).start()
    yield int(pages.server_address[1])
    pages.shutdown()


def asked(port: int, path: str, host: str = "127.0.0.1") -> int:
    """The status of a request, with its path as it stands."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest("GET", path, skip_host=True)
    connection.putheader("Host", f"{host}:{port}")
    connection.endheaders()
    return connection.getresponse().status


def test_pages_are_given_out_and_nothing_else(port: int, tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    report = layout.evaluation("g0001") / "report.html"
    for page in (layout.dbt_docs, report):
        assert asked(port, "/" + address_of(layout, page).split("/", 3)[3]) == 200
    hidden = (
        *("/", "/docs/", "/docs/dbt", "/docs/secret.parquet", "/restricted/key.html"),
        *("/docs/../restricted/key.html", "/docs/%2e%2e/restricted/key.html"),
        *("/docs/way_out.html", "/artifacts/checkpoints/x.json", "/docs/none.html"),
    )
    assert [asked(port, path) for path in hidden] == [404] * len(hidden)
    assert asked(port, "/docs/dbt/index.html", host="evil.example") == 404
    assert asked(port, "/docs/dbt/index.html", host="localhost") == 200


def test_they_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    """Started as `flywheel ui` does, which then becomes Dagster."""
    program = (
        "import os, subprocess, sys, time; one = subprocess.Popen([sys.executable, '-m', "
        "'flywheel.pages', sys.argv[1], '0', str(os.getpid())]); print(one.pid, flush=True); "
        "time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout
    child = int(parent.stdout.readline())
    time.sleep(2)
    os.kill(child, 0)  # it is there
    parent.kill()
    parent.wait()
    for _ in range(100):
        if not is_alive(child):
            break
        time.sleep(0.2)
    else:
        os.kill(child, 9)
        pytest.fail("it outlives who started it")


def is_alive(process: int) -> bool:
    """Whether a process is there and has not ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
