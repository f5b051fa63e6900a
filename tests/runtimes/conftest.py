"""A model that gives features of pictures of any size, in PyTorch and as ONNX."""

import pytest

from vimdeploy.exporters.onnx_graph import onnx_from_model
from vimdeploy.networks import AnySize, network_of_variant


@pytest.fixture(scope="session")
def extractor(tiny):
    return network_of_variant(tiny, 0, task="features", image_size=AnySize(), blocks=(0,))


@pytest.fixture(scope="session")
def extractor_proto(extractor):
    return onnx_from_model(extractor.module, extractor.info)
