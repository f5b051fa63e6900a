"""Graphs in float16 and bfloat16: where the types are, and that the answers' tolerance tells a fault."""

import dataclasses
import re
from functools import cache

import ml_dtypes
import numpy as np
import onnx
import onnx_ir
import pytest
import torch
from helpers.precision import lowered
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from vimdeploy.artifact import artifact_from_onnx, operator_counts
from vimdeploy.errors import ConfigError
from vimdeploy.exporters.onnx_graph import onnx_from_model
from vimdeploy.graphs.precision import nodes_by_value_in_t
from vimdeploy.inputs import random_inputs
from vimdeploy.model_info import ModelInfo
from vimdeploy.networks import network_of_variant
from vimdeploy.ops.torch_ops import causal_conv1d, selective_scan
from vimdeploy.parity.check import check_parity
from vimdeploy.runtimes.eager import EagerSession
from vimdeploy.runtimes.onnxruntime import OnnxRuntimeSession

TYPES = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
NUMPY_TYPES = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16}
BLOCK = [
    *("Pow", "ReduceMean", "Add", "Sqrt", "Div", "Mul"),  # the norm
    *("Cast", "MatMul", "BidirectionalConv1d", "MatMul", "BidirectionalSelectiveScan", "MatMul", "Cast"),
    "Add",
]
MIXER = ("in_proj.MatMul", "BidirectionalConv1d", "MatMul", "BidirectionalSelectiveScan", "out_proj.MatMul")


@pytest.fixture(scope="module", params=TYPES)
def precision(request):
    return request.param


@pytest.fixture(scope="module")
def half(tiny_proto, precision):
    return lowered(tiny_proto, precision)


@pytest.fixture(scope="module")
def opset_22(tiny_network):
    """The tiny model in float32, of an opset that has convolutions of bfloat16."""
    return onnx_from_model(tiny_network.module, tiny_network.info, opset=22)


@cache
def changed(variant, change):
    """A network and its float32 file, the weights being changed."""
    network = network_of_variant(variant, 0)
    with torch.no_grad():
        change(network.module.backbone)
    return network, onnx_from_model(network.module, network.info)


@pytest.mark.parametrize("precision", ["fp16"])
def test_an_export_is_the_float32_one_lowered(tiny_network, tiny_proto, precision):
    info = dataclasses.replace(tiny_network.info, precision=precision)
    exported, wanted = onnx_from_model(tiny_network.module, info), lowered(tiny_proto, precision)
    for part in ("node", "input", "output"):
        assert list(getattr(exported.graph, part)) == list(getattr(wanted.graph, part))
    first, second = ({tensor.name: tensor for tensor in model.graph.initializer} for model in (exported, wanted))
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        np.testing.assert_array_equal(numpy_helper.to_array(tensor), numpy_helper.to_array(second[name]))
    entries = {entry.key: entry.value for entry in exported.metadata_props}
    assert ModelInfo.from_metadata(entries).precision == precision


def type_of(model, name):
    """The element type of a value."""
    values = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return (types | {tensor.name: tensor.data_type for tensor in model.graph.initializer})[name]


class TestTypes:
    def test_a_block_has_a_cast_before_in_proj_and_one_behind_out_proj(self, half):
        for i in range(2):
            assert [n.op_type for n in half.graph.node if n.name.startswith(f"layers.{i}.")] == BLOCK

    @pytest.mark.parametrize(
        "name",
        [
            "layers.0.mixer.in_proj.MatMul.weight",
            "layers.1.mixer.BidirectionalConv1d.weight",
            "layers.1.mixer.MatMul.weight",
            "layers.0.mixer.BidirectionalSelectiveScan.dt_weight",
            "layers.0.mixer.out_proj.MatMul.weight",
        ],
    )
    def test_weights_of_products_are_rounded(self, half, tiny_proto, precision, name):
        rounded, given = (
            next(numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name == name)
            for model in (half, tiny_proto)
        )
        assert rounded.dtype == NUMPY_TYPES[precision]
        np.testing.assert_array_equal(rounded, given.astype(NUMPY_TYPES[precision]))

    @pytest.mark.parametrize(
        "name",
        [
            *("images", "pos_embed", "cls_token", "layers.0.norm.weight"),
            "layers.0.mixer.BidirectionalSelectiveScan.dt_bias",
            "layers.1.mixer.BidirectionalSelectiveScan.A",
            "layers.1.mixer.BidirectionalSelectiveScan.D",
            *("layers.0.Add", "layers.0.norm.Pow", "layers.0.norm.ReduceMean", "layers.0.norm.Mul", "norm_f.Mul"),
            *("head.weight", "logits"),
        ],
    )
    def test_stay_float32(self, half, name):
        assert type_of(half, name) == TensorProto.FLOAT

    @pytest.mark.parametrize("name", MIXER)
    def test_values_inside_a_mixer_are_of_t(self, half, precision, name):
        assert type_of(half, f"layers.1.mixer.{name}") == TYPES[precision]

    @pytest.mark.parametrize(
        ("precision", "opset", "wanted"),
        [("fp16", 20, TensorProto.FLOAT16), ("bf16", 20, TensorProto.FLOAT), ("bf16", 22, TensorProto.BFLOAT16)],
    )
    def test_the_convolution_is_of_t_if_the_opset_has_it(self, tiny_proto, opset_22, precision, opset, wanted):
        model = lowered({20: tiny_proto, 22: opset_22}[opset], precision)
        assert type_of(model, "patch_embed.proj.Conv") == type_of(model, "patch_embed.proj.weight") == wanted


