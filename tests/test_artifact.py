import dataclasses
import hashlib
import json
import pickle

import numpy as np
import onnx
import onnx.inliner
import pytest
from onnx import numpy_helper

from vimdeploy.artifact import (
    artifact_from_onnx,
    check_same_interface,
    check_unchanged,
    open_artifact,
    operator_counts,
    require_onnx,
)
from vimdeploy.engine_file import sidecar_path
from vimdeploy.errors import ConfigError, ModelFileError
from vimdeploy.model_info import ModelInfo, TensorSpec


@pytest.fixture
def changed(tiny_proto):
    """``changed(change)`` -> a copy of the tiny model with a change."""

    def copy(change):
        model = onnx.ModelProto()
        model.CopyFrom(tiny_proto)
        change(model)
        return model

    return copy


@pytest.fixture
def with_metadata(changed):
    """``with_metadata(name=value)`` -> the tiny model with other entries."""

    def copy(**entries):
        def change(model):
            for entry in model.metadata_props:
                entry.value = entries.get(entry.key.removeprefix("vimdeploy."), entry.value)

        return changed(change)

    return copy


@pytest.fixture
def saved(tmp_path):
    """``saved(model)`` -> its file."""

    def save(model, name="model.onnx"):
        path = tmp_path / name
        path.write_bytes(model.SerializeToString())
        return path

    return save


class TestOpen:
    def test_a_file_of_ours(self, tiny_onnx, tiny_info):
        artifact = open_artifact(tiny_onnx)
        assert dataclasses.replace(artifact.info, versions={}) == tiny_info
        assert (artifact.path, artifact.engine, artifact.ours) == (tiny_onnx, None, True)
        assert artifact.data == tiny_onnx.read_bytes()
        assert artifact.sha256 == hashlib.sha256(tiny_onnx.read_bytes()).hexdigest()
        assert artifact.bytes == tiny_onnx.stat().st_size
        assert artifact.model.graph.input[0].name == "images"

    def test_the_path_may_be_text(self, tiny_onnx):
        assert open_artifact(str(tiny_onnx)).path == tiny_onnx

    def test_an_artifact_is_handed_back(self, tiny_artifact):
        assert open_artifact(tiny_artifact) is tiny_artifact

    def test_tells_what_it_is(self, tiny_onnx, tiny_artifact):
        assert str(open_artifact(tiny_onnx)) == str(tiny_onnx)
        assert repr(tiny_artifact) == "<Artifact the model in memory: tiny, 32x32, fp32, ONNX>"

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(ModelFileError, match=r"none\.onnx cannot be read: No such file"):
            open_artifact(tmp_path / "none.onnx")

    def test_a_folder(self, tmp_path):
        with pytest.raises(ModelFileError, match="cannot be read: Is a directory"):
            open_artifact(tmp_path)

    @pytest.mark.parametrize("foreign", [False, True])
    @pytest.mark.parametrize("data", [b"hello, this is text\n", b"\x89PNG\r\n\x1a\n", b"PK\x03\x04"], ids=repr)
    def test_something_else(self, tmp_path, data, foreign):
        path = tmp_path / "model.onnx"
        path.write_bytes(data)
        with pytest.raises(ModelFileError, match=r"model\.onnx is no whole ONNX file \(\d+ bytes were read\)"):
            open_artifact(path, foreign)

    def test_an_empty_file(self, tmp_path):
        path = tmp_path / "model.onnx"
        path.touch()
        with pytest.raises(ModelFileError, match=r"model\.onnx"):
            open_artifact(path)

    @pytest.mark.parametrize("part", [0.001, 0.3, 0.7, 0.9, 0.999])
    def test_a_truncated_file(self, tmp_path, tiny_onnx, part):
        path = tmp_path / "model.onnx"
        data = tiny_onnx.read_bytes()
        path.write_bytes(data[: int(len(data) * part)])
        with pytest.raises(ModelFileError, match=r"model\.onnx"):
            open_artifact(path)

    @pytest.mark.parametrize("name", ["/dev/zero", "x" * 300, "zero\0byte"])
    def test_what_is_no_regular_file(self, name):
        with pytest.raises(
            ModelFileError, match=r"^The model file .* cannot be read: (it is a device|File name too|embed)"
        ):
            open_artifact(name)

    def test_a_file_that_points_at_other_files(self, changed, saved):
        def change(model):
            model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL

        with pytest.raises(ModelFileError, match=r"model\.onnx cannot be used: it keeps head\.weight in another file"):
            open_artifact(saved(changed(change)))

    @pytest.mark.parametrize(
        ("entry", "value", "message"),
        [
            ("labels", '["only one"]', r"metadata is damaged \(Wanted 5 labels, one per class; found 1\.\)"),
            ("precision", "fp8", "metadata is damaged"),
            ("format", "9", "has format 9 and"),
            ("outputs", '[{"name": "map", "dims": [5], "type": "float32"}]', r"speaks of the outputs map .*logits"),
            ("inputs", "[]", r"speaks of the inputs , its graph has images \(batch, 3, 32, 32\) of float32; export it"),
        ],
    )
    def test_damaged_metadata(self, with_metadata, saved, entry, value, message):
        with pytest.raises(ModelFileError, match=rf"model\.onnx cannot be used: it.*{message}"):
            open_artifact(saved(with_metadata(**{entry: value})))

    def test_damaged_metadata_does_not_make_a_file_foreign(self, with_metadata, saved):
        with pytest.raises(ModelFileError, match="metadata is damaged"):
            open_artifact(saved(with_metadata(precision="fp8")), foreign=True)

    def test_a_task_of_a_newer_vimdeploy_is_left_to_whoever_asks_for_it(self, with_metadata, saved):
        assert open_artifact(saved(with_metadata(task="depth"))).info.task == "depth"


