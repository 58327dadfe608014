"""Pages for people, served beside the UI on loopback: no browser opens a `file://` link of a page
that came by http. Only the folders of pages are given out.
"""

import os
import sys
import threading
import time
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SHOWN = ("docs", "artifacts/cards", "artifacts/evaluations")  # below the root of a home
ENDINGS = (".html", ".css", ".js", ".json", ".svg", ".png", ".ico", ".woff", ".woff2", ".ttf")
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Pages(SimpleHTTPRequestHandler):
    """Files below `SHOWN`, for who asks this machine by its own name: no page of another site can
    have a browser fetch them under a name of its own."""

    def send_head(self) -> Any:
        """The file that is asked for, or that there is none."""
        name = (self.headers.get("Host") or "").rpartition(":")[0].strip("[]")
        if name not in LOOPBACK or not self._is_shown(Path(self.translate_path(self.path))):
            self.send_error(HTTPStatus.NOT_FOUND, "no such page")
            return None
        return super().send_head()

    def _is_shown(self, path: Path) -> bool:
        root, path = Path(self.directory).resolve(), path.resolve()
        return (
            any(path.is_relative_to(root / folder) for folder in SHOWN)
            and path.is_file()
            and path.suffix in ENDINGS
        )

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: Dagster's own log is on the screen."""


def server(root: Path, port: int) -> ThreadingHTTPServer:
    """A server of the pages of a home, on loopback."""

    def handler(*given: Any) -> Pages:
        return Pages(*given, directory=str(root))

    return ThreadingHTTPServer(("127.0.0.1", port), handler)


def main() -> None:
    """Serve the root that is named, on a port, as long as the process of a number lives."""
    root, port, parent = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    try:
        pages = server(root, port)
    except OSError as error:
        sys.exit(f"pages are not served on port {port}: {error.strerror}; links to them fail")
    threading.Thread(target=pages.serve_forever, daemon=True).start()
    while os.getppid() == parent:
        time.sleep(1)


if __name__ == "__main__":
    main()
