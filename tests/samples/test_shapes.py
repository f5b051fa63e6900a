"""The shapes sample: its pictures, the losses of its trainings, and what its models find."""

import json
import re

import numpy as np
import pytest
import torch
from helpers.loading import ROOT, script

from vimdeploy.artifact import artifact_from_onnx
from vimdeploy.checkpoint import load_checkpoint
from vimdeploy.exporters.onnx_graph import onnx_from_model
from vimdeploy.models import variant_by_name
from vimdeploy.models.heads.detect import moved
from vimdeploy.networks import network_of_variant
from vimdeploy.ops.detection_ops import roi_align
from vimdeploy.runtimes.onnxruntime import OnnxRuntimeSession

for package in ("matplotlib", "pycocotools", "skimage", "sklearn"):
    pytest.importorskip(package, reason="makes and judges the pictures: pip install '.[dev]'")

SHAPES = ROOT / "samples" / "shapes"


@pytest.fixture(scope="module", autouse=True)
def _as_the_scripts_are_run():
    """Python puts a script's folder at the head of its path; they import each other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SHAPES))
        yield


@pytest.fixture(scope="module")
def scenes():
    return script("samples/shapes/scenes.py")


@pytest.fixture(scope="module")
def training():
    return script("samples/shapes/train_detection.py")


@pytest.fixture(scope="module")
def accuracy():
    return script("benchmarks/accuracy.py")


def test_the_same_number_gives_the_same_picture(scenes):
    first, again, other, training = (
        scenes.scene(part, number, 64) for part, number in (("test", 1), ("test", 1), ("test", 2), ("training", 1))
    )
    np.testing.assert_array_equal(first.picture, again.picture)
    np.testing.assert_array_equal(first.classes, again.classes)
    assert not np.array_equal(first.picture, other.picture)
    assert not np.array_equal(first.picture, training.picture)


def test_figures_do_not_overlap_and_fill_their_boxes(scenes):
    for number in range(20):
        figures = scenes.scene("training", number, 64).figures
        assert np.sum([figure.mask for figure in figures], axis=0).max() == 1
        for figure in figures:
            left, top, right, bottom = figure.box
            inside = figure.mask[top:bottom, left:right]
            assert inside.sum() == figure.mask.sum()
            assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


def test_all_kinds_are_there(scenes):
    kinds = {figure.kind for number in range(40) for figure in scenes.scene("test", number, 64).figures}
    assert kinds == set(range(len(scenes.KINDS)))


def test_held_out_pictures_are_on_photographs_of_their_own(scenes):
    assert not set(scenes.PHOTOGRAPHS["training"]) & set(scenes.PHOTOGRAPHS["test"])


def test_pictures_as_files_and_what_is_on_them(scenes, monkeypatch, tmp_path):
    from PIL import Image
    from pycocotools import mask

    monkeypatch.setattr(scenes, "COUNTS", {"test": 2})
    assert scenes.write_files(tmp_path / "pictures") == 2
    document = json.loads((tmp_path / "pictures.json").read_text())
    assert [category["name"] for category in document["categories"]] == list(scenes.KINDS)
    for image in document["images"]:
        made = scenes.scene("test", image["id"], scenes.SIDE)
        with Image.open(tmp_path / "pictures" / image["file_name"]) as picture:
            np.testing.assert_array_equal(np.asarray(picture), made.picture)
        found = [line for line in document["annotations"] if line["image_id"] == image["id"]]
        for line, figure in zip(found, made.figures, strict=True):
            np.testing.assert_array_equal(mask.decode(line["segmentation"]), figure.mask)
            left, top, right, bottom = figure.box
            assert line["bbox"] == [left, top, right - left, bottom - top]
            assert line["category_id"] == figure.kind


@pytest.mark.parametrize("name", ["segmentation", "detection"])
def test_labels_are_the_kinds(scenes, name):
    labels = variant_by_name(str(SHAPES / f"{name}.json")).labels
    assert labels[name == "segmentation" :] == scenes.KINDS


def test_roi_align_of_the_training_is_the_models(training):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 3, 20, 24, generator=generator)
    boxes = torch.rand(2, 9, 4, generator=generator) * 40
    boxes[..., 2:] += boxes[..., :2]  # some reach beyond the picture
    boxes[0, 3] = 0
    for stride, side in ((2, 7), (4, 14)):
        found, wanted = (align(features, boxes, stride, side) for align in (training.roi_align_at_once, roi_align))
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_deltas_move_boxes_to_the_wanted_ones(training):
    boxes, wanted = torch.tensor([[0.0, 0, 10, 20], [5, 5, 9, 8]]), torch.tensor([[2.0, 1, 9, 30], [4, 4, 20, 9]])
    weights = (10.0, 10.0, 5.0, 5.0)
    torch.testing.assert_close(moved(boxes, training.deltas_between(boxes, wanted, weights), weights), wanted)


def test_anchors_that_find_their_figures_cost_nothing(training):
    truth = training.Truth(torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([0]), torch.zeros(1, 10, 10))
    anchors = torch.tensor([[0.0, 0, 10, 9], [50, 50, 60, 60]])
    deltas = torch.cat([training.deltas_between(anchors[:1], truth.boxes), torch.ones(1, 4)])
    logits = torch.tensor([20.0, -20.0])
    assert training.losses_of_anchors(anchors, logits, deltas, truth).tolist() == pytest.approx([0, 0], abs=1e-6)
    off = training.losses_of_anchors(anchors, -logits, deltas + 1, truth)
    assert off[0] == pytest.approx(20)
    assert off[1] > 0


@pytest.mark.slow
def test_losses_of_detection_reach_every_weight(training, scenes):
    model = training.new_detector()
    pairs = [training.tensors(scenes.scene("training", number, training.SIDE)) for number in range(2)]
    losses = training.losses_of(model, *training.together(pairs))
    losses.sum().backward()
    assert losses.shape == (5,)
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.fixture(scope="module")
def held_out(scenes, tmp_path_factory):
    """A folder of the first 40 held-out pictures."""
    folder = tmp_path_factory.mktemp("held_out") / "pictures"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes, "COUNTS", {"test": 40})
        scenes.write_files(folder)
    return folder


def shipped(name, task):
    """A model that is shipped, exported, by ONNX Runtime."""
    variant = variant_by_name(str(SHAPES / f"{name}.json"))
    network = network_of_variant(variant, load_checkpoint(SHAPES / f"{name}.safetensors"), task=task)
    return OnnxRuntimeSession(artifact_from_onnx(onnx_from_model(network.module, network.info)), threads=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "task", "scores", "least"),
    [
        ("segmentation", "segment", "PixelScores", [55, 93]),  # mean IoU, pixels right
        ("detection", "detect", "ObjectScores", [68, 90, 50, 85]),  # AP and AP50 of boxes, and of masks
    ],
)
def test_what_is_shipped_finds_the_figures(accuracy, held_out, name, task, scores, least):
    """Two or three points less than in docs/accuracy.md: these are 40 pictures of 200."""
    judge = getattr(accuracy, scores).read(held_out, None)
    answers = judge.answers(shipped(name, task))
    found = [float(cell.rstrip("%")) for cell in list(judge.cells(answers, answers))[: len(least)]]
    assert all(value >= wanted for value, wanted in zip(found, least, strict=True)), found


def test_the_readme_says_what_the_document_says():
    readme, document = (SHAPES / "README.md").read_text(), (ROOT / "docs" / "accuracy.md").read_text()
    for name, columns in (("Segmentation", ("mean IoU",)), ("Detection", ("box AP", "mask AP"))):
        [chapter] = re.findall(rf"(?ms)^## {name}.*?(?=^## |\Z)", document)
        header, checkpoint = (
            re.search(rf"(?m)^\| {first} \| .* \|$", chapter)[0].split(" | ") for first in ("file", "checkpoint")
        )
        for column in columns:
            assert f"{column} {checkpoint[header.index(column)].replace('%', ' %')}" in readme


@pytest.mark.parametrize("name", ["segmentation", "detection"])
def test_the_weights_are_small_enough_to_ship(name):
    assert (SHAPES / f"{name}.safetensors").stat().st_size < 1_500_000