class TestForeign:
    def test_is_refused_unless_asked_for(self, foreign_onnx):
        with pytest.raises(ModelFileError, match=r"foreign\.onnx cannot be used: it has no vimdeploy\.\* metadata"):
            open_artifact(foreign_onnx)

    def test_tells_its_inputs_and_outputs(self, foreign_onnx):
        artifact = open_artifact(foreign_onnx, foreign=True)
        assert artifact.info == ModelInfo("foreign.onnx", (TensorSpec("x", (1,)),), (TensorSpec("y", (1,)),))
        assert (artifact.ours, artifact.has_operators) == (False, False)

    def test_a_file_of_ours_stays_ours(self, tiny_onnx):
        artifact = open_artifact(tiny_onnx, foreign=True)
        assert (artifact.ours, artifact.info.name) == (True, "tiny")

    @pytest.mark.parametrize(
        ("type_", "name"),
        [("FLOAT", "float32"), ("DOUBLE", "float64"), ("FLOAT16", "float16"), ("INT64", "int64"), ("UINT8", "uint8")],
    )
    def test_types_and_free_dimensions(self, saved, type_, name):
        """A size of -1 or 0 is what some exporters write for a free one."""
        dims = ["N", None, 3, -1, 0]
        x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.DataType.Value(type_), dims)
        y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.DataType.Value(type_), ["N"])
        model = onnx.helper.make_model(onnx.helper.make_graph([], "foreign", [x], [y]))
        assert open_artifact(saved(model), foreign=True).info.inputs == (
            TensorSpec("x", ("N", "x_1", 3, "x_3", "x_4"), name),
        )

    def test_weights_among_the_inputs_are_none(self, saved):
        """Files of the first IR versions list them there."""
        x, w = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xw")
        stored = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [1], [2.0])
        model = onnx.helper.make_model(onnx.helper.make_graph([], "foreign", [x, w], [x], initializer=[stored]))
        assert [spec.name for spec in open_artifact(saved(model), foreign=True).info.inputs] == ["x"]


class TestInMemory:
    def test_is_as_in_a_file(self, tiny_proto, tiny_onnx):
        artifact, file = artifact_from_onnx(tiny_proto), open_artifact(tiny_onnx)
        assert artifact.path is None
        assert (artifact.info, artifact.sha256, artifact.bytes) == (file.info, file.sha256, file.bytes)

    def test_is_not_the_callers_model(self, changed):
        model = changed(lambda _: None)
        artifact = artifact_from_onnx(model)
        model.graph.Clear()
        assert len(artifact.model.graph.node) > 0

    def test_another_ones_is_refused(self, foreign_onnx):
        with pytest.raises(ModelFileError, match="The model cannot be used: it has no vimdeploy"):
            artifact_from_onnx(onnx.load(foreign_onnx))


