"""docs/accuracy.md and the script that makes it."""

import re

import numpy as np
import pytest
from helpers.loading import ROOT, script

DOCUMENT = ROOT / "docs" / "accuracy.md"


@pytest.fixture(scope="module")
def accuracy():
    return script("benchmarks/accuracy.py")


def test_the_numbers_of_a_row(accuracy, tmp_path):
    file = tmp_path / "model.onnx"
    file.write_bytes(bytes(120_000))
    classes = np.array([0, 0, 1, 1])
    wanted = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], np.float32)  # the third answer is wrong
    found = np.array([[1, 0], [0, 1], [0, 1], [0, 1.5]], np.float32)  # and now the second instead
    assert list(accuracy.cells(file, found, wanted, classes)) == [
        "0.12",
        "3 of 4",
        "75.00% (30.06% to 95.44%)",
        "50.00%",
        "1, 1",
        "2.0e+00",
    ]


def test_pytorch_is_not_compared_with_itself(accuracy, tmp_path):
    file = tmp_path / "weights"
    file.write_bytes(b"")
    logits = np.eye(2, dtype=np.float32)
    assert list(accuracy.cells(file, logits, logits, np.array([0, 1])))[3:] == ["", "", ""]


@pytest.mark.parametrize("sample", ["digits", "fashion"])
def test_every_precision_is_in_the_document(accuracy, sample):
    [chapter] = re.findall(rf"(?ms)^## {sample.capitalize()}.*?(?=^## |\Z)", DOCUMENT.read_text())
    rows = {(row[0], row[1]) for row in (line.split(" | ") for line in re.findall(r"(?m)^\| (.+) \|$", chapter))}
    ways = ("ONNX Runtime, library", "ONNX Runtime, function body")
    assert {(precision, way) for precision in accuracy.FILES.values() for way in ways} <= rows


def test_the_document_and_the_readme_agree():
    [right] = re.findall(r"(?m)^\| checkpoint \| PyTorch \| [\d.]+ \| (\d+ of 2000) ", DOCUMENT.read_text())
    assert right.replace(" of ", " of the ") in (ROOT / "samples" / "fashion" / "README.md").read_text()
