"""The trained model that is shipped, in int8: scales from the pictures it was trained on, answers to the others."""

import numpy as np
import pytest
from helpers.loading import ROOT, script
from vimdeploy.models.config import variant_by_name

from vimdeploy.artifact import ModelInfo
from vimdeploy.checkpoint import config_from_checkpoint, load_checkpoint
from vimdeploy.converters.quantize.answers import Pictures, Runner
from vimdeploy.converters.quantize.choose import int8_from_float32
from vimdeploy.exporters.onnx_graph import onnx_from_model
from vimdeploy.models.vim import vim_from_tensors
from vimdeploy.preprocess import find_images
from vimdeploy.tolerance import tolerance_for

pytest.importorskip("sklearn", reason="the digits are in scikit-learn: pip install 'vimdeploy[dev]'")

DIGITS = ROOT / "samples" / "digits"


@pytest.fixture(scope="module")
def model():
    """In float32, and what it says of itself."""
    variant = variant_by_name(str(DIGITS / "digits.json"))
    checkpoint = load_checkpoint(DIGITS / "digits.safetensors")
    config = config_from_checkpoint(checkpoint, variant)
    info = ModelInfo("digits", config, variant.recipe, variant.labels)
    return onnx_from_model(vim_from_tensors(config, checkpoint.tensors), info), info


def pictures(folder, held_out):
    script("samples/digits/data.py").write_files(folder, held_out)
    found = find_images(folder)
    return Pictures(found.paths, found.class_indices((), 10))


@pytest.fixture(scope="module")
def made(model, tmp_path_factory):
    proto, info = model
    return int8_from_float32(proto, info, pictures(tmp_path_factory.mktemp("trained_on"), held_out=False))


def test_all_layers_keep_to_the_budget(made):
    assert sum(node.op_type == "QuantizeLinear" for node in made.proto.graph.node) == 16
    assert made.accuracy >= made.float32_accuracy - 0.005


def test_what_the_scan_gives_is_smoothed(made):
    """Its channels are of very different sizes; what the norms give is even enough."""
    assert all(judged.smoothed == ("out_proj" in judged.layer) for judged in made.layers)


def test_pictures_never_seen(made, model, tmp_path):
    held_out = pictures(tmp_path, held_out=True)
    runner = Runner(model[1])
    float32, int8 = (np.concatenate(list(runner.logits(m, held_out, ""))) for m in (model[0], made.proto))
    accuracy, wanted = ((logits.argmax(1) == held_out.classes).mean() for logits in (int8, float32))
    assert accuracy >= wanted - 0.005
    assert np.abs(int8 - float32).max() <= tolerance_for("int8").limit * float32.std()
