import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from vimdeploy.converters.quantize.linears import linear_layers, other_products, with_products

NAMES = [f"layers.{i}.mixer.{name}.MatMul" for i in range(2) for name in ("in_proj", "out_proj")]


def test_of_a_vim(tiny_proto):
    layers = linear_layers(tiny_proto)
    assert [layer.name for layer in layers] == NAMES
    assert [layer.weight.shape for layer in layers] == [(16, 64), (32, 16)] * 2


def test_other_products_and_why(tiny_proto):
    reasons = other_products(tiny_proto)
    assert list(reasons) == ["layers.0.mixer.MatMul", "layers.1.mixer.MatMul", "head.Gemm"]
    assert reasons["head.Gemm"] == "gives an output of the model"


def test_a_product_of_two_values_is_no_layer():
    value = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2, 2])
    result = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2, 2])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "x"], ["y"])], "square", [value], [result])
    model = helper.make_model(graph)
    assert linear_layers(model) == []
    assert other_products(model) == {}


def test_weights_are_those_of_the_file(tiny_proto):
    [layer, *_] = linear_layers(tiny_proto)
    [tensor] = [tensor for tensor in tiny_proto.graph.initializer if tensor.name == f"{layer.name}.weight"]
    assert (numpy_helper.to_array(tensor) == layer.weight).all()


class TestWithProducts:
    """Gemm nodes, which foreign graphs have in the middle too, become layers."""

    @staticmethod
    def model(**attributes):
        weights = {
            "w": np.arange(6, dtype=np.float32).reshape(3, 2),
            "b": np.ones(3, np.float32),
            "v": np.ones((3, 4), np.float32),
        }
        value, result = (
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", size])
            for name, size in (("x", 2), ("y", 4))
        )
        inner = helper.make_tensor_value_info("h", onnx.TensorProto.FLOAT, ["batch", 3])
        nodes = [
            helper.make_node("Gemm", ["x", "w", "b"], ["h"], "inner.Gemm", transB=1, **attributes),
            helper.make_node("Gemm", ["h", "v"], ["y"], "head.Gemm"),
        ]
        stored = [numpy_helper.from_array(array, name) for name, array in weights.items()]
        graph = helper.make_graph(nodes, "two", [value], [result], stored, value_info=[inner])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)

    def test_one_inside_is_a_layer_under_its_name_and_the_head_stays(self):
        changed = with_products(self.model())
        onnx.checker.check_model(changed, full_check=True)
        assert [(node.op_type, node.name) for node in changed.graph.node] == [
            ("MatMul", "inner.Gemm"),
            ("Add", "inner.Gemm.sum"),
            ("Gemm", "head.Gemm"),
        ]
        [layer] = linear_layers(changed)
        assert (layer.name, layer.weight.tolist()) == ("inner.Gemm", [[0, 2, 4], [1, 3, 5]])
        assert "w" not in {tensor.name for tensor in changed.graph.initializer}

    def test_answers_the_same(self):
        given = {"x": np.float32([[1, 2], [3, 4]])}
        wanted, found = (
            ReferenceEvaluator(model).run(None, given)[0] for model in (self.model(), with_products(self.model()))
        )
        np.testing.assert_array_equal(found, wanted)

    def test_one_that_is_more_than_a_product_and_a_sum_stays(self):
        assert [node.op_type for node in with_products(self.model(alpha=2.0)).graph.node] == ["Gemm", "Gemm"]
