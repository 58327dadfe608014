"""A real S3 server for tests (moto), and a proxy in front of it that can fail on purpose."""

import http.client
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}


@contextmanager
def s3_server(folder: Path, **environment: str) -> Iterator[str]:
    """Serve S3 on a free port of loopback, in a process that ends with the block."""
    from fsspec.asyn import sync  # noqa: F401  # fail early where the extra is missing

    port = _free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (folder / "moto.log").open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=os.environ | environment, cwd=folder
        )
    endpoint = f"http://127.0.0.1:{port}"
    try:
        _wait_for(endpoint, process)
        yield endpoint
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server for the tests of a module."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in KEYS.items():
            patch.setenv(name, value)
        with s3_server(tmp_path_factory.mktemp("s3")) as endpoint:
            yield endpoint


@pytest.fixture
def s3(server: str, request: pytest.FixtureRequest) -> Any:
    """A client of the server, and a bucket of the test's own."""
    from s3fs import S3FileSystem

    fs = S3FileSystem(endpoint_url=server, use_listings_cache=False)
    fs.mkdir(bucket_of(request))
    return fs


def bucket_of(request: pytest.FixtureRequest) -> str:
    """A name that only this test has."""
    return f"b{abs(hash(request.node.nodeid)):x}"


class Proxy:
    """Passes requests on, and fails as it is told to.

    Attributes:
        requests: Method and path of each request, in order.
        before, after: Called with method and path before a request is passed on, and once it was
            answered by the server but not yet to the client; a status of the first is answered
            in place of the server's.
    """

    def __init__(self, endpoint: str) -> None:
        self.requests: list[tuple[str, str]] = []
        self.before: Callable[[str, str], int | None] = lambda method, path: None
        self.after: Callable[[str, str], None] = lambda method, path: None
        proxy, target = self, urlsplit(endpoint)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                proxy.requests.append((self.command, self.path))
                if status := proxy.before(self.command, self.path):
                    return self._answer(status, [], ERROR % CODES[status])
                server = http.client.HTTPConnection(target.hostname or "", target.port)
                server.request(self.command, self.path, body, dict(self.headers))
                answer = server.getresponse()
                content = answer.read()
                server.close()
                proxy.after(self.command, self.path)
                return self._answer(answer.status, answer.getheaders(), content)

            def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
                with suppress(ConnectionError):
                    self.send_response(status)
                    own = {"Content-Length": str(len(body))} if self.command != "HEAD" else {}
                    for name, value in headers:
                        if name.lower() not in NOT_PASSED_ON and name not in own:
                            self.send_header(name, value)
                    for name, value in own.items():
                        self.send_header(name, value)
                    self.end_headers()
                    if self.command != "HEAD":
                        self.wfile.write(body)

            do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _pass

            def log_message(self, *arguments: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Proxy":
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


CODES = {503: b"ServiceUnavailable", 403: b"AccessDenied"}
ERROR = b"<?xml version='1.0'?><Error><Code>%s</Code><Message>on purpose</Message></Error>"
NOT_PASSED_ON = ("connection", "transfer-encoding", "date", "server")


def _free_port() -> int:
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.server_close()
    return server.server_port


def _wait_for(endpoint: str, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(300):
        with suppress(urllib.error.URLError, ConnectionError):
            urllib.request.urlopen(f"{endpoint}/moto-api/data.json").close()
            return
        assert process.poll() is None, "the S3 server ended; see moto.log"
        time.sleep(0.1)
    raise AssertionError("the S3 server did not answer within 30 s")