class TestNames:
    def test_of_nodes_and_weights_stay(self, half, tiny_proto):
        for part in ("node", "initializer", "input", "output"):
            before, after = ({item.name for item in getattr(model.graph, part)} for model in (tiny_proto, half))
            assert before <= after
            assert all(re.search(r"\.b?float(16|32)$", name) for name in after - before)

    def test_a_cast_is_named_after_what_it_gives(self, half, precision):
        [node] = [node for node in half.graph.node if list(node.input) == ["layers.0.norm.Mul"]]
        assert node.name == node.output[0] == f"layers.0.norm.Mul.{'float16' if precision == 'fp16' else 'bfloat16'}"


@pytest.mark.slow
class TestOtherModels:
    """Modules that are no Vim."""

    class Twice(nn.Module):
        """Two products read one value, and a sum reads the weight of one of them too."""

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(32, 32))
            self.head = nn.Linear(32, 5)

        def forward(self, images):
            x = images.mean(1)  # (B, 32, 32)
            return self.head((x @ self.weight + x @ self.weight.T + self.weight).mean(1))

    @pytest.fixture
    def export(self, tiny_info, precision):
        return lambda module: onnx_from_model(module, dataclasses.replace(tiny_info, precision=precision))

    def test_a_value_is_cast_once_and_a_weight_that_a_sum_reads_too_stays_as_it_is(self, export):
        model = export(self.Twice())
        casts = [node.input[0] for node in model.graph.node if node.op_type == "Cast"]
        assert sorted(casts) == ["MatMul", "MatMul_2", "ReduceMean", "weight"]
        assert type_of(model, "weight") == TensorProto.FLOAT

    def test_without_products_nothing_is_cast(self, export):
        model = export(nn.Sequential(nn.Flatten(), nn.ReLU()))
        assert [node.op_type for node in model.graph.node] == ["Reshape", "Relu"]

    class Scans(nn.Module):
        """The operators of other people's models, one behind the other, with groups that read both ways."""

        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.embed, self.head = nn.Linear(32, 12), nn.Linear(8, 5)
            self.taps, self.bias = nn.Parameter(torch.randn(2, 8, 4)), nn.Parameter(torch.randn(2, 8))
            self.A_log, self.D = nn.Parameter(torch.randn(2, 8, 3)), nn.Parameter(torch.randn(2, 8))
            self.to_b_and_c, self.dt_weight = nn.Linear(8, 6), nn.Parameter(torch.randn(2, 8, 2))

        def forward(self, images):
            x = self.embed(images.mean(1))  # (B, L, 12), of which the convolution reads 8
            u = causal_conv1d(x, self.taps, self.bias, reverse=(0, 1)).transpose(0, 1)  # (B, 2, L, 8)
            A, D = -self.A_log.exp(), self.D
            b, c = self.to_b_and_c(u).split(3, dim=-1)
            y = selective_scan(u, u, A, b, c, D, D, reverse=(0, 1))
            y = selective_scan(y, u[..., :2], A, b, c, D, D, delta_weight=self.dt_weight, reverse=(0, 1))
            return self.head(y.mean((1, 2)))

    def test_scans_of_groups_are_of_t_but_for_a_d_and_the_bias(self, export, precision):
        model = export(self.Scans())
        scans = [node for node in model.graph.node if node.op_type in ("SelectiveScan", "LowRankSelectiveScan")]
        t, float32 = TYPES[precision], TensorProto.FLOAT
        for scan in scans:
            types = [type_of(model, name) for name in (*scan.input[:7], *scan.output)]
            assert types == [t, t, float32, t, t, float32, float32, t]
        assert [type_of(model, name) for name in ("dt_weight", "taps", "bias")] == [t, t, t]
        names = {"CausalConv1d", "SelectiveScan", "LowRankSelectiveScan"}
        assert {function.name for function in model.functions} == names == operator_counts(model).keys()

    def test_scans_of_groups_answer_as_pytorch_does(self, export, precision):
        module, images = self.Scans(), torch.randn(2, 3, 32, 32)
        session = OnnxRuntimeSession(artifact_from_onnx(export(module)), device="cpu", operators="function-body")
        with torch.no_grad():
            wanted = module(images).numpy()
        error = np.abs(session.run(images.numpy())["logits"] - wanted).max() / np.abs(wanted).max()
        assert error < {"fp16": 0.005, "bf16": 0.04}[precision]  # five units of the type


