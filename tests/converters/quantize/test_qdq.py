"""The graph with Q/DQ nodes: what it is made of, and that it computes what the scales say."""

import dataclasses
import tempfile

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from vimdeploy.artifact import Artifact, artifact_from_onnx
from vimdeploy.converters.quantize.linears import linear_layers
from vimdeploy.converters.quantize.qdq import with_int8
from vimdeploy.converters.quantize.scales import best_scales
from vimdeploy.errors import ModelFileError, OutputError
from vimdeploy.graphs.outputs import with_outputs
from vimdeploy.model_info import INT8
from vimdeploy.ops.schema import register_schemas
from vimdeploy.runtimes.onnxruntime import OnnxRuntimeSession, open_model

IN_PROJ, OUT_PROJ = "layers.0.mixer.in_proj.MatMul", "layers.1.mixer.out_proj.MatMul"


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).standard_normal((2, 3, 32, 32), dtype=np.float32)


def values_of(model, names, images):
    seen = Artifact(None, with_outputs(model, names).SerializeToString(), artifact_from_onnx(model).info)
    return open_model(seen, operators="function-body").session.run(names, {"images": images})


@pytest.fixture(scope="module")
def scales(tiny_proto, images):
    """The scales of one layer as it is, and of one whose input is smoothed."""
    layers = {layer.name: layer for layer in linear_layers(tiny_proto) if layer.name in (IN_PROJ, OUT_PROJ)}
    values = values_of(tiny_proto, [layer.input for layer in layers.values()], images)
    found = {}
    for (name, layer), value in zip(layers.items(), values, strict=True):
        rows = value.reshape(-1, value.shape[-1])
        if name == OUT_PROJ:
            rows = rows * np.linspace(0.01, 10, rows.shape[-1], dtype=np.float32)
        found[name] = best_scales(rows, np.abs(rows).max(axis=0), layer.weight)
    assert [name for name, scales in found.items() if scales.smoothing is not None] == [OUT_PROJ]
    return found


@pytest.fixture(scope="module")
def int8(tiny_proto, scales):
    return with_int8(tiny_proto, scales)


def constants(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def around(model, name):
    """The types of the nodes between a value of the float32 graph and a product, and of the one before its weight."""
    makers = {output: node for node in model.graph.node for output in node.output}
    [product] = [node for node in model.graph.node if node.name == name]
    types, value = [], product.input[0]
    while makers[value].op_type in ("Mul", "QuantizeLinear", "DequantizeLinear") and value != "layers.0.norm.Mul":
        types.append(makers[value].op_type)
        value = makers[value].input[0]
    return types[::-1], makers[product.input[1]].op_type


class TestGraph:
    def test_is_whole(self, int8):
        register_schemas()
        onnx.checker.check_model(int8, full_check=True)

    def test_of_a_layer_as_it_is(self, int8):
        assert around(int8, IN_PROJ) == (["QuantizeLinear", "DequantizeLinear"], "DequantizeLinear")

    def test_of_a_smoothed_layer(self, int8):
        assert around(int8, OUT_PROJ) == (["Mul", "QuantizeLinear", "DequantizeLinear"], "DequantizeLinear")

    def test_all_else_is_as_it_was(self, int8, tiny_proto):
        untouched = {node.name for node in tiny_proto.graph.node} - {IN_PROJ, OUT_PROJ}
        before, after = (
            {node.name: node.SerializeToString() for node in model.graph.node if node.name in untouched}
            for model in (tiny_proto, int8)
        )
        assert before == after
        assert int8.functions == tiny_proto.functions
        assert int8.opset_import == tiny_proto.opset_import
        found, given = constants(int8), constants(tiny_proto)
        assert given.keys() - found.keys() == {f"{IN_PROJ}.weight", f"{OUT_PROJ}.weight"}
        assert int8.producer_name == "vimdeploy"
        assert all((array == found[name]).all() for name, array in given.items() if name in found)

    def test_weights_have_a_step_a_column_inputs_one_step_and_zeros_are_at_zero(self, int8):
        found = constants(int8)
        for node in int8.graph.node:
            if node.op_type == "DequantizeLinear":
                *value, scale, zero_point = node.input
                of_weight = value[0] in found
                assert found[scale].shape == found[zero_point].shape == ((len(found[scale]),) if of_weight else ())
                assert found[zero_point].dtype == np.int8
                assert not found[zero_point].any()
                assert not of_weight or found[value[0]].dtype == np.int8

    def test_no_constant_is_left_over(self, int8):
        read = {name for node in int8.graph.node for name in node.input}
        assert set(constants(int8)) <= read

    def test_layers_with_one_weight_get_one_each(self, tiny_proto, scales):
        model = onnx.ModelProto()
        model.CopyFrom(tiny_proto)
        first, second = (n for n in model.graph.node if n.name in (OUT_PROJ, OUT_PROJ.replace("1", "0")))
        second.input[1] = first.input[1]
        both = with_int8(model, dict.fromkeys((first.name, second.name), scales[OUT_PROJ]))
        register_schemas()
        onnx.checker.check_model(both, full_check=True)


class TestValues:
    def test_a_product_is_what_the_scales_say(self, int8, tiny_proto, scales, images):
        """The input of the second layer depends on the first one; so its own input in that graph is taken."""
        for name in (IN_PROJ, OUT_PROJ):
            alone = with_int8(tiny_proto, {name: scales[name]})
            [layer] = [layer for layer in linear_layers(tiny_proto) if layer.name == name]
            [given], [found] = values_of(tiny_proto, [layer.input], images), values_of(alone, [name], images)
            wanted = scales[name].product(given, layer.weight)
            error = np.abs(found - wanted)
            assert error.max() < 0.05 * wanted.std()  # a value may fall on the level beside
            assert error.mean() < 1e-3 * wanted.std()

    def test_runs_with_the_library_and_with_the_bodies(self, int8, tiny_proto, operators, images):
        original = artifact_from_onnx(tiny_proto)
        info = dataclasses.replace(original.info, precision=INT8)
        wanted = OnnxRuntimeSession(original, operators=operators).run(images)["logits"]
        made = Artifact(None, int8.SerializeToString(), info)
        found = OnnxRuntimeSession(made, operators=operators).run(images)["logits"]
        assert 0 < np.abs(found - wanted).max() < 0.25 * wanted.std()

    def test_the_optimised_graph_has_int8_products(self, int8, tmp_path):
        """ONNX Runtime fuses what it has kernels for; else int8 would be slower than float32."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        onnxruntime.InferenceSession(int8.SerializeToString(), options, providers=["CPUExecutionProvider"])
        fused = onnx.load(tmp_path / "optimised.onnx")
        assert sum(node.op_type == "MatMulIntegerToFloat" for node in fused.graph.node) == 2
        assert not any(node.op_type == "DequantizeLinear" for node in fused.graph.node)
        assert sum(tensor.data_type == TensorProto.INT8 for tensor in fused.graph.initializer) >= 2


def test_no_place_for_temporary_files_is_one_sentence(tiny_proto, scales, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(OutputError, match=r"The folder for temporary files, .*none, cannot be used: No such file"):
        with_int8(tiny_proto, scales)


def test_a_value_of_another_type_than_the_model_says(tiny_proto, scales):
    broken = onnx.ModelProto()
    broken.CopyFrom(tiny_proto)
    [weight] = (value for value in broken.graph.value_info if value.name == "head.weight")
    weight.type.tensor_type.elem_type = TensorProto.STRING
    with pytest.raises(ModelFileError, match=r"values are not of the types that it says: .*differs from existing"):
        with_int8(broken, {IN_PROJ: scales[IN_PROJ]})
