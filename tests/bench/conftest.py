"""What the tests of measurements share: a foreign classifier, and settings that take no time."""

import onnx
import pytest
from onnx import TensorProto, helper

from vimdeploy.bench.subjects import Settings

QUICK = Settings(device="cpu", threads=1, rounds=2, seconds=0, warm_up=1)


@pytest.fixture
def quick():
    return QUICK


@pytest.fixture
def classifier(tmp_path):
    """``classifier(shape)`` -> an ONNX file of another program: the mean of a picture's values."""

    def write(shape=("batch", 3, 32, 32), elem_type=TensorProto.FLOAT, inputs=("pixels",)):
        values = [helper.make_tensor_value_info(name, elem_type, shape) for name in inputs]
        out = helper.make_tensor_value_info("mean", elem_type, ["batch"])
        node = helper.make_node("ReduceMean", ["pixels", "axes"], ["mean"], keepdims=0)
        axes = helper.make_tensor("axes", TensorProto.INT64, [3], [1, 2, 3])
        graph = helper.make_graph([node], "classifier", values, [out], [axes])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        path = tmp_path / "classifier.onnx"
        onnx.save(model, path)
        return path

    return write
