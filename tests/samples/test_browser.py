"""The browser sample: digits drawn in Chromium, and read as Python reads them."""

import functools
import http.server
import json
import re
import shutil
import subprocess
import sys
import threading

import numpy as np
import onnx
import pytest
from helpers.browser import CHROMIUM, opened
from helpers.loading import ROOT
from PIL import Image

import vimdeploy
from vimdeploy.api.export import with_bytes
from vimdeploy.artifact import artifact_from_onnx
from vimdeploy.checkpoint import load_checkpoint
from vimdeploy.exporters.onnx_graph import onnx_from_model
from vimdeploy.graphs.portable import portable
from vimdeploy.models import variant_by_name
from vimdeploy.networks import network_of_variant
from vimdeploy.preprocess import tensor_from_image

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: tools/fetch_chromium build/chromium"),
    pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm, which brings onnxruntime-web"),
]
SAMPLE = ROOT / "samples" / "browser"
DIGITS = ROOT / "samples" / "digits"
STROKES = {
    "0": [
        [(0.5, 0.1), (0.3, 0.2), (0.25, 0.5), (0.3, 0.8), (0.5, 0.9), (0.7, 0.8), (0.75, 0.5), (0.7, 0.2), (0.5, 0.1)]
    ],
    "1": [[(0.4, 0.25), (0.52, 0.1), (0.52, 0.9)]],
    "2": [[(0.28, 0.3), (0.35, 0.15), (0.5, 0.1), (0.65, 0.17), (0.68, 0.32), (0.6, 0.5), (0.27, 0.88), (0.75, 0.88)]],
    "3": [[(0.3, 0.17), (0.5, 0.1), (0.68, 0.2), (0.48, 0.48), (0.7, 0.6), (0.7, 0.75), (0.55, 0.9), (0.3, 0.84)]],
    "4": [[(0.58, 0.1), (0.28, 0.58), (0.78, 0.58)], [(0.62, 0.35), (0.58, 0.92)]],
    "5": [[(0.7, 0.1), (0.35, 0.1), (0.32, 0.45), (0.55, 0.42), (0.7, 0.56), (0.69, 0.76), (0.52, 0.9), (0.3, 0.84)]],
    "7": [[(0.27, 0.12), (0.74, 0.12), (0.58, 0.45), (0.46, 0.9)], [(0.4, 0.5), (0.7, 0.5)]],
}
"""Digits as somebody draws them, in parts of the drawing area's side."""
ANSWER = "document.getElementById('answer').textContent"


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The digits model as an ONNX file that takes bytes."""
    network = network_of_variant(
        variant_by_name(str(DIGITS / "digits.json")), load_checkpoint(DIGITS / "digits.safetensors")
    )
    path = tmp_path_factory.mktemp("digits") / "digits.onnx"
    path.write_bytes(with_bytes(artifact_from_onnx(onnx_from_model(network.module, network.info))).data)
    return path


def build(*arguments):
    command = [sys.executable, SAMPLE / "build.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def pages(digits, tmp_path_factory):
    """Where two pages are given out, by a server of files alone: of the portable file, and of the plain one."""
    folder = tmp_path_factory.mktemp("pages")
    onnx.save(portable(onnx.load(digits)), folder / "portable.onnx")
    done = build(folder / "portable.onnx", folder / "portable")
    if "npm could not bring" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    shutil.copytree(folder / "portable", folder / "plain")  # which need not fetch the runtime again
    assert build(digits, folder / "plain").returncode == 0
    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {name: f"http://127.0.0.1:{server.server_port}/{name}/" for name in ("portable", "plain")}
        server.shutdown()


@pytest.fixture(scope="module")
def url(pages):
    return pages["portable"]


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Files, and nothing on standard error."""

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def desk(url, tmp_path_factory):
    """The page on a desk, ready."""
    with opened(tmp_path_factory.mktemp("desk"), url) as tab:
        tab.wait_for(f"{ANSWER} === 'Waiting for your digit.'")
        yield tab


