"""Files that take pictures as bytes answer as those that take them normalised."""

import dataclasses

import numpy as np
import onnx
import pytest
from helpers.dense import check_same_from_bytes
from onnx import TensorProto, helper
from onnxruntime import InferenceSession

import vimdeploy
from vimdeploy.api.export import with_bytes
from vimdeploy.artifact import artifact_from_onnx
from vimdeploy.graphs.portable import portable
from vimdeploy.graphs.uint8_input import with_uint8_input
from vimdeploy.inputs import random_inputs
from vimdeploy.model_info import ModelInfo, TensorSpec
from vimdeploy.parity.check import check_parity
from vimdeploy.preprocess import normalised
from vimdeploy.recipe import Recipe
from vimdeploy.runtimes.eager import EagerSession
from vimdeploy.runtimes.from_bytes import as_other
from vimdeploy.runtimes.onnxruntime import sessions_of_all_operators


def runnable(model):
    """ONNX Runtime's own session of a model."""
    onnx.checker.check_model(model, full_check=True)
    return InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def echo(recipe, size):
    """A model that gives what it is given, once it takes bytes."""
    dims = ("batch", len(recipe.mean), *size)
    info = ModelInfo("echo", (TensorSpec("x", dims),), (TensorSpec("y", dims),), task="features", recipe=recipe)
    shape = f"batch, {', '.join(map(str, dims[1:]))}"
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["": 20]> echo (float[{shape}] x) => (float[{shape}] y) {{ y = Identity (x) }}'
    )
    return runnable(with_uint8_input(model, info.with_bytes()))


class TestNodes:
    def test_normalise_as_preprocessing_does_to_the_bit(self):
        pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
        (found,) = echo(Recipe(), (16, 16)).run(None, {"x": pixels})
        np.testing.assert_array_equal(found, normalised(pixels, Recipe()))
        by_hand = (np.arange(256) / 255 - 0.485) / 0.229
        np.testing.assert_allclose(found[0, 0].ravel(), by_hand, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("fit", ["slide", "pad"])
    def test_make_zeros_of_the_margin_alone(self, fit):
        recipe = Recipe(1.0, fit=fit)
        pixels = np.full((1, 2, 3, 3), 7, np.uint8)
        pixels[0, :, 2] = recipe.margin
        pixels[0, 0, 1] = recipe.margin[0], 0, recipe.margin[2]  # two channels of three are the margin's
        (found,) = echo(recipe, (2, 3)).run(None, {"x": pixels})
        assert (found[0, :, :, 2] == 0).all()
        assert (found[0, :, :, :2] != 0).all()
        np.testing.assert_array_equal(found, normalised(pixels, recipe))

    def test_are_read_by_graphs_within_nodes_too(self):
        read = onnx.parser.parse_graph("within () => (float[b, 3, 2, 3] inner) { inner = Neg (x) }")
        plain = onnx.parser.parse_graph("without () => (float[b, 3, 2, 3] inner) { inner = Identity (x) }")
        dims = ["batch", 3, 2, 3]
        graph = helper.make_graph(
            [helper.make_node("If", ["b"], ["y"], then_branch=read, else_branch=plain)],
            "branches",
            [helper.make_tensor_value_info("x", 1, dims), helper.make_tensor_value_info("b", TensorProto.BOOL, [])],
            [helper.make_tensor_value_info("y", 1, dims)],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        spec = TensorSpec("x", tuple(dims))
        info = ModelInfo("branches", (spec,), (TensorSpec("y", tuple(dims)),), task="features")
        session = runnable(with_uint8_input(model, info.with_bytes()))
        pixels = np.random.default_rng(0).integers(0, 256, (1, 2, 3, 3), dtype=np.uint8)
        for flag, sign in ((True, -1), (False, 1)):
            (found,) = session.run(None, {"x": pixels, "b": np.array(flag)})
            np.testing.assert_array_equal(found, sign * normalised(pixels, Recipe()))

    def test_leave_the_model_as_it_was(self, tiny_proto, tiny_info):
        before = tiny_proto.SerializeToString()
        with_uint8_input(tiny_proto, tiny_info.with_bytes())
        assert tiny_proto.SerializeToString() == before


class TestClassifier:
    @pytest.fixture
    def made(self, tiny_artifact):
        return with_bytes(tiny_artifact)

    def test_says_what_it_takes(self, made, tiny_artifact):
        assert str(made.info.inputs[0]) == "images (batch, 32, 32, 3) of uint8"
        assert (made.info.image_size, made.info.channels, made.changes) == ((32, 32), 3, ())
        assert dataclasses.replace(made.info, inputs=tiny_artifact.info.inputs) == tiny_artifact.info

    def test_answers_as_pytorch_does(self, made, tiny_network):
        batches = random_inputs(made.info, 3, seed=0).batches(2)
        results = check_parity(
            as_other(EagerSession(tiny_network), made.info), sessions_of_all_operators(made), batches
        )
        assert all(result.passed for result in results)

    def test_answers_as_the_other_file_does(self, made, tiny_artifact):
        check_same_from_bytes(tiny_artifact, made)

    def test_in_portable_form(self, made, tiny_artifact):
        forms = [artifact_from_onnx(portable(artifact.model)) for artifact in (tiny_artifact, made)]
        assert str(forms[1].info.inputs[0]) == "images (1, 32, 32, 3) of uint8"
        check_same_from_bytes(*forms)

    @pytest.mark.parametrize("precision", ["fp16", "bf16"])
    def test_in_another_precision(self, made, tiny_artifact, picture, tmp_path, precision):
        halves = [
            vimdeploy.convert(artifact, tmp_path / f"{number}.onnx", precision, images=picture.parent)
            for number, artifact in enumerate((tiny_artifact, made))
        ]
        check_same_from_bytes(*(half.artifact for half in halves))

    @pytest.mark.slow
    def test_in_the_real_tensorrt_rtx(self, made):
        pytest.importorskip("tensorrt_rtx")
        pytest.importorskip("polygraphy")
        from vimdeploy.exporters.tensorrt_engine import BuildOptions, engine_from_onnx

        built = engine_from_onnx(made, BuildOptions("rtx", optimization_level=0))
        assert built.plan[1:4] == b"trt"
        assert built.info.profiles[0]["images"][0] == (1, 32, 32, 3)
        assert built.info.model.takes_bytes


def test_any_size(any_size_proto):
    floats = artifact_from_onnx(any_size_proto)
    made = with_bytes(floats)
    assert made.info.image_size == ("height", "width")
    check_same_from_bytes(floats, made, [(40, 64), (64, 24)])
