import onnx
from onnx import helper, numpy_helper

from vimdeploy.converters.quantize.linears import linear_layers, other_products

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
