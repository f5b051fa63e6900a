"""Files of format 1, as vimdeploy 0.1.0 wrote them before its metadata had inputs, outputs and tasks, still work.

Both are the tiny model with the random weights of seed 0; one takes 32x32 pixels, the size that its weights were made
for, the other 40x48.
"""

from pathlib import Path

import numpy as np
import pytest
from helpers.loading import ROOT
from PIL import Image

import vimdeploy
from vimdeploy.model_info import FromSeed

FILES = {(32, 32): "tiny.onnx", (40, 48): "tiny_40x48.onnx"}


@pytest.fixture(params=FILES, ids=str)
def size(request):
    return request.param


@pytest.fixture
def old(size):
    return ROOT / "tests/data/format_1" / FILES[size]


def test_says_what_it_is(old, size):
    info = vimdeploy.load(old).info
    assert (info.task, info.architecture, info.image_size, info.origin) == ("classification", "vim", size, FromSeed(0))


def test_answers(old):
    answer = vimdeploy.load(old).predict(Image.new("RGB", (64, 48), "orange"))
    assert sorted(prediction.label for prediction in answer.predictions) == ["ant", "bee", "cat", "dog", "eel"]
    assert sum(prediction.probability for prediction in answer.predictions) == pytest.approx(1)


def test_every_stage_and_weight_is_verified(old):
    for result in vimdeploy.verify(old, count=2):
        assert result.passed
        assert len(result.stages) == 18
        assert result.weights.compared == 27


def test_converts(old, tmp_path):
    made = vimdeploy.convert(old, tmp_path / "half.onnx", "fp16", count=1, images=_pictures(tmp_path))
    assert made.artifact.info.precision == "fp16"
    assert all(result.passed for result in made.parity)


@pytest.mark.slow
def test_builds(old, size, tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx, which builds without a GPU")
    built = vimdeploy.build(old, tmp_path / "old.engine", flavor="rtx")
    assert built.artifact.engine.profiles[0]["images"][2] == (8, 3, *size)


def _pictures(folder: Path) -> Path:
    (folder / "pictures").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "pictures/noise.png")
    return folder / "pictures"
