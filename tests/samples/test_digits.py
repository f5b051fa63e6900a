"""The trained model that is shipped: as good after the export as before, in every precision."""

import dataclasses

import numpy as np
import onnx
import pytest
from helpers.loading import ROOT, script
from PIL import Image

from vimdeploy.artifact import artifact_from_onnx
from vimdeploy.checkpoint import load_checkpoint
from vimdeploy.exporters.onnx_graph import onnx_from_model
from vimdeploy.inputs import folder_inputs, picture_inputs
from vimdeploy.libraries import library_path
from vimdeploy.model_info import PRECISIONS
from vimdeploy.models import variant_by_name
from vimdeploy.networks import network_of_variant
from vimdeploy.parity.check import check_parity
from vimdeploy.runtimes.eager import EagerSession
from vimdeploy.runtimes.onnxruntime import OnnxRuntimeSession

pytest.importorskip("sklearn", reason="the digits are in scikit-learn: pip install '.[dev]'")

pytestmark = pytest.mark.slow  # the trained model whole, in every precision
DIGITS = ROOT / "samples" / "digits"


@pytest.fixture(scope="module")
def eager():
    variant = variant_by_name(str(DIGITS / "digits.json"))
    return EagerSession(network_of_variant(variant, load_checkpoint(DIGITS / "digits.safetensors")))


@pytest.fixture(scope="module")
def held_out():
    """The pictures that training never saw, and their digits."""
    pictures, digits = script("samples/digits/data.py").images_and_digits(held_out=True)
    return [Image.fromarray(picture) for picture in pictures], digits


@pytest.fixture(scope="module", params=PRECISIONS)
def proto(request, eager):
    return onnx_from_model(eager.module, dataclasses.replace(eager.info, precision=request.param))


@pytest.fixture(scope="module")
def parities(proto, eager, held_out):
    """How ONNX compares with PyTorch on those pictures, by what computes the operators."""
    return compare(proto, eager, *held_out)


def compare(proto, eager, pictures, digits):
    artifact = artifact_from_onnx(proto)
    names = ["library", "function-body"] if library_path() else ["function-body"]
    sessions = [OnnxRuntimeSession(artifact, operators=name) for name in names]
    batches = picture_inputs(pictures, artifact.info).batches(150)
    return dict(zip(names, check_parity(eager, sessions, batches, digits), strict=True))


def test_a_quarter_is_held_out(held_out):
    assert len(held_out[0]) == 450


def test_finds_the_digits_in_pytorch_and_in_onnx(parities, operators):
    measures = {measure.name: measure for measure in parities[operators].answers.measures}
    assert measures["top-1 correct"].reference.part >= 0.97
    assert measures["top-1 correct"].candidate == measures["top-1 correct"].reference


def test_answers_are_the_same(parities, operators):
    assert parities[operators].passed
    assert parities[operators].answers.changed == 0


def test_answers_of_swapped_directions_are_out(proto, eager, held_out, operators):
    """A fault in one block of eight is out of tolerance, in every precision."""
    fault = onnx.ModelProto()
    fault.CopyFrom(proto)
    [scan] = [node for node in fault.graph.node if node.name == "layers.3.mixer.BidirectionalSelectiveScan"]
    [reverse] = [attribute for attribute in scan.attribute if attribute.name == "reverse"]
    reverse.ints[:] = [1, 0]
    pictures, digits = held_out
    assert not compare(fault, eager, pictures[:20], digits[:20])[operators].passed


def test_the_weights_are_small_enough_to_ship():
    assert (DIGITS / "digits.safetensors").stat().st_size < 1_500_000


def test_the_held_out_pictures_as_files(held_out, tmp_path, eager):
    assert script("samples/digits/data.py").write_files(tmp_path) == 450
    counts = np.bincount(folder_inputs(tmp_path, eager.info).classes)
    np.testing.assert_array_equal(counts, np.bincount(held_out[1]))
