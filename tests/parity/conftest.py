"""A Vim of four blocks, in PyTorch and as files of each precision."""

import dataclasses

import pytest

from vimdeploy.artifact import ModelInfo
from vimdeploy.exporters.onnx_graph import onnx_from_model
from vimdeploy.models.config import VimConfig
from vimdeploy.models.vim import vim_with_random_weights
from vimdeploy.runtimes.eager import EagerSession
from vimdeploy.runtimes.onnxruntime import OnnxRuntimeSession

CONFIG = VimConfig(image_size=(32, 32), patch_size=8, stride=8, dim=32, depth=4, num_classes=7)
INFO = ModelInfo("four", CONFIG, weights="random seed 0")


@pytest.fixture(scope="package")
def eager():
    return EagerSession(vim_with_random_weights(CONFIG, seed=0), INFO)


@pytest.fixture(scope="package")
def four_blocks(eager):
    return onnx_from_model(eager.model, INFO)


@pytest.fixture(scope="package", params=["fp16", "bf16"])
def half(request, eager):
    """The model in another precision, and what it says of itself."""
    info = dataclasses.replace(INFO, precision=request.param)
    return onnx_from_model(eager.model, info), info


@pytest.fixture
def session_of():
    """``session_of(proto, operators)`` -> a session on the CPU."""

    def open_session(proto, operators="library", info=INFO):
        return OnnxRuntimeSession(proto.SerializeToString(), info, "cpu", operators=operators)

    return open_session
