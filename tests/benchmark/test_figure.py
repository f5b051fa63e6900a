import dataclasses
import io
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from PIL import Image

from vimdeploy.benchmark.figure import check_figure, figure_of
from vimdeploy.benchmark.results import Result
from vimdeploy.errors import ConfigError, InputError, MissingPackageError

CAPTION = "Machine: a processor."


def row(artifact, side, batch=1, image_size=None):
    return Result(artifact, batch, image_size or (side, side), p50_ms=side / 10, peak_bytes=side * 1_000_000)


@pytest.fixture
def matplotlib():
    return pytest.importorskip("matplotlib", reason="needs matplotlib: pip install '.[bench]'")


@pytest.fixture
def texts(matplotlib):
    """``texts(results)`` -> all that is written in their figure."""

    def draw(results):
        with matplotlib.rc_context({"svg.fonttype": "none"}):
            document = ElementTree.fromstring(figure_of(results, CAPTION, ".svg"))
        return [element.text for element in document.iter("{http://www.w3.org/2000/svg}text")]

    return draw


def test_every_line_has_its_name_and_its_last_value(texts):
    written = texts([row("a.onnx", 512), row("a.onnx", 224), row("/folder/b.onnx", 224)])
    assert (written.count("a.onnx"), written.count("b.onnx")) == (2, 2)
    assert {"51.2 ms", "512 MB", "22.4 ms", "224 MB"} <= set(written)


def test_ticks_are_the_sizes(texts):
    written = texts([row("a", 224), row("a", 512), row("a", 512, image_size=(256, 1024))])
    assert [written.count(text) for text in ("224", "512", "256x1024")] == [2, 2, 2]


def test_a_row_of_panels_for_each_batch(texts):
    written = texts([row("a", 224), row("a", 224, batch=4)])
    assert [text for text in written if "batch" in text] == [
        "Time of a call at batch 1, median (ms)",
        "Peak memory at batch 1 (MB)",
        "Time of a call at batch 4, median (ms)",
        "Peak memory at batch 4 (MB)",
    ]


@pytest.mark.parametrize(
    ("name", "shown"), [(r"a$\frac$b.onnx", r"a$\frac$b.onnx"), ("\x01\x1b.onnx", r"\x01\x1b.onnx")]
)
def test_a_name_is_shown_as_it_is(texts, name, shown):
    assert shown in texts([row(name, 224)])


def test_the_caption_is_there(texts):
    assert CAPTION in texts([row("a", 224)])


@pytest.mark.parametrize(
    ("tasks", "title"),
    [
        (("pyramid", "pyramid"), "Time and memory over image size: pyramid"),
        (("features", "segment"), "Time and memory over image size: features, segment"),
        (("", ""), "Time and memory over image size"),
    ],
)
def test_the_title_names_the_tasks(texts, tasks, title):
    assert title in texts([dataclasses.replace(row(task, 224), task=task) for task in tasks])


def test_what_takes_no_pictures_is_no_point(texts):
    texts([row("a", 224)])
    other = Result("b", 1, None, p50_ms=1.0, peak_bytes=1)
    assert "b" not in texts([row("a", 224), other])


def test_what_failed_is_no_point(texts):
    written = texts([row("a", 224), Result("a", 1, (512, 512), "It is bad."), Result("b", 1, None, "It is gone.")])
    assert "512" not in written
    assert "b" not in written


def test_a_png(matplotlib):
    picture = Image.open(io.BytesIO(figure_of([row("a", 224)], CAPTION, ".png")))
    assert picture.width > picture.height > 400
    assert len(picture.convert("RGB").getcolors(maxcolors=1 << 24)) > 10


def test_the_same_results_are_the_same_svg(matplotlib):
    first, second = (figure_of([row("a", 224)], CAPTION, ".svg") for _ in range(2))
    assert first == second


def test_nothing_to_draw(matplotlib):
    with pytest.raises(InputError, match="no artifact has run"):
        figure_of([Result("a", 1, (224, 224), "It is bad.")], CAPTION, ".svg")


def test_a_format_that_is_none():
    with pytest.raises(ConfigError, match=r"ends on \.svg or \.png; found figure\.pdf"):
        check_figure(Path("figure.pdf"))


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingPackageError, match=r"pip install '.*\[bench\]'"):
        check_figure(Path("figure.svg"))
