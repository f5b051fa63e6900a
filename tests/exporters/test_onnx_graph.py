import json
import re
import sys
from collections import Counter
from dataclasses import replace
from functools import cache
from importlib.metadata import version

import numpy as np
import onnx
import onnx.reference
import pytest
import torch

from vimdeploy.artifact import artifact_from_onnx
from vimdeploy.errors import ConfigError, MissingPackageError
from vimdeploy.exporters.onnx_graph import onnx_from_model
from vimdeploy.model_info import FromSeed, ModelInfo, TensorSpec
from vimdeploy.models import VARIANTS
from vimdeploy.networks import AnySize, network_of_variant
from vimdeploy.runtimes.onnxruntime import OnnxRuntimeSession

BLOCK = [
    *("Pow", "ReduceMean", "Add", "Sqrt", "Div", "Mul"),  # the norm
    *("MatMul", "BidirectionalConv1d", "MatMul", "BidirectionalSelectiveScan", "MatMul"),
    "Add",
]


@cache
def export(variant, opset=20, **changes):
    """A variant with random weights, some of its numbers changed."""
    network = network_of_variant(replace(variant, config=variant.config.replace(**changes)), 0)
    return onnx_from_model(network.module, network.info, opset)


def dims(value):
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


class TestGraph:
    def test_a_block_is_a_dozen_nodes(self, tiny_proto):
        for i in range(2):
            assert [n.op_type for n in tiny_proto.graph.node if n.name.startswith(f"layers.{i}.")] == BLOCK

    def test_around_the_blocks_no_shape_arithmetic_is_left(self, tiny_proto):
        outside = Counter(n.op_type for n in tiny_proto.graph.node if not n.name.startswith("layers."))
        patches = Counter(["Conv", "Reshape", "Transpose", "Gather", "Where", "Add"])
        head = Counter(["Gather", *BLOCK[:6], "Gemm"])
        assert outside == patches + head

    @pytest.mark.parametrize("class_token", ["first", "none"])
    def test_nor_with_another_class_token(self, tiny, class_token):
        model = export(tiny, class_token=class_token, direction_scale=1.0)
        left = {n.op_type for n in model.graph.node} & {"Shape", "Concat", "Expand", "Slice", "Cast", "Unsqueeze"}
        assert not left

    def test_the_batch_is_dynamic_and_the_rest_is_fixed(self, tiny_proto):
        assert dims(tiny_proto.graph.input[0]) == ["batch", 3, 32, 32]

    def test_the_output_has_the_same_batch(self, tiny_proto):
        assert dims(tiny_proto.graph.output[0]) == ["batch", 5]

    def test_input_and_output_are_named(self, tiny_proto):
        assert (tiny_proto.graph.input[0].name, tiny_proto.graph.output[0].name) == ("images", "logits")

    @pytest.mark.parametrize(
        "name",
        [
            "patch_embed.proj.Conv",
            "layers.0.norm.Mul",
            "layers.1.mixer.in_proj.MatMul",
            "layers.1.mixer.BidirectionalSelectiveScan",
            "norm_f.Div",
            "head.Gemm",
        ],
    )
    def test_nodes_are_named_after_modules(self, tiny_proto, name):
        assert name in {node.name for node in tiny_proto.graph.node}

    @pytest.mark.parametrize(
        "name",
        [
            "pos_embed",
            "cls_token",
            "patch_embed.proj.weight",
            "layers.0.norm.weight",
            "layers.1.mixer.in_proj.MatMul.weight",
            "layers.1.mixer.BidirectionalConv1d.bias",
            "layers.0.mixer.BidirectionalSelectiveScan.dt_weight",
            "head.weight",
        ],
    )
    def test_constants_are_named_after_parameters_or_after_the_node_that_reads_them(self, tiny_proto, name):
        assert name in {tensor.name for tensor in tiny_proto.graph.initializer}

    def test_no_name_speaks_of_the_backbone(self, tiny_proto, any_size_proto):
        for proto in (tiny_proto, any_size_proto):
            names = [name for node in proto.graph.node for name in (node.name, *node.input, *node.output)]
            assert not [name for name in names if "backbone" in name]

    def test_names_of_nodes_and_values_are_unique(self, tiny_proto):
        values = [name for node in tiny_proto.graph.node for name in node.output]
        values += [tensor.name for tensor in tiny_proto.graph.initializer]
        nodes = [node.name for node in tiny_proto.graph.node]
        assert (len(set(values)), len(set(nodes))) == (len(values), len(nodes))

    def test_every_weight_is_there_once(self, tiny, tiny_proto):
        """Weights of both directions are stacked and A is folded; what little is more are constants."""
        values = sum(np.prod(tensor.dims, dtype=int) for tensor in tiny_proto.graph.initializer)
        assert values < 1.02 * tiny.config.parameters

    def test_values_have_types_and_shapes(self, tiny_proto, any_size_proto):
        for proto in (tiny_proto, any_size_proto):
            typed = {value.name for value in (*proto.graph.value_info, *proto.graph.output)}
            assert {name for node in proto.graph.node for name in node.output} <= typed

    def test_nothing_tells_of_the_machine(self, tiny_proto):
        data = tiny_proto.SerializeToString()
        assert not re.search(rb"/(home|root|usr|opt|work|tmp)/|site-packages|\.py\b|stack_trace|pkg\.torch", data)


