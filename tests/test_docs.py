"""The documentation: it builds without a warning, asks nobody for anything, and says what the code says."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from helpers.browser import CHROMIUM, look
from helpers.loading import ROOT, script
from PIL import Image

from vimdeploy import load
from vimdeploy.libraries import library_path

SITE = ROOT / "docs" / "site"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site."""
    pytest.importorskip("material", reason="mkdocs-material is not installed")
    pytest.importorskip("mkdocstrings_handlers.python", reason="mkdocstrings[python] is not installed")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    build(load_config(str(SITE / "mkdocs.yml"), site_dir=str(folder)))  # strict: a warning ends it
    return folder


def generate():
    pytest.importorskip("griffe", reason="mkdocstrings[python] is not installed")
    return script("docs/site/generate.py")


@pytest.mark.parametrize("page", ["commands.md", "file-format.md", "operators.md"])
def test_what_pages_repeat_from_the_code_is_what_it_says(page):
    text = (ROOT / "docs" / page).read_text()
    assert "<!-- begin " in text
    assert generate().written(text) == text, "it is old: run python docs/site/generate.py"


def test_links_lead_to_the_repository_of_the_package():
    [repository] = re.findall(r'^Repository = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert f"repository: {repository} " in (SITE / "mkdocs.yml").read_text()


@pytest.mark.slow
def test_the_site_has_every_page_and_asks_nobody_for_anything(site):
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    built = {path.relative_to(site) for path in site.rglob("*.html")}
    assert built == pages | {Path("index.html"), Path("404.html")}
    for path in built:
        text = (site / path).read_text()
        assert not re.findall(r'<(?:script|img|iframe)[^>]* src="http|<link[^>]* href="http', text), path


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: tools/fetch_chromium build/chromium")
@pytest.mark.parametrize("page", ["commands.html", "operators.html", "runtimes.html"])
def test_a_page_fits_a_phone(site, page, tmp_path):
    text = (site / page).read_text().replace("<head>", f'<head><base href="{site.as_uri()}/">', 1)
    found = look(text, tmp_path, width=360).found
    assert found["scroll_width"] <= 360


@pytest.fixture(scope="module")
def classify(tmp_path_factory):
    """The C++ program of the cookbook, compiled; it runs beside the ONNX Runtime of Python's package."""
    compiler = shutil.which("c++") or pytest.skip("no C++ compiler")
    headers = next(ROOT.glob("build/deps/**/onnxruntime_cxx_api.h"), None)
    if headers is None:
        pytest.skip("no headers of ONNX Runtime: tools/fetch_headers build/deps")
    runtime = next((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so*"), None)
    if runtime is None:
        pytest.skip("the package onnxruntime has no libonnxruntime.so here")
    folder = tmp_path_factory.mktemp("classify")
    page = (ROOT / "docs" / "cookbook" / "cpp.md").read_text()
    (folder / "classify.cpp").write_text(re.search(r"(?s)```cpp\n(.*?)```", page)[1])
    includes = ("-I", ROOT / "samples" / "cpp_tensorrt", "-isystem", headers.parent)
    (folder / "libonnxruntime.so.1").symlink_to(runtime)  # as it calls itself
    command = (compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", *includes, "classify.cpp", "libonnxruntime.so.1")
    subprocess.run([*command, f"-Wl,-rpath,{folder}", "-o", "classify"], cwd=folder, check=True)
    return folder / "classify"


@pytest.mark.slow
def test_the_cpp_program_answers_as_python_does(classify, tiny_onnx, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "cat.ppm")
    command = [classify, tiny_onnx, library_path("onnxruntime"), tmp_path / "cat.ppm"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found, logit = re.fullmatch(r"class (\d+), logit (\S+)\n", said).groups()
    logits = load(tiny_onnx).predict(pixels).logits
    assert int(found) == logits.argmax()
    assert float(logit) == pytest.approx(float(logits.max()), abs=float(0.05 * logits.std()))


@pytest.mark.slow
def test_the_cpp_program_says_what_is_wrong(classify, tiny_onnx, tmp_path):
    command = [classify, tiny_onnx, library_path("onnxruntime"), tmp_path / "none.ppm"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "none.ppm cannot be opened" in done.stderr
