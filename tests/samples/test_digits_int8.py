"""The trained model that is shipped, in int8: scales from the pictures it was trained on, answers to the others."""

import numpy as np
import pytest
from helpers.loading import ROOT, script

from vimdeploy.artifact import artifact_from_onnx
from vimdeploy.checkpoint import load_checkpoint
from vimdeploy.converters.quantize.answers import Runner
from vimdeploy.converters.quantize.choose import int8_from_float32
from vimdeploy.exporters.onnx_graph import onnx_from_model
from vimdeploy.inputs import folder_inputs
from vimdeploy.models import variant_by_name
from vimdeploy.networks import network_of_variant
from vimdeploy.tolerance import tolerance_for

pytest.importorskip("sklearn", reason="the digits are in scikit-learn: pip install '.[dev]'")

pytestmark = pytest.mark.slow  # the trained model whole, in every precision
DIGITS = ROOT / "samples" / "digits"


@pytest.fixture(scope="module")
def model():
    """In float32."""
    variant = variant_by_name(str(DIGITS / "digits.json"))
    network = network_of_variant(variant, load_checkpoint(DIGITS / "digits.safetensors"))
    return artifact_from_onnx(onnx_from_model(network.module, network.info))


def pictures(folder, held_out, info):
    script("samples/digits/data.py").write_files(folder, held_out)
    return folder_inputs(folder, info)


@pytest.fixture(scope="module")
def made(model, tmp_path_factory):
    return int8_from_float32(model, pictures(tmp_path_factory.mktemp("trained_on"), False, model.info))


def test_all_layers_keep_to_the_budget(made):
    assert sum(node.op_type == "QuantizeLinear" for node in made.artifact.model.graph.node) == 16
    assert made.points_lost <= 0.5


def test_what_the_scan_gives_is_smoothed(made):
    """Its channels are of very different sizes; what the norms give is even enough."""
    assert all(judged.smoothed == ("out_proj" in judged.layer) for judged in made.layers)


def test_pictures_never_seen(made, model, tmp_path):
    held_out = pictures(tmp_path, True, model.info)
    runner = Runner(model.info)
    float32, int8 = (
        np.concatenate([outputs["logits"] for outputs in runner.outputs(artifact.model, held_out, "")])
        for artifact in (model, made.artifact)
    )
    accuracy, wanted = ((logits.argmax(1) == held_out.classes).mean() for logits in (int8, float32))
    assert accuracy >= wanted - 0.005
    assert np.abs(int8 - float32).max() <= tolerance_for("int8").limit * float32.std()
