"""docs/accuracy.md and the script that makes it."""

import json
import re

import numpy as np
import pytest
from helpers.loading import ROOT, script

from vimdeploy.tasks.detections import Detections

pytest.importorskip("pycocotools", reason="judges detections: pip install '.[dev]'")
pytest.importorskip("sklearn", reason="judges masks: pip install '.[dev]'")

DOCUMENT = ROOT / "docs" / "accuracy.md"


@pytest.fixture(scope="module")
def accuracy():
    return script("benchmarks/accuracy.py")


def test_the_numbers_of_a_row(accuracy):
    wanted = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], np.float32)  # the third answer is wrong
    found = np.array([[1, 0], [0, 1], [0, 1], [0, 1.5]], np.float32)  # and now the second instead
    assert list(accuracy.ClassScores([], np.array([0, 0, 1, 1])).cells(found, wanted)) == [
        "3 of 4",
        "75.00% (30.06% to 95.44%)",
        "50.00%",
        "1, 1",
        "2.0e+00",
    ]


def test_pytorch_is_not_compared_with_itself(accuracy):
    logits = np.eye(2, dtype=np.float32)
    assert list(accuracy.ClassScores([], np.array([0, 1])).cells(logits, logits))[2:] == ["", "", ""]


@pytest.fixture
def pictures(tmp_path):
    """A folder whose picture has an object of category 0 in its upper left quarter, as ``accuracy.py`` reads it."""
    square = {"size": [4, 4], "counts": [0, 2, 2, 2, 10]}
    annotation = {"id": 1, "image_id": 0, "category_id": 0, "bbox": [0, 0, 2, 2], "area": 4, "iscrowd": 0}
    images = [{"id": 0, "file_name": "000.png", "height": 4, "width": 4}]
    truth = {"images": images, "annotations": [annotation | {"segmentation": square}], "categories": [{"id": 0}]}
    (tmp_path / "pictures.json").write_text(json.dumps(truth))
    return tmp_path / "pictures"


def test_masks_are_judged_by_mean_iou(accuracy, pictures):
    scores = accuracy.PixelScores.read(pictures, None)
    wanted = np.zeros((1, 4, 4), int)
    wanted[0, :2, :2] = 1
    np.testing.assert_array_equal(scores.classes, wanted)
    found = wanted.copy()
    found[0, 0, 0] = 0  # one of four pixels is missing, of twelve one too many: (3 / 4 + 12 / 13) / 2
    assert list(scores.cells(found, wanted)) == ["83.65%", "93.75%", "93.75%"]
    assert list(scores.cells(wanted, wanted)) == ["100.00%", "100.00%", ""]


def detections(*boxes):
    count = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.full(count, 0.5, np.float32),
        np.zeros(count, np.int64),
        np.ones((count, 28, 28), np.float32),
        (4, 4),
    )


@pytest.mark.parametrize(
    ("found", "cells"),
    [
        ([(0, 0, 2, 2)], ["100.0%"] * 4 + ["1", "100.00%"]),
        ([(0, 0, 2, 1.25)], ["30.0%", "100.0%", "10.0%", "100.0%", "1", "100.00%"]),  # IoU 0.625; the mask's is 0.5
        ([], ["0.0%"] * 4 + ["0", "0.00%"]),
    ],
)
def test_detections_are_judged_by_average_precision(accuracy, pictures, found, cells):
    scores = accuracy.ObjectScores.read(pictures, None)
    assert list(scores.cells([detections(*found)], [detections((0, 0, 2, 2))])) == cells


@pytest.mark.parametrize("sample", ["digits", "fashion", "segmentation", "detection"])
def test_every_precision_is_in_the_document(accuracy, sample):
    [chapter] = re.findall(rf"(?ms)^## {sample.capitalize()}.*?(?=^## |\Z)", DOCUMENT.read_text())
    rows = {(row[0], row[1]) for row in (line.split(" | ") for line in re.findall(r"(?m)^\| (.+) \|$", chapter))}
    ways = ("ONNX Runtime, library", "ONNX Runtime, function body")
    assert {(precision, way) for precision in accuracy.FILES.values() for way in ways} <= rows


def test_the_document_and_the_readme_agree():
    [right] = re.findall(r"(?m)^\| checkpoint \| PyTorch \| [\d.]+ \| (\d+ of 2000) ", DOCUMENT.read_text())
    assert right.replace(" of ", " of the ") in (ROOT / "samples" / "fashion" / "README.md").read_text()
