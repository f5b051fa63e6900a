"""A Vim of four blocks, in PyTorch and as files: of each precision, and of any size."""

import pytest
from helpers.precision import lowered

from vimdeploy.artifact import artifact_from_onnx
from vimdeploy.exporters.onnx_graph import onnx_from_model
from vimdeploy.inputs import random_inputs
from vimdeploy.models.variant import Variant
from vimdeploy.models.vim.config import VimConfig
from vimdeploy.networks import network_of_variant
from vimdeploy.runtimes.eager import EagerSession
from vimdeploy.runtimes.onnxruntime import OnnxRuntimeSession

FOUR = Variant("four", "vim", VimConfig((32, 32), patch_size=8, stride=8, dim=32, depth=4, num_classes=7))


@pytest.fixture(scope="session")
def network():
    return network_of_variant(FOUR, 0)


@pytest.fixture(scope="session")
def eager(network):
    return EagerSession(network)


@pytest.fixture(scope="session")
def four_blocks(network):
    return onnx_from_model(network.module, network.info)


@pytest.fixture(scope="session", params=["fp16", "bf16"])
def half(request, four_blocks):
    """The model in another precision."""
    return lowered(four_blocks, request.param)


@pytest.fixture
def inputs_of(network):
    """``inputs_of(count)`` -> random inputs."""
    return lambda count: random_inputs(network.info, count, seed=0)


@pytest.fixture
def session_of():
    """``session_of(proto, operators)`` -> a session on the CPU."""

    def open_session(proto, operators="library"):
        return OnnxRuntimeSession(artifact_from_onnx(proto), "cpu", operators=operators)

    return open_session
