"""Models in standard operators of fixed shapes, with loops and without, against what they are made from."""

from importlib.util import find_spec

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers.loading import ROOT
from helpers.one_node import model_of
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import vimdeploy
from vimdeploy.artifact import artifact_from_onnx, open_artifact
from vimdeploy.errors import ConfigError, ModelFileError
from vimdeploy.graphs.portable import portable
from vimdeploy.model_info import ModelInfo, TensorSpec
from vimdeploy.onnx_file import nodes_of_graph
from vimdeploy.ops.contract import BIDIRECTIONAL_CONV1D, BIDIRECTIONAL_SCAN, CAUSAL_CONV1D, OPERATORS
from vimdeploy.runtimes.onnxruntime import OnnxRuntimeSession
from vimdeploy.runtimes.openvino import import_openvino

EACH = pytest.mark.parametrize("op", OPERATORS, ids=lambda op: op.name)
BOTH = pytest.mark.parametrize("loops", [True, False], ids=["loops", "written out"])
TYPES = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16"}


def one_node(op, type_=TensorProto.FLOAT, *, B=1, L=29, K=2, E=6, N=4, R=3, W=4, **attributes):
    """A file of one node of these sizes, its weights in the range of a trained model's."""
    sizes = {"B": B, "L": L, "K": K, "G": K, "E": E, "N": N, "R": R, "W": W, "X": E + 3}
    sizes |= {"2E": 2 * E, "R+2N": R + 2 * N}
    model = model_of(op, type_, sizes=sizes, reverse=[k % 2 for k in range(K)], **attributes)
    weights = [value for value in model.graph.input if "L" not in op.inputs[value_index(op, value)].dims]
    model.graph.initializer.extend(numpy_helper.from_array(some(value, seed=1), value.name) for value in weights)
    for value in weights:
        model.graph.input.remove(value)
    values = {value.name: value for value in (*op.inputs, op.output)}
    inputs, outputs = (
        [
            TensorSpec(
                value.name,
                tuple(sizes[size] for size in values[value.name].dims),
                TYPES[value.type.tensor_type.elem_type],
            )
            for value in given
        ]
        for given in (model.graph.input, model.graph.output)
    )
    helper.set_model_props(model, ModelInfo("one node", tuple(inputs), tuple(outputs)).to_metadata())
    return model


def value_index(op, value):
    return [given.name for given in op.inputs].index(value.name)


def some(value, seed=0):
    shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    x = np.random.default_rng(seed).standard_normal(shape)
    x = -np.exp(x) if value.name == "A" else np.abs(x) if value.name.startswith("delta") else x  # a step is positive
    return x.astype(TYPES[value.type.tensor_type.elem_type])


def inputs_of(model):
    return {value.name: some(value) for value in model.graph.input}


def run(model, arrays):
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, arrays)[0]


def assert_close(found, wanted):
    assert found.shape == wanted.shape
    assert found.dtype == wanted.dtype
    unit = 3e-6 if wanted.dtype == np.float32 else 2e-3
    assert np.abs(found.astype(np.float64) - wanted).max() <= unit * max(1.0, np.abs(wanted).max())


def assert_portable(model):
    """Standard operators of fixed shapes, all types told."""
    onnx.checker.check_model(model, full_check=True)
    assert not model.functions
    assert [entry.domain for entry in model.opset_import] == [""]
    nodes = list(nodes_of_graph(model.graph))
    assert {node.domain for node in nodes} == {""}
    assert not {"Shape", "Range", "Expand", "CastLike", "Mod", "Equal", "Less"} & {n.op_type for n in nodes}
    told = {value.name: value for value in (*model.graph.value_info, *model.graph.output)}
    for node in model.graph.node:
        for name in node.output:
            assert all(dim.dim_value > 0 for dim in told[name].type.tensor_type.shape.dim), name
    for node in nodes:
        for attribute in node.attribute:
            assert all(value.type.tensor_type.HasField("shape") for value in attribute.g.input)
            made = {value.name for value in (*attribute.g.input, *attribute.g.initializer)}
            made |= {name for inner in attribute.g.node for name in inner.output}
            assert {name for inner in attribute.g.node for name in inner.input} <= made


