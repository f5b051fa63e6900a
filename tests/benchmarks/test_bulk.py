"""benchmarks/bulk.py measures what it says."""

import re

import pytest
from click.testing import CliRunner
from helpers.loading import script
from PIL import Image

bulk = script("benchmarks/bulk.py")


def test_pictures_are_as_large_as_they_should_be(tmp_path):
    bulk.make_pictures(tmp_path, 2)
    [first, second] = sorted(tmp_path.glob("*/*.jpg"))
    with Image.open(first) as image:
        assert image.size == (500, 375)
    assert first.read_bytes() != second.read_bytes()


@pytest.mark.slow
def test_prints_the_ratio(tiny_onnx):
    result = CliRunner().invoke(
        bulk.main, [str(tiny_onnx), "--count", "20", "--seconds", "0.05", "--workers", "2"], catch_exceptions=False
    )
    *lines, last = result.output.splitlines()
    assert [line.split(":")[0] for line in lines[1:]] == [
        "sessions alone",
        "run, 2 pictures",
        "run, 20 pictures",
        "sessions alone",
    ]
    assert re.fullmatch(r"run reaches \d+\.\d% of the sessions alone, \d+\.\d% once it has started", last)