class TestOperators:
    def test_two_nodes_a_block(self, tiny_proto):
        ours = [node.op_type for node in tiny_proto.graph.node if node.domain == "vimdeploy"]
        assert ours == ["BidirectionalConv1d", "BidirectionalSelectiveScan"] * 2

    def test_their_bodies_are_in_the_file(self, tiny_proto):
        assert {(f.domain, f.name) for f in tiny_proto.functions} == {
            ("vimdeploy", "BidirectionalConv1d"),
            ("vimdeploy", "BidirectionalSelectiveScan"),
        }

    def test_a_body_has_the_opset_of_the_model(self, tiny_proto):
        opsets = [{entry.domain: entry.version for entry in f.opset_import}[""] for f in tiny_proto.functions]
        assert opsets == [20, 20]

    @pytest.mark.parametrize("operator", ["BidirectionalConv1d", "BidirectionalSelectiveScan"])
    def test_attributes(self, tiny_proto, operator):
        node = next(node for node in tiny_proto.graph.node if node.op_type == operator)
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        assert attributes.pop("scale", 0.5) == 0.5
        assert attributes == {"reverse": [0, 1], "plugin_namespace": b"vimdeploy", "plugin_version": b"1"}

    def test_the_scale_is_the_configs(self, tiny):
        model = export(tiny, class_token="none", direction_scale=1.0)
        scales = [a.f for node in model.graph.node for a in node.attribute if a.name == "scale"]
        assert scales == [1.0, 1.0]

    def test_a_model_without_them_has_no_bodies(self, tiny_info):
        plain = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 5))
        assert not onnx_from_model(plain, tiny_info).functions


class TestMetadata:
    def entries(self, proto):
        return {entry.key: entry.value for entry in proto.metadata_props}

    def test_is_the_info_with_versions(self, tiny, tiny_info, tiny_proto):
        info = ModelInfo.from_metadata(self.entries(tiny_proto))
        assert replace(info, versions={}) == tiny_info
        assert (info.name, info.labels, info.origin) == ("tiny", tiny.labels, FromSeed(0))

    @pytest.mark.parametrize("package", ["vimdeploy", "torch", "onnx", "onnxscript"])
    def test_tells_versions(self, tiny_proto, package):
        assert json.loads(self.entries(tiny_proto)["vimdeploy.versions"])[package] == version(package)

    def test_the_producer_is_vimdeploy(self, tiny_proto):
        assert tiny_proto.producer_name == "vimdeploy"


@pytest.mark.slow
class TestOpsets:
    @pytest.mark.parametrize(
        "opset", [pytest.param(21, marks=pytest.mark.slow), 22, pytest.param(23, marks=pytest.mark.slow), 24]
    )
    def test_an_opset_is_the_files_and_answers_the_same(self, tiny, tiny_proto, opset):
        model = export(tiny, opset)
        assert {entry.domain: entry.version for entry in model.opset_import} == {"": opset, "vimdeploy": 1}
        images = np.random.default_rng(0).standard_normal((2, 3, 32, 32), dtype=np.float32)
        found, wanted = (
            OnnxRuntimeSession(artifact_from_onnx(proto), operators="function-body").run(images)["logits"]
            for proto in (model, tiny_proto)
        )
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("opset", [19, 25])
    def test_others_are_refused(self, tiny, opset):
        with pytest.raises(ConfigError, match=f"opset must be 20 to 24, found {opset}"):
            export(tiny, opset)