@pytest.fixture
def tab(desk):
    """The page on a desk, with nothing drawn."""
    desk.show_on(1024, 800)
    desk.evaluate("document.getElementById('clear').click()")
    desk.wait_for(f"{ANSWER} === 'Waiting for your digit.'")
    return desk


@pytest.fixture(scope="module")
def session(digits):
    with vimdeploy.load(digits, threads=1) as session:
        yield session


def draw(move, tab, strokes):
    """Draw strokes by ``tab.drag`` or ``tab.swipe``, and wait until they are read."""
    left, top, width, height = tab.box("#pad")
    for stroke in strokes:
        move([(left + x * width, top + y * height) for x, y in stroke])
    tab.wait_for("document.querySelector('[aria-busy]').ariaBusy === 'false'")


def seen_and_shares(tab):
    """The picture that the model was given, (8, 8), and the height of each digit's bar."""
    pixels, shares = tab.evaluate("""(() => {
      const context = new OffscreenCanvas(8, 8).getContext("2d");
      context.drawImage(document.getElementById("seen"), 0, 0);
      const bars = [...document.querySelectorAll("#bars .bar")];
      return [[...context.getImageData(0, 0, 8, 8).data], bars.map(bar => +bar.style.getPropertyValue("--share"))];
    })()""")
    return np.array(pixels, np.uint8).reshape(8, 8, 4)[..., 0], shares


def shares_of(answer):
    found = {line.index: line.probability for line in answer.first(10).predictions}
    return [found[index] for index in range(10)]


@pytest.mark.parametrize("digit", STROKES)
def test_a_drawn_digit_is_read_and_python_reads_the_same(tab, session, digit):
    draw(tab.drag, tab, STROKES[digit])
    assert re.match(rf"(This is|Probably) a {digit}[.,]", tab.evaluate(ANSWER))
    pixels, shares = seen_and_shares(tab)
    wanted = session.predict(pixels)
    assert wanted.predictions[0].label == digit
    np.testing.assert_allclose(shares, shares_of(wanted), atol=1e-5)
    labels = tab.evaluate("[...document.querySelectorAll('#bars li')].map(row => row.innerText.split('\\n'))")
    assert [row[-1] for row in labels] == [str(number) for number in range(10)]
    assert labels[int(digit)][0] == f"{100 * shares[int(digit)]:.0f}%"


def test_a_picture_becomes_the_input_that_python_makes(tab, session):
    script = f"""import("./reader.js").then(async reader => {{
      const made = Object.values({json.dumps(STROKES)}).map(strokes => reader.pictureOf(strokes));
      const noise = Uint8ClampedArray.from({{length: 128 * 128}}, (_, i) => (i * 7919 + (i >> 7) * 104729) % 256);
      return [...made, noise].map(picture => [[...picture], [...reader.resized(picture, 128, 8)]]);
    }})"""
    found = tab.evaluate(script)
    assert len(found) == len(STROKES) + 1
    for picture, pixels in found:
        image = Image.fromarray(np.array(picture, np.uint8).reshape(128, 128))
        assert image.getextrema()[1] == 255
        wanted = tensor_from_image(image, (8, 8), session.info.recipe, as_bytes=True)
        # Pillow's weights have a limited number of bits: a value may round to the next of 255.
        np.testing.assert_allclose(np.array(pixels).reshape(8, 8, 1), wanted.astype(int), atol=1)


def test_a_small_drawing_in_a_corner_is_read_as_a_large_one(tab):
    draw(tab.drag, tab, [[(0.05 + x / 4, 0.7 + y / 4) for x, y in stroke] for stroke in STROKES["4"]])
    tab.wait_for(f"{ANSWER} === 'This is a 4.'")


