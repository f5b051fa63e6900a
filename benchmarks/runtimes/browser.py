"""A page in a real browser, which runs a model and sends home what it found; nothing leaves the machine."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from runtimes.environments import TrialError, told

_HERE = Path(__file__).parent
_FETCHED = Path(__file__).resolve().parents[2] / "build" / "chromium" / "chromium"
_NAMES = (str(_FETCHED), "chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, _NAMES)), None)
"""The browser; None if there is none."""
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-quic",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # its own requests go nowhere either
)
"""Options of a browser without a window, which speaks to this machine alone."""
_TYPES = {".mjs": "text/javascript", ".html": "text/html", ".wasm": "application/wasm"}


def run_in_browser(request: dict[str, Any], packages: Path, seconds: float) -> dict[str, Any]:
    """Let Chromium run a request.

    Args:
        request: as of ``adapters.py``.
        packages: the folder that holds ``node_modules``.
        seconds: that it may take.

    Returns:
        The answer.

    Raises:
        TrialError: without a browser, if the page fails, or if it takes too long.
    """
    if CHROMIUM is None:
        raise TrialError("no browser is installed; tools/fetch_chromium build/chromium fetches one")
    answers: list[dict[str, Any]] = []
    answered = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            places = {
                "/": _HERE / "page.html",
                "/web.mjs": _HERE / "web.mjs",
                "/model": Path(request["model"]),
                "/inputs": Path(request["inputs"]),
            }
            name = Path(self.path).name
            if self.path == "/request":
                self._send(json.dumps(request).encode(), "")
            elif self.path == f"/dist/{name}":
                place = packages / "node_modules" / "onnxruntime-web" / "dist" / name
                self._send(place.read_bytes(), place.suffix) if place.is_file() else self.send_error(404)
            elif self.path in places:
                self._send(places[self.path].read_bytes(), places[self.path].suffix)
            else:
                self.send_error(404)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self._send(b"", "")
            if self.path == "/outputs":
                Path(request["outputs"]).write_bytes(body)
            else:
                answers.append(json.loads(body))
                answered.set()

        def _send(self, body: bytes, suffix: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", _TYPES.get(suffix, "application/octet-stream"))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = subprocess.Popen(
            [CHROMIUM, *QUIET, f"--user-data-dir={profile}", f"http://127.0.0.1:{server.server_port}/"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            if not answered.wait(seconds):
                raise TrialError(f"not done after {seconds:.0f} s")
        finally:
            browser.kill()
            browser.wait()
            server.shutdown()
            server.server_close()
    (answer,) = answers
    if "error" in answer:
        raise TrialError(told(str(answer["error"])))
    return answer