class TestAnySize:
    def test_free_dimensions_have_the_words_of_the_metadata(self, any_size_proto, any_size_network):
        """A map's are no formulas of the picture's, such as torch gives them."""
        assert [dims(value) for value in any_size_proto.graph.input] == [["batch", 3, "height", "width"]]
        assert {value.name: dims(value) for value in any_size_proto.graph.output} == {
            "map": ["batch", 16, "rows", "columns"],
            "pooled": ["batch", 16],
            "block_0": ["batch", 16, "rows", "columns"],
        }
        specs = any_size_network.info.outputs
        assert [list(spec.dims) for spec in specs] == [dims(value) for value in any_size_proto.graph.output]

    def test_a_block_is_a_dozen_nodes_too(self, any_size_proto):
        for i in range(2):
            assert [n.op_type for n in any_size_proto.graph.node if n.name.startswith(f"layers.{i}.")] == BLOCK

    def test_the_position_embedding_is_stored_as_its_grid(self, any_size_proto):
        nodes = {node.name: node for node in any_size_proto.graph.node}
        constants = {tensor.name: list(tensor.dims) for tensor in any_size_proto.graph.initializer}
        assert constants[nodes["position.Resize"].input[0]] == [1, 16, 4, 4]
        assert constants[nodes["position.Where"].input[1]] == [1, 1, 16]

    @pytest.mark.parametrize("size", [(16, 16), (16, 40), (32, 32), (56, 24)], ids=str)
    def test_every_output_is_pytorchs(self, any_size_network, any_size_proto, operators, size):
        images = np.random.default_rng(0).standard_normal((2, 3, *size), dtype=np.float32)
        session = OnnxRuntimeSession(artifact_from_onnx(any_size_proto), "cpu", operators=operators)
        check_outputs(any_size_network, images, session.run(images))

    @pytest.mark.parametrize("size", [(16, 24), (32, 32)], ids=str)
    def test_every_output_is_pytorchs_by_the_standard_alone(self, any_size_network, any_size_proto, size):
        images = np.random.default_rng(0).standard_normal((1, 3, *size), dtype=np.float32)
        names = [spec.name for spec in any_size_network.info.outputs]
        values = onnx.reference.ReferenceEvaluator(any_size_proto).run(names, {"images": images})
        check_outputs(any_size_network, images, dict(zip(names, values, strict=True)))

    def test_a_classifier(self, tiny, operators):
        network, proto = classifier_of_any_size(tiny)
        assert dims(proto.graph.input[0]) == ["batch", 3, "height", "width"]
        assert dims(proto.graph.output[0]) == ["batch", 5]
        session = OnnxRuntimeSession(artifact_from_onnx(proto), "cpu", operators=operators)
        for size in ((16, 32), (48, 24)):
            images = np.random.default_rng(0).standard_normal((2, 3, *size), dtype=np.float32)
            check_outputs(network, images, session.run(images))

    def test_at_the_trained_size_the_answers_are_those_of_the_fixed_file(self, tiny, tiny_proto):
        images = np.random.default_rng(0).standard_normal((2, 3, 32, 32), dtype=np.float32)
        found, wanted = (
            OnnxRuntimeSession(artifact_from_onnx(proto), "cpu").run(images)["logits"]
            for proto in (classifier_of_any_size(tiny)[1], tiny_proto)
        )
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


@cache
def classifier_of_any_size(variant):
    network = network_of_variant(variant, 0, image_size=AnySize())
    return network, onnx_from_model(network.module, network.info)


def check_outputs(network, images, found):
    with torch.inference_mode():
        wanted = network.module(torch.from_numpy(images))
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    assert list(found) == [spec.name for spec in network.info.outputs]
    for (name, value), right in zip(found.items(), wanted, strict=True):
        np.testing.assert_allclose(value, right.numpy(), atol=1e-4 * right.std().item(), err_msg=name)