class TestOfOneOperator:
    @EACH
    @BOTH
    @pytest.mark.parametrize("type_", TYPES, ids=TYPES.get)
    @pytest.mark.parametrize(
        "sizes",
        [{"B": 2}, {"L": 1, "W": 2}, {"L": 2, "E": 1, "N": 1, "R": 1, "W": 1}, {"B": 3, "L": 100, "K": 3}, {"K": 1}],
        ids=str,
    )
    def test_answers_as_the_function_body(self, op, loops, type_, sizes):
        model = one_node(op, type_, **sizes)
        made = portable(model, loops=loops)
        arrays = inputs_of(model)
        assert_close(run(made, arrays), run(model, arrays))

    @EACH
    @BOTH
    @pytest.mark.parametrize("flag", [0, 1])
    def test_flags_and_scale(self, op, loops, flag):
        model = one_node(op, silu=flag, delta_softplus=flag, scale=0.25 + flag)
        arrays = inputs_of(model)
        assert_close(run(portable(model, loops=loops), arrays), run(model, arrays))

    @EACH
    @BOTH
    @pytest.mark.parametrize("type_", TYPES, ids=TYPES.get)
    def test_is_of_standard_operators_and_fixed_shapes(self, op, loops, type_):
        made = portable(one_node(op, type_), loops=loops)
        assert_portable(made)
        assert "Where" not in {node.op_type for node in nodes_of_graph(made.graph)}
        assert ("Scan" in {node.op_type for node in made.graph.node}) == loops

    @EACH
    @BOTH
    def test_onnx_s_own_reference_takes_it(self, op, loops):
        model = one_node(op, L=14)
        arrays = inputs_of(model)
        [found] = ReferenceEvaluator(portable(model, loops=loops)).run(None, arrays)
        assert_close(found, run(model, arrays))

    @EACH
    @BOTH
    def test_openvino_takes_it(self, op, loops):
        if find_spec("openvino") is None:
            pytest.skip("openvino is not installed")
        openvino = import_openvino()
        model = one_node(op, L=40)
        arrays = inputs_of(model)
        core = openvino.Core()
        read = core.read_model(portable(model, loops=loops).SerializeToString())
        compiled = core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
        assert_close(compiled(arrays)[0], run(model, arrays))

    @pytest.mark.parametrize(
        ("op", "most"), [(BIDIRECTIONAL_CONV1D, 12), (CAUSAL_CONV1D, 12), (BIDIRECTIONAL_SCAN, 320)]
    )
    def test_written_out_it_has_few_nodes(self, op, most):
        made = portable(one_node(op, L=197, E=384, N=16, R=12), loops=False)
        assert len(made.graph.node) <= most

    @EACH
    def test_what_all_steps_share_is_in_the_loop_and_no_state(self, op):
        for node in portable(one_node(op)).graph.node:
            if node.op_type == "Scan":
                attributes = {a.name: a for a in node.attribute}
                states = len(node.input) - attributes["num_scan_inputs"].i
                copied = [inner for inner in attributes["body"].g.node if inner.op_type == "Identity"]
                assert states == 1 or len(copied) < states

    @BOTH
    def test_equal_constants_are_stored_once(self, loops):
        made = portable(one_node(BIDIRECTIONAL_SCAN), loops=loops)
        contents = [(tuple(t.dims), t.data_type, t.raw_data) for t in made.graph.initializer]
        assert len(contents) == len(set(contents))


def answers(artifact, inputs):
    return OnnxRuntimeSession(artifact, device="cpu", threads=1).run(inputs)


