"""A page seen by headless Chromium, without a driver: ``--dump-dom`` of a frame around it, and what Chromium logs.

The page runs no script, by its own policy. So the frame, which is no part of it, holds the page at the width and in the
colours that are asked for, measures it from outside, and writes what it found where ``--dump-dom`` shows it.
"""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from html import unescape
from pathlib import Path

_FETCHED = Path(__file__).parents[2] / "build" / "chromium" / "chromium"
_NAMES = (str(_FETCHED), "chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, _NAMES)), None)
_QUIET = (
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
    "--host-resolver-rules=MAP * ~NOTFOUND",  # its own requests go nowhere either
)
_FRAME = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">
<style>html, body {{ margin: 0 }} iframe {{ border: 0; display: block; color-scheme: {scheme} }}</style>
<iframe id="frame" width="{width}" height="{height}"></iframe><pre id="found" hidden></pre>
<script>
const frame = document.getElementById("frame");
frame.onload = () => {{
  const view = frame.contentWindow, page = frame.contentDocument, root = page.documentElement;
  const all = selector => [...page.querySelectorAll(selector)];
  document.getElementById("found").textContent = JSON.stringify({{
    requests: view.performance.getEntriesByType("resource").map(entry => entry.name),
    inner_width: view.innerWidth,
    scroll_width: page.scrollingElement.scrollWidth,
    scroll_height: page.scrollingElement.scrollHeight,
    text: page.body.innerText,
    headings: all("h1, h2, h3").map(heading => [heading.tagName, heading.innerText]),
    elements: [...new Set(all("*").map(element => element.localName))],
    pictures: [...page.images].map(image => [image.alt, image.complete && image.naturalWidth]),
    paper: view.getComputedStyle(root).backgroundColor,
    inks: [...new Set(all("body, body *").map(element => view.getComputedStyle(element).color))],
  }});
}};
frame.srcdoc = {page};
</script>
"""


@dataclass(frozen=True)
class Sight:
    """What was seen."""

    found: dict
    console: list
    """Errors and warnings in the browser's console."""
    requests: list
    """Addresses that the page requested, successfully or not."""


def look(page, folder, width=360, height=800, scheme="light", picture=None):
    """Open a page in a frame ``width`` pixels wide; ``picture`` names a PNG to write."""
    frame = folder / "frame.html"
    text = json.dumps(page).replace("</", "<\\/").replace("<!--", "<\\!--")
    frame.write_text(_FRAME.format(page=text, width=width, height=height, scheme=scheme), encoding="utf-8")
    profile = folder / "profile"
    shot = (f"--screenshot={picture}", f"--window-size={width},{height}") if picture else ("--dump-dom",)
    result = subprocess.run(
        [
            CHROMIUM,
            *_QUIET,
            f"--user-data-dir={profile}",
            "--enable-logging=stderr",
            *shot,
            frame.as_uri(),
        ],
        capture_output=True,
        timeout=120,
        check=True,
    )
    shutil.rmtree(profile, ignore_errors=True)
    found = _found(result.stdout)
    return Sight(found, _console(result.stderr), found.pop("requests", []))


def _found(dom):
    match = re.search(r'<pre id="found"[^>]*>(.*?)</pre>', dom.decode(), re.DOTALL)
    return json.loads(unescape(match[1])) if match else {}


def _console(log):
    return [line for line in log.decode(errors="replace").splitlines() if ":CONSOLE" in line]
