"""The page in headless Chromium."""

import functools
from datetime import datetime, timezone

import pytest
from helpers.browser import CHROMIUM, look
from helpers.made import (
    CHANGED,
    MACHINE,
    SECTIONS,
    changes,
    classified,
    drawn,
    failing,
    features,
    output,
    passing,
    stages,
    taskless,
)

from vimdeploy.parity.results import Side
from vimdeploy.report.page import page_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: tools/fetch_chromium build/chromium"),
]

DATE = datetime(2026, 11, 22, 4, 0, tzinfo=timezone.utc)
LONG = "a_long_name_without_a_space_" * 8


@pytest.fixture(scope="module")
def pages():
    side = Side(LONG, LONG, "fp32", "0" * 64)
    wide = failing(
        reference=side, inputs=LONG, answers=classified(430, shown=changes(3, LONG, LONG)), stages=stages(60)
    )
    outputs = features(outputs=tuple(output(name) for name in ("map", LONG, "block_5")), answers=classified(430))
    made = {
        "pass": [passing()],
        "fail": [failing()],
        "both": [passing(), failing()],
        "long names": [wide],
        "features": [features()],
        "drawn": [drawn()],
        "no task": [taskless()],
        "long outputs": [outputs],
    }
    return {name: page_of(verifications, MACHINE, DATE) for name, verifications in made.items()}


@pytest.fixture(scope="module")
def sight(pages, tmp_path_factory):
    """``sight("fail", 360, "light")`` -> what is seen of that page, looked at once."""

    @functools.cache
    def of(name, width=360, scheme="light"):
        return look(pages[name], tmp_path_factory.mktemp("page"), width, scheme=scheme)

    return of


@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("pass", 360),
        ("fail", 360),
        ("both", 360),
        ("long names", 360),
        ("features", 360),
        ("drawn", 360),
        ("drawn", 1200),
        ("no task", 360),
        ("long outputs", 360),
        ("both", 1200),
    ],
)
def test_a_page_fits_its_window_and_is_quiet(sight, name, width):
    seen = sight(name, width)
    assert seen.found["inner_width"] == width
    assert seen.found["scroll_width"] <= width
    assert (seen.console, seen.requests) == ([], [])
    headings = {heading for _, heading in seen.found["headings"]}
    assert headings >= set(SECTIONS) - ({CHANGED} if name == "no task" else set())


def test_pictures_are_shown(sight):
    assert sight("fail").found["pictures"] == [[f"The picture pictures/3/{n}.png", 8] for n in range(12)]


def test_answers_are_shown_side_by_side(sight):
    assert sight("drawn", 1200).found["pictures"] == [
        ["The reference's answer to street.png", 400],
        ["The candidate's answer to street.png", 400],
    ]


@pytest.mark.parametrize(("scheme", "darker"), [("light", "ink"), ("dark", "paper")])
def test_light_and_dark(sight, scheme, darker):
    found = sight("both", scheme=scheme).found
    paper, inks = _luminance(found["paper"]), [_luminance(ink) for ink in found["inks"]]
    assert len(inks) > 3
    assert all((ink < paper) is (darker == "ink") for ink in inks)
    assert min(_contrast(paper, ink) for ink in inks) >= 4.5  # what WCAG asks of text at level AA


def test_a_page_that_is_too_wide_or_asks_for_something_is_noticed(tmp_path):
    page = '<!doctype html><p style="width: 999px">wide</p><img src="http://example.invalid/x.png">'
    seen = look(page, tmp_path)
    assert seen.found["scroll_width"] > 360
    assert seen.requests == ["http://example.invalid/x.png"]


def test_the_other_outputs_are_folded(sight):
    text = sight("features").found["text"]
    assert "The other 2 outputs" in text
    assert "Output map, the worst" in text
    assert "Output pooled. Bars" not in text


def test_what_a_policy_forbids_is_noticed(pages, tmp_path):
    page = pages["pass"].replace("</body>", "<script>alert(1)</script></body>")
    assert any("Content Security Policy" in line for line in look(page, tmp_path).console)


def _luminance(color):
    """The luminance of ``rgb(31, 35, 40)``, as WCAG defines it."""

    def linear(channel):
        return channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4

    channels = [int(text) / 255 for text in color.removeprefix("rgb(").rstrip(")").split(",")]
    return sum(part * linear(c) for part, c in zip((0.2126, 0.7152, 0.0722), channels, strict=True))


def _contrast(one, other):
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)
