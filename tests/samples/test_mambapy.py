"""Somebody else's trained Vision Mamba, whose own scan in PyTorch is the oracle of the operators."""

from collections import Counter

import numpy as np
import onnxruntime
import pytest
import torch
from helpers.loading import ROOT, script

import vimdeploy

pytest.importorskip("sklearn", reason="the digits are in scikit-learn: pip install '.[dev]'")
pytest.importorskip("mambapy", reason="mambapy is not installed: pip install mambapy==1.2.0")

MODEL = "samples/mambapy/mambapy_digits.py"


@pytest.fixture(scope="module")
def own_scan():
    """The model with mambapy's own scan."""
    return script(MODEL).make(use_cuda=False)[0].eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "mambapy.onnx"
    with vimdeploy.compat.mamba():
        model, inputs = script(MODEL).make()
    return vimdeploy.export(model.eval(), inputs, path).artifact


@pytest.fixture(scope="module")
def held_out():
    """The pictures that training never saw, and their digits."""
    return script(MODEL).pictures_and_digits(held_out=True)


@torch.inference_mode()
def test_the_stand_in_answers_as_its_own_scan(own_scan, held_out):
    with vimdeploy.compat.mamba():
        model, _ = script(MODEL).make()
        assert all(layer.mixer.config.use_cuda for layer in model.blocks.layers)
        found = model.eval()(held_out[0])
    wanted = own_scan(held_out[0])
    np.testing.assert_allclose(found, wanted, atol=1e-4 * wanted.std().item())


@torch.inference_mode()
def test_finds_the_digits_as_before(exported, operators, own_scan, held_out):
    pictures, digits = held_out
    session = vimdeploy.load(exported, operators=operators)
    [found] = session.run(pictures.numpy()).values()
    wanted = own_scan(pictures).numpy()
    np.testing.assert_allclose(found, wanted, atol=(1e-4 if operators == "library" else 1e-3) * wanted.std())
    assert (found.argmax(1) == digits.numpy()).mean() > 0.98


def test_each_block_is_the_two_fused_operators(exported):
    counts = Counter(node.op_type for node in exported.model.graph.node if node.domain == "vimdeploy")
    assert counts == {"BidirectionalConv1d": 3, "BidirectionalSelectiveScan": 3}


def test_runs_in_plain_onnx_runtime(exported, own_scan, held_out):
    session = onnxruntime.InferenceSession(exported.data)
    [logits] = session.run(None, {session.get_inputs()[0].name: held_out[0][:7].numpy()})
    assert (logits.argmax(1) == own_scan(held_out[0][:7]).argmax(1).numpy()).all()


def test_the_weights_are_small_enough_to_ship():
    assert (ROOT / "samples/mambapy/digits.safetensors").stat().st_size < 400_000
