"""Datasets of the Hugging Face hub land through its real client, from a hub that is served here."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parent.parent
LAND = """
import json, sys
from pathlib import Path
from flywheel.errors import FlywheelError
from flywheel.ingest import left_alone
from flywheel.layout import Layout
from flywheel.stores import StorageSettings, land_all
layout = Layout(Path(sys.argv[1]))
for address in sys.argv[2:]:
    try:
        landed = land_all([address], layout, StorageSettings(), log=lambda line: None)
        told = [[one.file, one.source, one.format, one.rows] for one in landed.batches]
        print(json.dumps({"batches": told, "left": [one["file"] for one in left_alone(layout)]}))
    except FlywheelError as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}))
"""


class Hub:
    """The few routes of the hub's API that reading a dataset needs.

    Attributes:
        files: Content by repository, revision and path.
        asked: Paths of all requests, in order.
        token: What a request must bear; empty for a hub that is open.
        status: Answered to everything, where it is not 0.
    """

    def __init__(self) -> None:
        self.files: dict[tuple[str, str, str], bytes] = {}
        self.asked: list[str] = []
        self.token = ""
        self.status = 0
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = unquote(urlsplit(self.path).path)
                hub.asked.append(path)
                allowed = not hub.token or self.headers.get("Authorization") == (
                    f"Bearer {hub.token}"
                )
                found = hub.answer(path) if allowed else None
                status = hub.status or (200 if found is not None else 404)
                told = found if found is not None else {"error": "Repository not found"}
                body = told if isinstance(told, bytes) else json.dumps(told).encode()
                self.send_response(status)
                if status == 404:
                    self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, *arguments: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, path: str) -> Any:
        """The JSON of an API route, or the bytes of a file; None for what is not there."""
        match path.strip("/").split("/"):
            case ["api", "datasets", owner, name, *rest]:
                repo = f"{owner}/{name}"
                if not any(one[0] == repo for one in self.files):
                    return None
                if rest[:1] != ["tree"]:
                    return {"id": repo, "sha": "0" * 40, "siblings": [], "tags": []}
                return self._tree(repo, rest[1], "/".join(rest[2:]))
            case ["datasets", owner, name, "resolve", revision, *rest]:
                return self.files.get((f"{owner}/{name}", revision, "/".join(rest)))
        return None

    def _tree(self, repo: str, revision: str, folder: str) -> list[dict[str, Any]]:
        entries: dict[str, dict[str, Any]] = {}
        for (one, at, path), content in self.files.items():
            if (one, at) != (repo, revision) or not f"/{path}".startswith(f"/{folder}"):
                continue
            for parent in list(Path(path).parents)[:-1]:
                entries[str(parent)] = {"type": "directory", "path": str(parent), "oid": "d"}
            oid = hashlib.sha1(content).hexdigest()
            entries[path] = {"type": "file", "path": path, "size": len(content), "oid": oid}
        depth = len(Path(folder).parts)
        return [one for path, one in entries.items() if len(Path(path).parts) > depth]


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub()
    thread = threading.Thread(target=hub.server.serve_forever, args=(0.02,))
    thread.start()
    yield hub
    hub.server.shutdown()
    hub.server.server_close()
    thread.join()


def land(hub: Hub, home: Path, *addresses: str, **environment: str) -> list[dict[str, Any]]:
    """What landing each address came to, in one process that takes our hub for the real one."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", LAND, str(home / "var"), *addresses],
        cwd=ROOT,
        env=clean | {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(home / "hf")} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def lines(*prompts: str) -> bytes:
    rows = [{"prompt": one, "completion": "r"} for one in prompts]
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def test_a_dataset_lands_from_its_branch_a_revision_a_folder_or_one_file(
    hub: Hub, tmp_path: Path
) -> None:
    hub.files = {
        ("ada/talks", "main", "README.md"): b"# talks",
        ("ada/talks", "main", "data/train.jsonl"): lines("one", "two"),
        ("ada/talks", "main", "test.jsonl"): lines("three"),
        ("ada/talks", "v1", "data/train.jsonl"): lines("old"),
    }
    base = "hf://datasets/ada/talks"
    whole, again, old, folder, file = land(
        hub, tmp_path, base, base, f"{base}@v1", f"{base}/data", f"{base}/test.jsonl"
    )
    assert sorted(whole["batches"]) == [
        [f"{base}/data/train.jsonl", "talks", "trl", 2],
        [f"{base}/test.jsonl", "talks", "trl", 1],
    ]
    assert whole["left"] == [f"{base}/README.md"]
    assert again["batches"] == folder["batches"] == file["batches"] == []
    assert old["batches"] == [[f"{base}@v1/data/train.jsonl", "talks", "trl", 1]]
    fetched = [path for path in hub.asked if "/resolve/" in path]
    assert len(fetched) == len(set(fetched)) == 3


def test_a_closed_dataset_needs_its_token_and_a_hub_that_fails_is_told(
    hub: Hub, tmp_path: Path
) -> None:
    hub.files = {("ada/talks", "main", "a.jsonl"): lines("one")}
    hub.token = "hf_secret"
    address = "hf://datasets/ada/talks"
    (refused,) = land(hub, tmp_path, address)
    assert refused["error"].startswith("StoreError") and address in refused["error"]
    assert "repository" in refused["error"] and "HF_TOKEN" in refused["error"]
    (taken,) = land(hub, tmp_path, address, HF_TOKEN="hf_secret")
    assert [one[0] for one in taken["batches"]] == [f"{address}/a.jsonl"]
    hub.status = 503
    (down,) = land(hub, tmp_path, address, HF_TOKEN="hf_secret")
    assert down["error"].startswith("StoreUnreachable") and "hf_secret" not in down["error"]
