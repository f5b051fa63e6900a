"""Files in float16 and bfloat16 of float32 files: what stays in float32, and that the answers stay the same."""

import dataclasses
import re
from typing import NamedTuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from vimdeploy.artifact import artifact_from_onnx
from vimdeploy.converters.conversion import ASKED
from vimdeploy.converters.conversion import converted_onnx as converted_artifact
from vimdeploy.errors import ConfigError, ModelFileError
from vimdeploy.exporters.onnx_graph import onnx_from_model
from vimdeploy.model_info import ModelInfo
from vimdeploy.networks import network_of_variant
from vimdeploy.parity.check import check_parity
from vimdeploy.runtimes.onnxruntime import OnnxRuntimeSession

SCANS_AND_READERS = [
    "layers.0.mixer.BidirectionalSelectiveScan",
    "layers.0.mixer.out_proj.MatMul",
    "layers.1.mixer.BidirectionalSelectiveScan",
    "layers.1.mixer.out_proj.MatMul",
]


def batches(count=4):
    generator = np.random.default_rng(0)
    return [{"images": generator.standard_normal((1, 3, 32, 32), dtype=np.float32)} for _ in range(count)]


class Converted(NamedTuple):
    model: onnx.ModelProto
    info: ModelInfo
    ranges: dict


def converted_onnx(model, *arguments, **options):
    """The conversion of a model in memory."""
    made = converted_artifact(artifact_from_onnx(model), *arguments, **options)
    return Converted(made.artifact.model, made.artifact.info, made.ranges)


@pytest.fixture(scope="module")
def float32_of(tiny_proto):
    """``float32_of(in_proj=100, ...)`` -> the tiny model in float32, with factors on weights of every block."""

    def scale(**factors):
        model = onnx.ModelProto()
        model.CopyFrom(tiny_proto)
        for tensor in model.graph.initializer:
            match = re.fullmatch(r"layers\.\d\.(?:mixer\.)?(\w+)(?:\.MatMul)?\.weight", tensor.name)
            if match:
                scaled = numpy_helper.to_array(tensor) * np.float32(factors.get(match[1], 1))
                tensor.CopyFrom(numpy_helper.from_array(scaled, tensor.name))
        return model

    return scale


@pytest.fixture(scope="module")
def loud(float32_of):
    """Gated outputs of some 10^5, as reported of trained models, in a model that answers as any other."""
    return float32_of(in_proj=1e3, MatMul=1e-3, out_proj=1e-6)  # MatMul is x_proj


@pytest.fixture(scope="module")
def loud_fp16(loud):
    return converted_onnx(loud, "fp16", batches())


def session_of(model, operators="library"):
    return OnnxRuntimeSession(artifact_from_onnx(model), device="cpu", operators=operators)


def inputs():
    return {"images": np.random.default_rng(1).standard_normal((32, 3, 32, 32), dtype=np.float32)}


def is_finite(model, operators):
    return np.isfinite(session_of(model, operators).run(inputs())["logits"]).all()


def answers_as(converted, model, operators):
    """Whether a conversion is within the tolerance of its float32 file."""
    [result] = check_parity(session_of(model), [session_of(converted.model, operators)], [inputs()])
    return result.passed


def plain(model, precision):
    """The conversion by types alone, blind to what the tensors hold."""
    import onnx_ir

    from vimdeploy.graphs.precision import lower_precision

    graph = onnx_ir.from_proto(model)
    lower_precision(graph, precision)
    converted = onnx_ir.to_proto(graph)
    onnx.helper.set_model_props(
        converted, {entry.key: entry.value for entry in model.metadata_props} | {"vimdeploy.precision": precision}
    )
    return converted


def types_of(model):
    weights = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    return weights | {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}


