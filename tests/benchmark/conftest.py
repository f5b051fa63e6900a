"""What the tests of measurements share: ONNX models of another program, a small DeiT, settings that take no time."""

import dataclasses

import onnx
import pytest
from onnx import TensorProto, helper

from vimdeploy.benchmark.sources import Settings
from vimdeploy.models import VARIANTS
from vimdeploy.models.deit.config import DeiTConfig

QUICK = Settings(device="cpu", threads=1, rounds=2, seconds=0, warm_up=1)


@pytest.fixture
def quick():
    return QUICK


@pytest.fixture(scope="class")
def small_deit():
    """A DeiT of few numbers in place of deit_tiny."""
    name = "deit_tiny_patch16_224"
    config = DeiTConfig(dim=24, heads=3, image_size=(32, 48), depth=2, num_classes=7)
    small = dataclasses.replace(VARIANTS[name], config=config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(VARIANTS, name, small)
        yield small


@pytest.fixture
def classifier(tmp_path):
    """``classifier(shape)`` -> an ONNX file of another program: the mean of a picture's values.

    ``others`` are inputs that it does not use: shape and type by name.
    """

    def write(shape=("batch", 3, 32, 32), elem_type=TensorProto.FLOAT, others=None):
        inputs = {"pixels": (shape, elem_type)} | (others or {})
        values = [helper.make_tensor_value_info(name, type_, dims) for name, (dims, type_) in inputs.items()]
        out = helper.make_tensor_value_info("mean", elem_type, ["batch"])
        node = helper.make_node("ReduceMean", ["pixels", "axes"], ["mean"], keepdims=0)
        axes = helper.make_tensor("axes", TensorProto.INT64, [3], [1, 2, 3])
        graph = helper.make_graph([node], "classifier", values, [out], [axes])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        path = tmp_path / "classifier.onnx"
        onnx.save(model, path)
        return path

    return write