class TestOfAModel:
    @BOTH
    def test_every_stage_is_verified(self, tmp_path, tiny_proto, loops):
        path = tmp_path / "portable.onnx"
        onnx.save(portable(tiny_proto, loops=loops), path)
        [result] = vimdeploy.verify(path, count=2)
        assert result.passed
        assert len(result.stages) == 18

    @BOTH
    @pytest.mark.parametrize("batch", [1, 3])
    def test_answers_as_the_file_it_is_made_from(self, tiny_artifact, loops, batch):
        made = artifact_from_onnx(portable(tiny_artifact.model, batch, loops))
        assert_portable(made.model)
        images = np.random.default_rng(0).standard_normal((4, 3, 32, 32), dtype=np.float32)
        assert_close(answers(made, images)["logits"], answers(tiny_artifact, images)["logits"])

    @BOTH
    def test_says_what_it_is(self, tiny_artifact, loops):
        made = artifact_from_onnx(portable(tiny_artifact.model, 2, loops))
        info = made.info
        assert info.form == ("portable" if loops else "unrolled")
        assert info.inputs == (TensorSpec("images", (2, 3, 32, 32)),)
        assert info.outputs == (TensorSpec("logits", (2, 5)),)
        assert info.fixed_batch == 2
        assert (info.labels, info.recipe, info.origin) == (
            tiny_artifact.info.labels,
            tiny_artifact.info.recipe,
            tiny_artifact.info.origin,
        )
        assert not made.changes
        assert not made.has_operators

    @BOTH
    def test_any_size_is_fixed_at_the_one_asked_for(self, any_size_proto, loops):
        source = artifact_from_onnx(any_size_proto)
        made = artifact_from_onnx(portable(any_size_proto, 1, loops, {"height": 40, "width": 24}))
        assert made.info.image_size == (40, 24)
        assert not made.info.sizes
        assert all(isinstance(dim, int) for spec in made.info.outputs for dim in spec.dims)
        images = np.random.default_rng(0).standard_normal((1, 3, 40, 24), dtype=np.float32)
        wanted = answers(source, images)
        for name, found in answers(made, images).items():
            assert_close(found, wanted[name])

    def test_any_size_is_fixed_at_the_typical_one(self, any_size_proto):
        assert artifact_from_onnx(portable(any_size_proto)).info.image_size == (32, 32)

    @pytest.mark.parametrize("file", ["tiny.onnx", "tiny_40x48.onnx"])
    def test_files_of_older_bodies_get_the_bodies_of_today(self, file):
        source = open_artifact(ROOT / "tests/data/format_1" / file)
        made = artifact_from_onnx(portable(source.model))
        images = np.random.default_rng(0).standard_normal((1, 3, *source.info.image_size), dtype=np.float32)
        assert_close(answers(made, images)["logits"], answers(source, images)["logits"])

    def test_what_is_made_is_made_the_same_again(self, tiny_proto):
        once, again = portable(tiny_proto), portable(tiny_proto)
        assert once.SerializeToString(deterministic=True) == again.SerializeToString(deterministic=True)


class TestWrongInput:
    def test_a_size_that_the_model_does_not_take(self, any_size_proto):
        with pytest.raises(ConfigError, match=r"Wanted a height of 41, the file takes .* the nearest is 40"):
            portable(any_size_proto, sizes={"height": 41})

    def test_no_batch(self, tiny_proto):
        with pytest.raises(ConfigError, match="Wanted a batch of 0, the file takes 1 or more"):
            portable(tiny_proto, 0)

    def test_a_portable_file(self, tiny_proto):
        with pytest.raises(ModelFileError, match="is portable already; wanted the one that it was made from"):
            portable(portable(tiny_proto))

    def test_a_batch_of_a_model_that_has_none(self):
        with pytest.raises(ConfigError, match="Wanted a batch of 2; the model has none"):
            portable(one_node(OPERATORS[0]), 2)

    def test_a_file_of_another_program(self):
        with pytest.raises(ModelFileError, match=r"no vimdeploy\.\* metadata"):
            portable(onnx.ModelProto())

    def test_the_library_has_nothing_to_compute_in_it(self, tiny_proto):
        made = artifact_from_onnx(portable(tiny_proto))
        with pytest.raises(ModelFileError, match="Wanted the library to compute; the model in memory is portable"):
            OnnxRuntimeSession(made, operators="library")

    def test_an_operator_of_another_program(self, tiny_proto):
        model = onnx.ModelProto()
        model.CopyFrom(tiny_proto)
        node = next(node for node in model.graph.node if node.op_type == "Mul")
        node.domain = "com.other"
        with pytest.raises(ModelFileError, match=rf"Its node {node.name} \(Mul\) is of com.other"):
            portable(model)

    def test_an_operator_with_an_input_too_many(self, tiny_proto):
        model = onnx.ModelProto()
        model.CopyFrom(tiny_proto)
        node = next(node for node in model.graph.node if node.domain)
        node.input.append(node.input[0])
        with pytest.raises(ModelFileError, match="none of the operators of vimdeploy"):
            portable(model)