class TestForgetContents:
    def test_a_file_is_read_again(self, tiny_onnx):
        artifact = open_artifact(tiny_onnx)
        model = artifact.model
        artifact.forget_contents()
        assert artifact.data == tiny_onnx.read_bytes()
        assert artifact.model is not model
        assert artifact.model == model

    def test_a_model_in_memory_is_kept(self, tiny_artifact, tiny_proto):
        tiny_artifact.forget_contents()
        assert tiny_artifact.model == tiny_proto

    def test_an_engine_is_read_again(self, engine_file):
        artifact = open_artifact(engine_file())
        artifact.forget_contents()
        assert artifact.data == b"a plan"

    def test_what_is_known_of_it_stays(self, tiny_onnx):
        artifact = open_artifact(tiny_onnx)
        artifact.forget_contents()
        tiny = (artifact.info.name, artifact.has_operators, artifact.bytes)
        assert tiny == ("tiny", True, tiny_onnx.stat().st_size)

    def test_a_file_that_was_changed_meanwhile(self, tmp_path, tiny_onnx):
        path = tmp_path / "model.onnx"
        path.write_bytes(tiny_onnx.read_bytes())
        artifact = open_artifact(path)
        artifact.forget_contents()
        path.write_bytes(tiny_onnx.read_bytes() + b" ")
        with pytest.raises(ModelFileError, match=r"model\.onnx was changed while it was in use; start again"):
            artifact.data  # noqa: B018

    def test_a_file_that_is_gone(self, tmp_path, tiny_onnx):
        path = tmp_path / "model.onnx"
        path.write_bytes(tiny_onnx.read_bytes())
        artifact = open_artifact(path)
        artifact.forget_contents()
        path.unlink()
        with pytest.raises(ModelFileError, match=r"model\.onnx cannot be read: No such file"):
            artifact.model  # noqa: B018


class TestEngine:
    def test_is_opened_with_what_stands_beside_it(self, engine_file, tiny_info):
        path = engine_file()
        artifact = open_artifact(path)
        assert (artifact.info, artifact.path, artifact.data) == (tiny_info, path, b"a plan")
        assert artifact.engine.device == "Orin"
        assert (artifact.ours, artifact.has_operators) == (True, True)
        assert repr(artifact) == f"<Artifact {path}: tiny, 32x32, fp32, engine of tensorrt>"

    def test_has_no_onnx_model(self, engine_file):
        with pytest.raises(ModelFileError, match=r"tiny\.engine is an engine; wanted the ONNX file that it was built"):
            open_artifact(engine_file()).model  # noqa: B018

    def test_that_is_another_one(self, engine_file):
        path = engine_file()
        path.write_bytes(b"another")
        with pytest.raises(ModelFileError, match="is not the engine that"):
            open_artifact(path)

    def test_whose_metadata_is_damaged(self, engine_file):
        path = engine_file()
        document = json.loads(sidecar_path(path).read_text())
        document["model"]["vimdeploy.labels"] = '["only one"]'
        sidecar_path(path).write_text(json.dumps(document))
        with pytest.raises(ModelFileError, match=r"tiny\.engine cannot be used: its vimdeploy\.\* metadata is damaged"):
            open_artifact(path)


class TestRequireOnnx:
    def test_a_file_of_ours(self, tiny_onnx):
        assert require_onnx(tiny_onnx).info.name == "tiny"

    def test_an_artifact(self, tiny_artifact):
        assert require_onnx(tiny_artifact) is tiny_artifact

    @pytest.mark.parametrize("opened", [False, True])
    def test_an_engine(self, engine_file, opened):
        path = engine_file()
        with pytest.raises(ModelFileError, match=r"tiny\.engine is an engine; wanted the ONNX file that it was built"):
            require_onnx(open_artifact(path) if opened else path)

    def test_an_engine_that_is_not_even_there(self, tmp_path):
        with pytest.raises(ModelFileError, match="is an engine; wanted the ONNX file"):
            require_onnx(tmp_path / "none.engine")

    def test_another_ones_file(self, foreign_onnx):
        with pytest.raises(ModelFileError, match=r"no vimdeploy\.\* metadata"):
            require_onnx(foreign_onnx)


class TestOperators:
    def test_are_counted(self, tiny_proto):
        assert operator_counts(tiny_proto) == {"BidirectionalConv1d": 2, "BidirectionalSelectiveScan": 2}

    def test_a_file_has_them_or_not(self, tiny_artifact, tiny_proto):
        assert tiny_artifact.has_operators
        assert tiny_artifact.has_bodies
        assert not artifact_from_onnx(onnx.inliner.inline_local_functions(tiny_proto)).has_operators


