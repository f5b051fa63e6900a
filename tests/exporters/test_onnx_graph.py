import json
import re
import sys
from collections import Counter
from importlib.metadata import version

import numpy as np
import onnx
import pytest
import torch

from vimdeploy.artifact import ModelInfo
from vimdeploy.errors import ConfigError, MissingPackageError
from vimdeploy.exporters.onnx_graph import onnx_from_model
from vimdeploy.models.vim import vim_with_random_weights
from vimdeploy.runtimes.onnxruntime import OnnxRuntimeSession

BLOCK = [
    *("Pow", "ReduceMean", "Add", "Sqrt", "Div", "Mul"),  # the norm
    *("MatMul", "BidirectionalConv1d", "MatMul", "BidirectionalSelectiveScan", "MatMul"),
    "Add",
]


def export(config, opset=20):
    return onnx_from_model(vim_with_random_weights(config, seed=0), ModelInfo("tiny", config), opset)


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
        model = export(tiny.config.replace(class_token=class_token))
        left = {n.op_type for n in model.graph.node} & {"Shape", "Concat", "Expand", "Slice", "Cast", "Unsqueeze"}
        assert not left

    def test_the_batch_is_dynamic_and_the_rest_is_fixed(self, tiny_proto):
        dims = tiny_proto.graph.input[0].type.tensor_type.shape.dim
        assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", 3, 32, 32]

    def test_the_output_has_the_same_batch(self, tiny_proto):
        dims = tiny_proto.graph.output[0].type.tensor_type.shape.dim
        assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", 5]

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

    def test_names_of_nodes_and_values_are_unique(self, tiny_proto):
        values = [name for node in tiny_proto.graph.node for name in node.output]
        values += [tensor.name for tensor in tiny_proto.graph.initializer]
        nodes = [node.name for node in tiny_proto.graph.node]
        assert (len(set(values)), len(set(nodes))) == (len(values), len(nodes))

    def test_every_weight_is_there_once(self, tiny, tiny_proto):
        """Weights of both directions are stacked and A is folded; what little is more are constants."""
        values = sum(np.prod(tensor.dims, dtype=int) for tensor in tiny_proto.graph.initializer)
        assert values < 1.02 * tiny.config.parameters

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
        model = export(tiny.config.replace(direction_scale=1.0))
        scales = [a.f for node in model.graph.node for a in node.attribute if a.name == "scale"]
        assert scales == [1.0, 1.0]

    def test_a_model_without_them_has_no_bodies(self, tiny):
        plain = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 5))
        assert not onnx_from_model(plain, ModelInfo("plain", tiny.config)).functions


class TestMetadata:
    def entries(self, proto):
        return {entry.key: entry.value for entry in proto.metadata_props}

    def test_is_the_info_with_versions(self, tiny, tiny_proto):
        info = ModelInfo.from_metadata(self.entries(tiny_proto))
        assert (info.variant, info.config, info.labels, info.weights) == (
            "tiny",
            tiny.config,
            tiny.labels,
            "random seed 0",
        )

    @pytest.mark.parametrize("package", ["vimdeploy", "torch", "onnx", "onnxscript"])
    def test_tells_versions(self, tiny_proto, package):
        assert json.loads(self.entries(tiny_proto)["vimdeploy.versions"])[package] == version(package)

    def test_the_producer_is_vimdeploy(self, tiny_proto):
        assert tiny_proto.producer_name == "vimdeploy"


class TestOpsets:
    @pytest.mark.parametrize("opset", [21, 22, 23, 24])
    def test_an_opset_is_the_files_and_answers_the_same(self, tiny, tiny_proto, opset):
        model = export(tiny.config, opset)
        assert {entry.domain: entry.version for entry in model.opset_import} == {"": opset, "vimdeploy": 1}
        images = np.random.default_rng(0).standard_normal((2, 3, 32, 32), dtype=np.float32)
        found, wanted = (
            OnnxRuntimeSession(proto.SerializeToString(), ModelInfo("tiny", tiny.config), operators="function body")
            for proto in (model, tiny_proto)
        )
        np.testing.assert_allclose(found.run(images), wanted.run(images), rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("opset", [19, 25])
    def test_others_are_refused(self, tiny, opset):
        with pytest.raises(ConfigError, match=f"opset must be 20 to 24, found {opset}"):
            export(tiny.config, opset)


def test_the_checker_passes_with_the_function_bodies_alone(tiny_proto):
    onnx.checker.check_model(tiny_proto, full_check=True)


class Halves(torch.nn.Module):
    """A model with a node of two outputs."""

    def forward(self, images):
        left, right = images.flatten(1).split([1000, 2072], dim=1)
        return torch.cat([right[:, :3], left[:, :2]], dim=1)


def test_each_output_of_a_node_has_a_name_of_its_own(tiny):
    proto = onnx_from_model(Halves(), ModelInfo("halves", tiny.config))
    (split,) = (node for node in proto.graph.node if node.op_type == "Split")
    assert list(split.output) == ["Split.output_0", "Split.output_1"]
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32), dtype=np.float32)
    flat = images.reshape(2, -1)
    found = OnnxRuntimeSession(proto.SerializeToString(), ModelInfo("halves", tiny.config)).run(images)
    np.testing.assert_array_equal(found, np.concatenate([flat[:, 1000:1003], flat[:, :2]], axis=1))


def test_the_model_in_pytorch_is_left_as_it_was(tiny):
    model = vim_with_random_weights(tiny.config, seed=0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    onnx_from_model(model, ModelInfo("tiny", tiny.config))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_nothing_is_printed(tiny, capfd):
    export(tiny.config)
    assert capfd.readouterr() == ("", "")


def test_without_onnxscript_names_the_extra(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript.optimizer", None)
    with pytest.raises(MissingPackageError, match=r"onnxscript.*pip install 'vimdeploy\[export\]'"):
        export(tiny.config)
