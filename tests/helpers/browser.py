"""Pages in headless Chromium, without a driver.

``look``: a page that runs no script, by its own policy. A frame around it, which is no part of it, holds the page at
the width and in the colours that are asked for, measures it from outside, and writes what it found where ``--dump-dom``
shows it.

``opened``: a page with scripts, used as somebody would use it, by the DevTools protocol over a pipe.
"""

import base64
import fcntl
import json
import os
import re
import shutil
import subprocess
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from html import unescape

from runtimes.browser import CHROMIUM, QUIET

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
            *QUIET,
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


@contextmanager
def opened(folder, url):
    """A ``Tab`` with a page, loaded, until the end of the block; ``folder`` holds the browser's profile meanwhile."""
    read_end, commands = (fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in os.pipe())
    messages, write_end = (fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in os.pipe())

    def as_chromium_expects():
        os.dup2(read_end, 3)
        os.dup2(write_end, 4)

    profile = folder / "profile"
    process = subprocess.Popen(
        [CHROMIUM, *QUIET, "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"],
        preexec_fn=as_chromium_expects,
        pass_fds=(3, 4),
        stderr=subprocess.DEVNULL,
    )
    os.close(read_end)
    os.close(write_end)
    watchdog = threading.Timer(300, process.kill)
    watchdog.start()
    try:
        with os.fdopen(commands, "wb") as to_browser, os.fdopen(messages, "rb") as from_browser:
            tab = Tab(to_browser, from_browser)
            tab.open(url)
            yield tab
            process.kill()
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        shutil.rmtree(profile, ignore_errors=True)


class Tab:
    """A page that is open in a browser."""

    def __init__(self, to_browser, from_browser):
        self._to, self._from = to_browser, from_browser
        self._count, self._session = 0, None
        self.events = []
        """What happened so far, as DevTools tells it: ``method`` and ``params``."""

    def open(self, url):
        """Open a page and wait until it is loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.show_on(1024, 800)
        self.call("Page.setLifecycleEventsEnabled", enabled=True)
        started = self.call("Page.navigate", url=url)
        assert "errorText" not in started, started["errorText"]
        while not any(
            e["loaderId"] == started["loaderId"] and e["name"] == "load" for e in self.seen("Page.lifecycleEvent")
        ):
            self._next()

    def show_on(self, width, height, scheme="light", phone=False):
        """Show the page on another screen, of so many pixels, in light or dark; a phone has fingers and no mouse."""
        size = {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1, "mobile": phone}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def call(self, method, **params):
        """One command of the DevTools protocol, and its result."""
        self._count += 1
        session = {"sessionId": self._session} if self._session else {}
        message = {"id": self._count, "method": method, "params": params} | session
        self._to.write(json.dumps(message).encode() + b"\0")
        self._to.flush()
        while (answer := self._next()).get("id") != self._count:
            pass
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def _next(self):
        """The next message; an event is kept."""
        text = bytearray()
        while (byte := self._from.read(1)) != b"\0":
            assert byte, "Chromium has ended, or took longer than five minutes"
            text += byte
        message = json.loads(text)
        if "method" in message:
            self.events.append(message)
        return message

    def seen(self, method):
        """The parameters of the events of a kind."""
        return [event["params"] for event in self.events if event["method"] == method]

    def evaluate(self, expression):
        """The value of an expression of JavaScript, of the page; a promise's when it is kept."""
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait_for(self, condition):
        """Wait until an expression of JavaScript is true."""
        self.evaluate(
            f"new Promise(done => {{ (function look() {{ ({condition}) ? done() : setTimeout(look, 10) }})() }})"
        )

    def box(self, selector):
        """Left, top, width and height of an element in the window."""
        found = f"document.querySelector({json.dumps(selector)}).getBoundingClientRect()"
        return self.evaluate(f"(b => [b.x, b.y, b.width, b.height])({found})")

    def drag(self, points):
        """Press the mouse's button at the first point, move, and let go at the last."""
        for kind, (x, y) in [
            ("mousePressed", points[0]),
            *(("mouseMoved", point) for point in points),
            ("mouseReleased", points[-1]),
        ]:
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def swipe(self, points):
        """As ``drag``, with a finger."""
        for kind, place in [
            ("touchStart", points[:1]),
            *(("touchMove", [point]) for point in points),
            ("touchEnd", []),
        ]:
            self.call("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": x, "y": y} for x, y in place])

    def press(self, key, times=1):
        """Press and let go a key, under its name in JavaScript."""
        code = {"Tab": 9, "Enter": 13, " ": 32, "Backspace": 8}.get(key, 0)
        text = {"Enter": "\r", " ": " "}.get(key, "")
        for _ in range(times):
            for kind in ("keyDown" if text else "rawKeyDown", "keyUp"):
                shown = {"text": text} if text and kind == "keyDown" else {}
                self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **shown)

    def picture(self):
        """The page as it looks: a PNG file."""
        return base64.b64decode(self.call("Page.captureScreenshot")["data"])