class TestChangedByAnotherTool:
    """What a file says of itself and what its graph holds are two things."""

    def test_a_file_as_vimdeploy_wrote_it(self, tiny_artifact):
        assert tiny_artifact.changes == ()
        check_unchanged(tiny_artifact)

    @pytest.fixture(params=["inlined", "without bodies", "without types", "half a weight", "batch 2"])
    def artifact(self, request, tiny_proto):
        model = onnx.ModelProto()
        model.CopyFrom(tiny_proto)
        if request.param == "inlined":
            model = onnx.inliner.inline_local_functions(model)
        elif request.param == "without bodies":
            del model.functions[:]
        elif request.param == "half a weight":
            (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == "head.weight")
            weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), weight.name))
        elif request.param == "without types":
            del model.graph.value_info[:]
        else:
            for value in (model.graph.input[0], model.graph.output[0]):
                value.type.tensor_type.shape.dim[0].dim_value = 2
        return request.param, artifact_from_onnx(model)

    def test_is_told(self, artifact):
        how, artifact = artifact
        (change,) = artifact.changes
        assert {
            "inlined": "operators BidirectionalConv1d and BidirectionalSelectiveScan are gone, dissolved into",
            "without bodies": "the function bodies are gone",
            "half a weight": "the weights are fp16, changed by another tool, though the file says fp32",
            "without types": "the types of inner values are gone",
            "batch 2": "the batch is 2, fixed by another tool",
        }[how] in change

    def test_is_refused_by_work_that_goes_by_what_was_written(self, artifact):
        with pytest.raises(ModelFileError, match="Wanted a file as vimdeploy wrote it; in the model in memory, the "):
            check_unchanged(artifact[1])

    def test_the_graph_is_believed(self, artifact):
        how, artifact = artifact
        assert artifact.info.inputs[0].dims == (2 if how == "batch 2" else "batch", 3, 32, 32)
        assert artifact.info.fixed_batch == (2 if how == "batch 2" else None)

    def test_dropped_shapes_are_those_of_the_metadata(self, changed, tiny_info):
        artifact = artifact_from_onnx(changed(lambda model: model.graph.output[0].type.tensor_type.ClearField("shape")))
        assert artifact.info.outputs == tiny_info.outputs

    def test_another_shape_than_the_metadata_has_is_refused(self, changed):
        def change(model):
            model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 18

        with pytest.raises(
            ModelFileError, match=r"the outputs logits \(batch, 5\) .*its graph has logits \(batch, 18\)"
        ):
            artifact_from_onnx(changed(change))


class TestSameInterface:
    @pytest.fixture
    def other(self, tiny_artifact):
        """``other(field=value)`` -> an artifact that says something else of itself."""

        def replace(**fields):
            artifact = artifact_from_onnx(tiny_artifact.model)
            artifact.info = dataclasses.replace(artifact.info, **fields)
            return artifact

        return replace

    def test_what_is_not_of_the_interface_may_differ(self, tiny_artifact, other):
        check_same_interface(tiny_artifact, other(name="another", precision="int8", origin=None, config={}))

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"task": "features"}, "their tasks differ: classification and features."),
            ({"task": ""}, "their tasks differ: classification and none."),
            ({"labels": ()}, "their labels differ."),
            (
                {"inputs": (TensorSpec("images", ("batch", 3, 32, 48)),)},
                "their inputs differ: images (batch, 3, 32, 32) of float32 and images (batch, 3, 32, 48) of float32.",
            ),
            (
                {"outputs": (TensorSpec("logits", ("batch", 6)),), "labels": ()},
                "their outputs differ: logits (batch, 5) of float32 and logits (batch, 6) of float32.",
            ),
        ],
        ids=str,
    )
    def test_what_differs_is_told(self, tiny_artifact, other, fields, message):
        with pytest.raises(ConfigError) as caught:
            check_same_interface(tiny_artifact, other(**fields))
        assert str(caught.value) == f"The two files cannot be compared, because {message}"


class TestPickled:
    def test_a_file_is_read_again(self, tiny_onnx):
        artifact = open_artifact(tiny_onnx)
        data = pickle.dumps(artifact)
        again = pickle.loads(data)
        assert len(data) < 1000
        assert (again.path, again.sha256, again.info) == (artifact.path, artifact.sha256, artifact.info)

    def test_a_file_that_is_another_one_by_then(self, tiny_proto, tmp_path):
        path = tmp_path / "model.onnx"
        path.write_bytes(tiny_proto.SerializeToString())
        data = pickle.dumps(open_artifact(path))
        path.write_bytes(tiny_proto.SerializeToString() + b"\x10\x0a")
        with pytest.raises(ModelFileError, match=r"model\.onnx was changed while it was in use"):
            pickle.loads(data)

    def test_a_model_in_memory_goes_along(self, tiny_proto):
        artifact = artifact_from_onnx(tiny_proto)
        assert pickle.loads(pickle.dumps(artifact)).data == artifact.data