def large(backbone):
    backbone.layers[1].mixer.out_proj.weight[3, 2] = -1e5


class TestTooLarge:
    def test_for_float16_is_refused(self, tiny):
        name = r"layers\.1\.mixer\.out_proj\.MatMul"
        with pytest.raises(
            ConfigError, match=rf"{name}\.weight has a value of 1e\+05, too large for float16; keep {name} in float32"
        ):
            lowered(changed(tiny, large)[1], "fp16")

    def test_for_float16_is_not_for_bfloat16(self, tiny):
        assert lowered(changed(tiny, large)[1], "bf16")

    def test_for_float16_is_not_for_a_node_that_is_kept(self, tiny):
        assert lowered(changed(tiny, large)[1], "fp16", ["layers.1.mixer.out_proj.MatMul"])


class TestKept:
    """Nodes that stay in float32."""

    @pytest.fixture
    def lowered(self, tiny_proto, precision):
        """``lowered(node, ...)`` -> the tiny model in T but for these nodes."""
        return lambda *kept: lowered(tiny_proto, precision, kept)

    def test_take_and_give_float32_alone(self, lowered):
        name = "layers.1.mixer.BidirectionalSelectiveScan"
        model = lowered(name)
        [node] = [node for node in model.graph.node if node.name == name]
        assert {type_of(model, value) for value in (*node.input, *node.output)} == {TensorProto.FLOAT}

    def test_read_what_others_give_through_casts(self, lowered, precision):
        name, t = "layers.1.mixer.BidirectionalSelectiveScan", "float16" if precision == "fp16" else "bfloat16"
        casts = [node.name for node in lowered(name).graph.node if node.op_type == "Cast" and "1.mixer" in node.name]
        assert casts == [
            "layers.1.mixer.BidirectionalConv1d.float32",
            "layers.1.mixer.in_proj.MatMul.float32",
            "layers.1.mixer.MatMul.float32",
            f"{name}.{t}",
            "layers.1.mixer.out_proj.MatMul.float32",
        ]

    def test_need_no_cast_between_each_other(self, lowered):
        whole = lowered(*(f"layers.0.mixer.{name}" for name in MIXER))
        assert not [node.name for node in whole.graph.node if node.op_type == "Cast" and "layers.0" in node.name]

    def test_leave_the_others_as_they_are(self, lowered, half):
        model = lowered("layers.0.mixer.out_proj.MatMul")
        assert [n for n in model.graph.node if "layers.1" in n.name] == [
            n for n in half.graph.node if "layers.1" in n.name
        ]

    def test_by_value_are_all_that_make_or_take_it(self, tiny_proto, precision):
        nodes = nodes_by_value_in_t(onnx_ir.from_proto(tiny_proto), precision)
        mixer = "layers.0.mixer"
        assert nodes["layers.0.norm.Mul"] == [f"{mixer}.in_proj.MatMul"]
        assert nodes[f"{mixer}.in_proj.MatMul"] == [
            f"{mixer}.{name}" for name in ("in_proj.MatMul", "BidirectionalConv1d", "BidirectionalSelectiveScan")
        ]
        assert nodes[f"{mixer}.out_proj.MatMul"] == [f"{mixer}.out_proj.MatMul"]
        assert nodes[f"{mixer}.out_proj.MatMul.weight"] == [f"{mixer}.out_proj.MatMul"]

    def test_by_value_has_just_what_becomes_t(self, tiny_proto, half, precision):
        values = nodes_by_value_in_t(onnx_ir.from_proto(tiny_proto), precision)
        names = [*(v.name for v in half.graph.value_info), *(t.name for t in half.graph.initializer)]
        in_t = {name.removesuffix(".float16").removesuffix(".bfloat16") for name in names if type_of(half, name) != 1}
        assert set(values) == {name for name in in_t if type_of(tiny_proto, name) == TensorProto.FLOAT}


