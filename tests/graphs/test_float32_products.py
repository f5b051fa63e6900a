import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from vimdeploy.graphs.float32_products import with_float32_products


def matmul(type_):
    """One product, of a value of this type with a constant."""
    weight = helper.make_tensor("weight", type_, [2, 1], [1.0, 1.0])
    nodes = [
        helper.make_node("Cast", ["x"], ["x_t"], "x_t", to=type_),
        helper.make_node("MatMul", ["x_t", "weight"], ["y_t"], "product"),
        helper.make_node("Cast", ["y_t"], ["y"], "y", to=TensorProto.FLOAT),
    ]
    x, y = (
        helper.make_tensor_value_info(*v) for v in (("x", TensorProto.FLOAT, [1, 2]), ("y", TensorProto.FLOAT, [1, 1]))
    )
    inside = [helper.make_tensor_value_info(name, type_, shape) for name, shape in (("x_t", [1, 2]), ("y_t", [1, 1]))]
    graph = helper.make_graph(nodes, "graph", [x], [y], [weight], value_info=inside)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def answer(model, *values):
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.array([values], dtype=np.float32)})[0].item()


@pytest.mark.parametrize("type_", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
class TestAHalfProduct:
    def test_is_computed_in_float32_between_casts(self, type_):
        model = onnx.load_model_from_string(with_float32_products(matmul(type_)))
        onnx.checker.check_model(model, full_check=True)
        assert [node.op_type for node in model.graph.node] == ["Cast", "Cast", "Cast", "MatMul", "Cast", "Cast"]

    def test_has_its_factors_rounded(self, type_):
        unit = 2.0**-10 if type_ == TensorProto.FLOAT16 else 2.0**-7
        assert answer(with_float32_products(matmul(type_)), 1 + unit / 4, 1.0) == 2

    def test_has_its_result_rounded(self, type_):
        unit = 2.0**-10 if type_ == TensorProto.FLOAT16 else 2.0**-7
        assert answer(with_float32_products(matmul(type_)), 8.0, unit) == 8

    def test_of_the_given_model_stays_as_it_is(self, type_):
        model = matmul(type_)
        with_float32_products(model)
        assert model == matmul(type_)


def test_a_result_beyond_float16_is_infinite():
    assert answer(with_float32_products(matmul(TensorProto.FLOAT16)), 6e4, 6e4) == np.inf


def test_a_float32_product_is_left_alone():
    model = onnx.load_model_from_string(with_float32_products(matmul(TensorProto.FLOAT)))
    assert model == matmul(TensorProto.FLOAT)