class TestUsualTensors:
    @pytest.fixture(params=["fp16", "bf16"])
    def converted(self, request, tiny_proto):
        return converted_onnx(tiny_proto, request.param, batches())

    def test_keep_no_node(self, converted):
        assert converted.info.kept_in_float32 == {}
        assert {found.fault for found in converted.ranges.values()} == {None}

    def test_are_all_that_the_types_alone_would_lower(self, converted, tiny_proto):
        assert converted.model.graph == plain(tiny_proto, converted.info.precision).graph

    def test_the_rest_of_the_file_is_what_it_was(self, converted, tiny_proto):
        assert list(converted.model.functions) == list(tiny_proto.functions)
        assert list(converted.model.opset_import) == list(tiny_proto.opset_import)
        for name in ("ir_version", "producer_name", "producer_version"):
            assert getattr(converted.model, name) == getattr(tiny_proto, name)

    def test_ranges_are_of_weights_inner_values_and_the_input(self, converted):
        assert {"layers.0.norm.Mul", "layers.1.mixer.out_proj.MatMul.weight"} <= converted.ranges.keys()
        assert ("images" in converted.ranges) is (converted.info.precision == "fp16")  # opset 20: no bfloat16 Conv
        assert not {"head.weight", "logits", "layers.0.mixer.BidirectionalSelectiveScan.A"} & converted.ranges.keys()
        assert converted.ranges["layers.1.mixer.out_proj.MatMul.weight"].margin == 1
        assert converted.ranges["layers.1.mixer.BidirectionalSelectiveScan"].margin > 1


class TestTensorsBeyondFloat16:
    def test_break_a_blind_conversion(self, loud, operators):
        assert not is_finite(plain(loud, "fp16"), operators)

    def test_keep_the_nodes_that_make_or_take_them(self, loud_fp16):
        assert list(loud_fp16.info.kept_in_float32) == SCANS_AND_READERS

    def test_are_named_in_the_reasons(self, loud_fp16):
        reasons = loud_fp16.info.kept_in_float32
        first = reasons["layers.0.mixer.out_proj.MatMul"]
        assert re.fullmatch(
            r"layers\.0\.mixer\.BidirectionalSelectiveScan reaches \d\.\d+e\+05; float16 ends at 65504", first
        )
        assert reasons["layers.0.mixer.BidirectionalSelectiveScan"] == first

    def test_give_the_answers_of_float32(self, loud, loud_fp16, operators):
        assert answers_as(loud_fp16, loud, operators)

    def test_are_float32_in_the_file_with_all_that_their_nodes_take(self, loud_fp16):
        types, kept = types_of(loud_fp16.model), loud_fp16.info.kept_in_float32
        for node in loud_fp16.model.graph.node:
            if node.name in kept:
                assert {types[name] for name in (*node.input, *node.output)} == {TensorProto.FLOAT}
            elif node.name.startswith("layers.") and node.op_type in ("MatMul", "BidirectionalConv1d"):
                assert {types[name] for name in (*node.input, *node.output)} == {TensorProto.FLOAT16}

    def test_fit_into_bfloat16(self, loud, operators):
        converted = converted_onnx(loud, "bf16", batches())
        assert converted.info.kept_in_float32 == {}
        assert answers_as(converted, loud, operators)

    def test_a_hundredfold_everywhere_gives_finite_answers(self, float32_of, operators):
        """Each of the scan's five factors is a hundred times as large: rounding to any type changes the answers."""
        model = float32_of(norm=100)
        assert not is_finite(plain(model, "fp16"), operators)
        converted = converted_onnx(model, "fp16", batches())
        assert list(converted.info.kept_in_float32) == SCANS_AND_READERS
        assert is_finite(converted.model, operators)