def parity_of(proto, network, operators):
    session = OnnxRuntimeSession(artifact_from_onnx(proto), device="cpu", operators=operators)
    [parity] = check_parity(EagerSession(network), [session], random_inputs(network.info, 64, seed=0).batches(64))
    return parity


def rounded_behind(proto, pattern, type_):
    """The graph with the values of these nodes rounded to a type and back."""
    nodes = []
    for node in proto.graph.node:
        nodes.append(node)
        if re.fullmatch(pattern, node.name):
            [name] = node.output
            node.output[0] = f"{name}.exact"
            nodes.append(helper.make_node("Cast", [f"{name}.exact"], [f"{name}.rounded"], to=type_))
            nodes.append(helper.make_node("Cast", [f"{name}.rounded"], [name], to=TensorProto.FLOAT))
    assert len(nodes) > len(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    return proto


def large_residual(backbone):
    backbone.patch_embed.proj.weight *= 3000


def large_scan(backbone):
    mixer = backbone.layers[1].mixer
    mixer.D *= 1e7
    mixer.D_b *= 1e7
    mixer.out_proj.weight *= 1e-6


class TestAnswers:
    def test_are_within_the_tolerance_and_not_those_of_float32(self, half, tiny_network, operators):
        parity = parity_of(half, tiny_network, operators)
        [logits], [same_first] = parity.outputs, parity.answers.measures
        assert parity.passed
        assert same_first.candidate.part == 1
        assert logits.relative > logits.tolerance.limit / 50

    def test_weights_of_bfloat16_in_float16_are_out(self, tiny_network, tiny_proto, operators):
        proto = lowered(tiny_proto, "fp16")
        for tensor in proto.graph.initializer:
            if tensor.data_type == TensorProto.FLOAT16:
                values = numpy_helper.to_array(tensor).astype(ml_dtypes.bfloat16).astype(np.float16)
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        assert not parity_of(proto, tiny_network, operators).passed

    def test_a_norm_in_float16_is_out(self, tiny, operators):
        """A residual of some thousands, as trained models have, whose squares float16 cannot hold."""
        network, proto = changed(tiny, large_residual)
        proto = lowered(proto, "fp16")
        assert parity_of(proto, network, operators).passed
        fault = rounded_behind(proto, r"layers\.\d\.norm\.Pow", TensorProto.FLOAT16)
        assert not parity_of(fault, network, operators).passed

    def test_values_beyond_float16_fail_there_and_pass_in_bfloat16(self, tiny, precision, operators):
        """Outputs of the scan near 1e6, as reported of trained models; every weight is one that float16 can hold."""
        network, proto = changed(tiny, large_scan)
        parity = parity_of(lowered(proto, precision), network, operators)
        assert parity.passed is (precision == "bf16")
        assert np.isfinite(parity.outputs[0].largest) == (precision == "bf16")


def test_several_outputs_of_any_size_are_float32_and_within_the_tolerance(
    any_size_network, any_size_proto, precision, operators
):
    proto = lowered(any_size_proto, precision)
    onnx.checker.check_model(proto, full_check=True)
    assert {type_of(proto, value.name) for value in proto.graph.output} == {TensorProto.FLOAT}
    session = OnnxRuntimeSession(artifact_from_onnx(proto), device="cpu", operators=operators)
    for size in ((16, 24), (40, 32)):
        inputs = random_inputs(any_size_network.info, 8, seed=0, image_size=size)
        [parity] = check_parity(EagerSession(any_size_network), [session], inputs.batches(8))
        assert parity.passed, parity.fault


def test_a_file_is_smaller(half, tiny_proto):
    sizes = [sum(len(tensor.raw_data) for tensor in model.graph.initializer) for model in (half, tiny_proto)]
    assert sizes[0] < 0.75 * sizes[1]


@pytest.mark.parametrize("opset", [20, 22])
def test_the_checker_passes(tiny_proto, opset_22, precision, opset):
    onnx.checker.check_model(lowered({20: tiny_proto, 22: opset_22}[opset], precision), full_check=True)
