"""``vimdeploy verify --report``: the page of a real comparison."""

import re

import numpy as np
import onnx
import pytest
from helpers.browser import CHROMIUM, look
from onnx import numpy_helper
from PIL import Image


@pytest.fixture
def pictures(tmp_path):
    """40 pictures in a folder whose name contains HTML."""
    folder = tmp_path / "<b>pictures & co"
    folder.mkdir()
    for n in range(40):
        pixels = np.random.default_rng(n).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{n:02}.png")
    return folder


@pytest.fixture
def faulty(tmp_path, tiny_proto):
    """The tiny model with the sign of in_proj in block 1 flipped."""
    model = onnx.ModelProto()
    model.CopyFrom(tiny_proto)
    (tensor,) = (t for t in model.graph.initializer if t.name.startswith("layers.1.mixer.in_proj"))
    tensor.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(tensor), tensor.name))
    path = tmp_path / "faulty.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.slow
def test_the_page_of_a_faulty_file(invoke, faulty, pictures, tmp_path):
    report = tmp_path / "report.html"
    result = invoke("verify", faulty, "--images", pictures, "--report", report)
    assert result.exit_code == 1
    page = report.read_text(encoding="utf-8")
    assert re.search(r"<h1>.*Fail.*Block 1, in_proj</h1>", page)
    assert "&lt;b&gt;pictures &amp; co" in page
    assert "<b>" not in page
    assert page.count("data:image/png;base64,") > 0
    if CHROMIUM is None:
        pytest.skip("the page was made, but to open it needs Chromium: tools/fetch_chromium build/chromium")
    seen = look(page, tmp_path)
    assert seen.found["scroll_width"] <= 360
    assert (seen.console, seen.requests) == ([], [])
    assert all(width for _, width in seen.found["pictures"])


def test_the_page_of_a_sound_file(invoke, tiny_onnx, tmp_path):
    report = tmp_path / "report.html"
    result = invoke("verify", tiny_onnx, "--count", "2", "--report", report)
    assert result.exit_code == 0, result.output
    page = report.read_text(encoding="utf-8")
    assert re.search(r"<h1>.*Pass.*</h1>", page)
    assert str(tiny_onnx) in page
    assert f"Report: {report}" in result.stderr


def test_a_place_that_cannot_be_written_ends_it_before_the_work(invoke, tiny_onnx, tmp_path):
    result = invoke("verify", tiny_onnx, "--report", tmp_path / "none" / "report.html")
    assert result.exit_code == 2
    assert "does not exist" in result.stderr