class TestOtherReasons:
    def test_the_input_of_the_scan_and_of_the_convolution(self, float32_of):
        """Where in_proj goes beyond, so do all that read it, and what reads those."""
        kept = converted_onnx(float32_of(in_proj=1e6), "fp16", batches(1)).info.kept_in_float32
        assert {"layers.0.mixer.in_proj.MatMul", "layers.0.mixer.BidirectionalConv1d"} <= kept.keys()
        assert kept["layers.0.mixer.BidirectionalConv1d"].startswith("layers.0.mixer.in_proj.MatMul reaches ")

    def test_a_weight_beyond_float16(self, float32_of, operators):
        model = float32_of(out_proj=1e7)
        converted = converted_onnx(model, "fp16", batches())
        kept = converted.info.kept_in_float32
        assert set(kept) == {"layers.0.mixer.out_proj.MatMul", "layers.1.mixer.out_proj.MatMul"}
        assert kept["layers.1.mixer.out_proj.MatMul"].startswith("layers.1.mixer.out_proj.MatMul.weight reaches ")
        assert answers_as(converted, model, operators)

    def test_a_weight_that_float16_has_few_digits_for(self, float32_of):
        kept = converted_onnx(float32_of(out_proj=1e-5), "fp16", batches(1)).info.kept_in_float32
        assert "out_proj.MatMul.weight loses " in kept["layers.0.mixer.out_proj.MatMul"]
        assert set(kept) == {"layers.0.mixer.out_proj.MatMul", "layers.1.mixer.out_proj.MatMul"}

    def test_asked_for(self, tiny_proto, operators):
        converted = converted_onnx(tiny_proto, "fp16", batches(1), keep=["layers.0.mixer.*", "layers.1.*Scan"])
        kept = converted.info.kept_in_float32
        assert list(kept) == [
            "layers.0.mixer.in_proj.MatMul",
            "layers.0.mixer.BidirectionalConv1d",
            "layers.0.mixer.MatMul",
            "layers.0.mixer.BidirectionalSelectiveScan",
            "layers.0.mixer.out_proj.MatMul",
            "layers.1.mixer.BidirectionalSelectiveScan",
        ]
        assert set(kept.values()) == {ASKED}
        assert answers_as(converted, tiny_proto, operators)

    def test_a_node_that_is_not_there_cannot_be_asked_for(self, tiny_proto):
        with pytest.raises(
            ConfigError, match=r"No node matches 'layers\.7\.\*'\. Nodes that you can keep in float32 include: p"
        ):
            converted_onnx(tiny_proto, "fp16", batches(1), keep=["layers.7.*"])


class TestFile:
    def test_tells_what_is_kept_and_why(self, loud_fp16):
        metadata = {entry.key: entry.value for entry in loud_fp16.model.metadata_props}
        info = ModelInfo.from_metadata(metadata)
        assert info == loud_fp16.info
        assert (info.precision, list(info.kept_in_float32)) == ("fp16", SCANS_AND_READERS)

    def test_keeps_the_metadata_of_others(self, tiny_proto):
        model = onnx.ModelProto()
        model.CopyFrom(tiny_proto)
        model.metadata_props.add(key="author", value="somebody")
        converted = converted_onnx(model, "fp16", batches(1)).model
        assert {entry.key: entry.value for entry in converted.metadata_props}["author"] == "somebody"

    def test_is_half_the_size_where_weights_are_most_of_it(self, tiny):
        config = tiny.config.replace(dim=128, num_classes=10)
        network = network_of_variant(dataclasses.replace(tiny, config=config, labels=()), 0)
        model = onnx_from_model(network.module, network.info)
        converted = converted_onnx(model, "fp16", batches(1)).model
        sizes = [sum(len(tensor.raw_data) for tensor in m.graph.initializer) for m in (converted, model)]
        assert 0.5 < sizes[0] / sizes[1] < 0.56

    def test_is_converted_once(self, loud_fp16):
        with pytest.raises(ModelFileError, match="Wanted a file in fp32, found one in fp16"):
            converted_onnx(loud_fp16.model, "bf16", batches(1))

    def test_the_given_model_is_not_changed(self, tiny_proto):
        before = tiny_proto.SerializeToString()
        converted_onnx(tiny_proto, "fp16", batches(1))
        assert tiny_proto.SerializeToString() == before