def test_undo_takes_the_last_stroke_back_and_clear_takes_all(tab):
    draw(tab.drag, tab, STROKES["4"])
    whole = seen_and_shares(tab)[0]
    draw(tab.drag, tab, [[(0.1, 0.1), (0.9, 0.9)]])
    assert (seen_and_shares(tab)[0] != whole).any()
    tab.evaluate("document.getElementById('undo').click()")
    tab.wait_for(f"{ANSWER} === 'This is a 4.'")
    np.testing.assert_array_equal(seen_and_shares(tab)[0], whole)
    tab.evaluate("document.getElementById('clear').click()")
    tab.wait_for(f"{ANSWER} === 'Waiting for your digit.'")
    assert not seen_and_shares(tab)[0].any()
    assert tab.evaluate("document.getElementById('undo').disabled")


def test_drawn_with_keys_alone(tab):
    tab.evaluate("(top => { top.tabIndex = -1; top.focus() })(document.querySelector('h1'))")
    tab.press("Tab")
    assert tab.evaluate("document.activeElement.id") == "pad"
    tab.press(" ")
    tab.press("ArrowDown", 15)
    tab.wait_for(f"{ANSWER} === 'This is a 1.'")
    tab.press(" ")
    tab.press("ArrowLeft", 3)
    tab.wait_for(f"{ANSWER} === 'This is a 1.'")  # the pen was up
    tab.press("Tab")
    assert tab.evaluate("document.activeElement.id") == "undo"
    tab.press("Enter")
    tab.wait_for(f"{ANSWER} === 'Waiting for your digit.'")
    assert tab.evaluate("document.activeElement.id") == "pad"  # not lost with the button, which has nothing to undo


def test_asks_nobody_but_its_own_server_and_the_console_is_empty(tab, url):
    draw(tab.drag, tab, STROKES["3"])
    requests = [event["request"]["url"] for event in tab.seen("Network.requestWillBeSent")]
    assert f"{url}model.onnx" in requests
    assert [request for request in requests if not request.startswith(url)] == []
    for method in ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
        assert tab.seen(method) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_finger_on_a_phone(tab, scheme):
    tab.show_on(390, 844, scheme, phone=True)
    draw(tab.swipe, tab, STROKES["3"])
    tab.wait_for(f"{ANSWER} === 'This is a 3.'")
    size = tab.evaluate("[document.scrollingElement.scrollWidth, document.scrollingElement.scrollHeight]")
    assert size == [390, 844]  # nothing to scroll
    paper, ink = tab.evaluate(
        "['backgroundColor', 'color'].map(name => getComputedStyle(document.body)[name].match(/\\d+/g).map(Number))"
    )
    assert (sum(paper) > sum(ink)) == (scheme == "light")


def test_the_plain_file_is_read_too(pages, tmp_path):
    with opened(tmp_path, pages["plain"]) as tab:
        tab.wait_for(f"{ANSWER} === 'Waiting for your digit.'")
        draw(tab.drag, tab, STROKES["3"])
        tab.wait_for(f"{ANSWER} === 'This is a 3.'")


def test_says_that_the_model_is_not_there(url, tmp_path):
    with opened(tmp_path, "about:blank") as tab:
        tab.call("Network.setBlockedURLs", urls=["*/model.onnx"])
        tab.call("Page.navigate", url=url)
        tab.wait_for(f"document.getElementById('answer') && {ANSWER}.startsWith('The model could not be loaded: ')")


@pytest.mark.parametrize("model", ["tiny_onnx", "foreign_onnx"])
def test_other_models_are_refused(request, model, tmp_path):
    done = build(request.getfixturevalue(model), tmp_path / "page")
    assert done.returncode == 2
    assert "Wanted a classifier of square grey pictures" in done.stderr
    assert not (tmp_path / "page").exists()


def test_without_npm_says_what_to_install_and_leaves_nothing(digits, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    done = build(digits, tmp_path / "page")
    assert done.returncode == 1
    assert "npm is wanted" in done.stderr
    assert not (tmp_path / "page").exists()