@pytest.mark.slow
class TestAFixedFileOfFeatures:
    @pytest.fixture(scope="class")
    @classmethod
    def exported(cls, tiny):
        network = network_of_variant(tiny, 0, task="features", image_size=(16, 32), blocks=(1, 0))
        return network, onnx_from_model(network.module, network.info)

    def test_has_its_outputs_in_their_order(self, exported):
        _, proto = exported
        assert {value.name: dims(value) for value in proto.graph.output} == {
            "map": ["batch", 16, 2, 4],
            "pooled": ["batch", 16],
            "block_1": ["batch", 16, 2, 4],
            "block_0": ["batch", 16, 2, 4],
        }

    def test_gives_pytorchs(self, exported, operators):
        network, proto = exported
        images = np.random.default_rng(0).standard_normal((2, 3, 16, 32), dtype=np.float32)
        session = OnnxRuntimeSession(artifact_from_onnx(proto), "cpu", operators=operators)
        check_outputs(network, images, session.run(images))


class Sums(torch.nn.Module):
    """Two inputs of one batch, two outputs."""

    def forward(self, left, right):
        return left + right[:, :2], right * 2


def test_several_inputs_share_their_free_dimensions():
    inputs = (TensorSpec("left", ("batch", 2)), TensorSpec("right", ("batch", 3)))
    outputs = (TensorSpec("sum", ("batch", 2)), TensorSpec("twice", ("batch", 3)))
    proto = onnx_from_model(Sums(), ModelInfo("sums", inputs, outputs))
    assert [dims(value) for value in (*proto.graph.input, *proto.graph.output)] == [
        ["batch", 2],
        ["batch", 3],
        ["batch", 2],
        ["batch", 3],
    ]
    left, right = (np.random.default_rng(n).standard_normal((5, n), dtype=np.float32) for n in (2, 3))
    found = OnnxRuntimeSession(artifact_from_onnx(proto)).run({"left": left, "right": right})
    np.testing.assert_array_equal(found["sum"], left + right[:, :2])
    np.testing.assert_array_equal(found["twice"], right * 2)


def test_another_architecture(tiny):
    """A DeiT has no operators of ours."""
    variant = next(variant for variant in VARIANTS.values() if variant.architecture == "deit")
    config = variant.config.replace(image_size=(32, 32), patch_size=8, dim=16, depth=2, heads=2, num_classes=5)
    network = network_of_variant(replace(variant, config=config), 0)
    proto = onnx_from_model(network.module, network.info)
    assert not proto.functions
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32), dtype=np.float32)
    check_outputs(network, images, OnnxRuntimeSession(artifact_from_onnx(proto)).run(images))


def test_the_checker_passes_with_the_function_bodies_alone(tiny_proto):
    onnx.checker.check_model(tiny_proto, full_check=True)


class Halves(torch.nn.Module):
    """A model with a node of two outputs."""

    def forward(self, images):
        left, right = images.flatten(1).split([1000, 2072], dim=1)
        return torch.cat([right[:, :3], left[:, :2]], dim=1)


def test_each_output_of_a_node_has_a_name_of_its_own(tiny_info):
    proto = onnx_from_model(Halves(), tiny_info)
    (split,) = (node for node in proto.graph.node if node.op_type == "Split")
    assert list(split.output) == ["Split.output_0", "Split.output_1"]
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32), dtype=np.float32)
    flat = images.reshape(2, -1)
    found = OnnxRuntimeSession(artifact_from_onnx(proto)).run(images)["logits"]
    np.testing.assert_array_equal(found, np.concatenate([flat[:, 1000:1003], flat[:, :2]], axis=1))


def test_the_model_in_pytorch_is_left_as_it_was_and_nothing_is_printed(tiny, capfd):
    model, info, _ = network_of_variant(tiny, 0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    onnx_from_model(model, info)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert capfd.readouterr() == ("", "")


def test_without_onnxscript_names_the_extra(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript.optimizer", None)
    with pytest.raises(MissingPackageError, match=r"onnxscript.*pip install '.*\[export\]'"):
        export(tiny, dim=8)
