"""What Triton is told of a file, read by Triton's own schema."""

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.detections import INFO as DETECTOR
from helpers.precision import lowered

from vimdeploy.artifact import Artifact, artifact_from_onnx, open_artifact
from vimdeploy.errors import ConfigError, ModelFileError, SlowOperatorsWarning
from vimdeploy.model_info import ModelInfo, SizeRange, TensorSpec
from vimdeploy.serving import triton
from vimdeploy.serving.triton import TritonOptions, triton_model


@pytest.fixture(scope="module")
def parsed():
    """``parsed(model)`` -> its configuration as an object."""
    from google.protobuf import text_format

    client = pytest.importorskip("tritonclient", reason="tritonclient, which has Triton's schema, is not installed")
    path = Path(client.__path__[0], "grpc", "model_config_pb2.py")  # the package around it wants grpcio
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    schema = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(schema)
    return lambda model: text_format.Parse(model.config, schema.ModelConfig())


@pytest.fixture(autouse=True)
def library(monkeypatch, tmp_path):
    """``library(*architectures)``: the operator library as if it was built for these GPUs; None: none is installed."""

    def install(*architectures, path=tmp_path / "libvimdeploy_onnxruntime.so"):
        if path is not None:
            path.write_bytes(b"operators")
        monkeypatch.setattr("vimdeploy.libraries.library_path", lambda runtime="onnxruntime": path)
        monkeypatch.setattr(triton, "library_info", lambda: {"cuda_architectures": list(architectures)})

    install("86")
    return install


def made(info):
    """An artifact of which no more is known than this."""
    return Artifact(None, b"a model", info, model=onnx.ModelProto(), ours=False)


def model_of(artifact, folder="/models/tiny", **options):
    return triton_model(artifact, folder, TritonOptions(**options))


class TestAClassifier:
    def test_configuration(self, tiny_artifact, parsed):
        config = parsed(model_of(tiny_artifact))
        assert (config.platform, config.backend, config.max_batch_size) == ("onnxruntime_onnx", "onnxruntime", 8)
        [images], [logits] = config.input, config.output
        assert (images.name, list(images.dims), logits.name, list(logits.dims)) == (
            "images",
            [3, 32, 32],
            "logits",
            [5],
        )
        assert images.data_type == logits.data_type == 11  # TYPE_FP32
        assert (logits.label_filename, config.HasField("dynamic_batching")) == ("labels.txt", True)
        assert list(config.model_operations.op_library_filename) == ["/models/tiny/libvimdeploy_onnxruntime.so"]
        [group] = config.instance_group
        assert (group.count, group.kind) == (1, 0)  # KIND_AUTO

    def test_float32_stays_float32_on_a_gpu(self, tiny_artifact, parsed):
        [accelerator] = parsed(model_of(tiny_artifact)).optimization.execution_accelerators.gpu_execution_accelerator
        assert (accelerator.name, dict(accelerator.parameters)) == ("cuda", {"use_tf32": "0"})

    def test_warm_up_alone_and_in_the_largest_batch(self, tiny_artifact, parsed):
        warm_up = parsed(model_of(tiny_artifact, max_batch=16)).model_warmup
        assert [sample.batch_size for sample in warm_up] == [1, 16]
        assert all(list(sample.inputs["images"].dims) == [3, 32, 32] for sample in warm_up)
        assert all(sample.inputs["images"].zero_data for sample in warm_up)

    def test_files(self, tiny_artifact):
        model = model_of(tiny_artifact)
        assert model.version == {"model.onnx": tiny_artifact.data}
        assert model.libraries == {"libvimdeploy_onnxruntime.so": b"operators"}
        assert model.beside == {"labels.txt": b"ant\nbee\ncat\ndog\neel\n"}

    def test_a_label_is_one_line(self, tiny_info):
        info = dataclasses.replace(tiny_info, labels=("an\nant", "b", "c", "d", "e"))
        assert model_of(made(info)).beside["labels.txt"].splitlines()[0] == b"an ant"

    def test_on_a_cpu(self, tiny_artifact, parsed):
        config = parsed(model_of(tiny_artifact, device="cpu", instances=4, threads=2))
        [group] = config.instance_group
        assert (group.count, group.kind) == (4, 2)  # KIND_CPU
        assert config.parameters["intra_op_thread_count"].string_value == "2"
        assert not config.HasField("optimization")

    def test_one_at_a_time(self, tiny_artifact, parsed):
        config = parsed(model_of(tiny_artifact, max_batch=1))
        assert (config.max_batch_size, config.HasField("dynamic_batching"), len(config.model_warmup)) == (1, False, 1)


class TestOtherModels:
    def test_any_size_and_several_outputs(self, any_size_proto, parsed):
        config = parsed(model_of(artifact_from_onnx(any_size_proto)))
        assert list(config.input[0].dims) == [3, -1, -1]
        assert {output.name: list(output.dims) for output in config.output} == {
            "map": [16, -1, -1],
            "pooled": [16],
            "block_0": [16, -1, -1],
        }
        assert list(config.model_warmup[0].inputs["images"].dims) == [3, 32, 32]
        assert not any(output.label_filename for output in config.output)

    def test_a_detectors_numbers(self, parsed):
        model = model_of(made(DETECTOR))
        config = parsed(model)
        inputs = {tensor.name: tensor for tensor in config.input}
        assert (list(inputs["image_sizes"].dims), inputs["image_sizes"].data_type) == ([2], 9)  # TYPE_INT64
        threshold = inputs["score_threshold"]
        assert (list(threshold.dims), threshold.HasField("reshape"), list(threshold.reshape.shape)) == ([1], True, [])
        assert {output.name: list(output.dims) for output in config.output}["masks"] == [-1, 28, 28]
        file = config.model_warmup[0].inputs["image_sizes"].input_data_file
        assert np.frombuffer(model.beside[f"warmup/{file}"], np.int64).tolist() == [64, 96]
        assert model.beside["labels.txt"] == b"cat\ndog\nbird\n"

    def test_pictures_of_bytes(self, parsed):
        model = model_of(made(DETECTOR.with_bytes()))
        config = parsed(model)
        images = next(tensor for tensor in config.input if tensor.name == "images")
        assert (list(images.dims), images.data_type) == ([64, 96, 3], 2)  # TYPE_UINT8
        file = config.model_warmup[0].inputs["image_sizes"].input_data_file
        assert np.frombuffer(model.beside[f"warmup/{file}"], np.int64).tolist() == [64, 96]

    def test_a_batch_that_is_fixed_is_a_size_like_others(self, tiny_info, parsed):
        inputs, outputs = TensorSpec("images", (4, 3, 32, 32)), TensorSpec("logits", (4, 5))
        artifact = made(dataclasses.replace(tiny_info, inputs=(inputs,), outputs=(outputs,)))
        config = parsed(model_of(artifact))
        assert (config.max_batch_size, list(config.input[0].dims)) == (0, [4, 3, 32, 32])
        [warm_up] = config.model_warmup
        assert (warm_up.batch_size, list(warm_up.inputs["images"].dims)) == (1, [4, 3, 32, 32])
        with pytest.raises(ConfigError, match="takes one batch alone"):
            model_of(artifact, max_batch=4)

    def test_a_module_without_a_batch(self, parsed):
        info = ModelInfo(
            "mine", (TensorSpec("x", ("steps", 7)),), (TensorSpec("y", (7,)),), sizes={"steps": SizeRange(3)}
        )
        config = parsed(model_of(made(info)))
        assert (config.max_batch_size, list(config.input[0].dims), list(config.output[0].dims)) == (0, [-1, 7], [7])
        assert list(config.model_warmup[0].inputs["x"].dims) == [3, 7]

    @pytest.mark.parametrize(
        ("spec", "reason"), [(("y", ()), "no single numbers"), (("y", (1,), "string"), "type string")]
    )
    def test_what_triton_does_not_have(self, spec, reason):
        info = ModelInfo("mine", (TensorSpec("x", (7,)),), (TensorSpec(*spec),))
        with pytest.raises(ConfigError, match=reason):
            model_of(made(info))

    @pytest.mark.parametrize("precision", ["fp16", "bf16"])
    def test_float16_and_bfloat16(self, tiny_proto, parsed, library, precision):
        artifact = artifact_from_onnx(lowered(tiny_proto, precision))
        on_gpu, on_cpu = (model_of(artifact, device=device) for device in ("auto", "cpu"))
        assert (parsed(on_gpu).instance_group[0].kind, parsed(on_cpu).instance_group[0].kind) == (1, 2)
        assert on_gpu.version["model.onnx"] == artifact.data != on_cpu.version["model.onnx"]
        library()
        assert model_of(artifact).version == on_cpu.version


class TestTheLibrary:
    def test_none_for_function_bodies(self, tiny_artifact, parsed):
        model = model_of(tiny_artifact, operators="function-body")
        assert (model.libraries, model.operators) == ({}, "function body")
        assert not parsed(model).HasField("model_operations")

    def test_none_installed(self, tiny_artifact, library):
        library(path=None)
        with pytest.warns(SlowOperatorsWarning, match="not in this installation"):
            assert model_of(tiny_artifact).libraries == {}
        with pytest.raises(ConfigError, match="not in this installation"):
            model_of(tiny_artifact, operators="library")

    def test_without_cuda_it_runs_on_the_cpu(self, tiny_artifact, library):
        library()
        assert model_of(tiny_artifact).device == "cpu"
        with pytest.warns(SlowOperatorsWarning, match="no CUDA kernels"):
            assert model_of(tiny_artifact, device="cuda").operators == "function body"
        with pytest.raises(ConfigError, match="no CUDA kernels"):
            model_of(tiny_artifact, device="cuda", operators="library")

    def test_without_bodies_it_is_needed(self, tiny_proto):
        proto = onnx.ModelProto()
        proto.CopyFrom(tiny_proto)
        del proto.functions[:]
        artifact = artifact_from_onnx(proto)
        assert model_of(artifact).operators == "library"
        with pytest.raises(ModelFileError, match="function bodies are gone"):
            model_of(artifact, operators="function-body")

    def test_a_model_without_operators_needs_none(self, tiny_info):
        assert (model_of(made(tiny_info)).libraries, model_of(made(tiny_info)).operators) == ({}, "")


class TestAnEngine:
    @pytest.fixture(autouse=True)
    def plugins(self, monkeypatch, tmp_path):
        def path(runtime):
            library = tmp_path / f"libvimdeploy_{runtime}.so"
            library.write_bytes(runtime.encode())
            return library

        monkeypatch.setattr(triton, "library_path", path)

    def test_configuration(self, engine_file, parsed):
        model = model_of(open_artifact(engine_file()), instances=2)
        config = parsed(model)
        assert (config.platform, config.backend, config.max_batch_size) == ("tensorrt_plan", "tensorrt", 8)
        [group] = config.instance_group
        assert (group.kind, group.count, list(config.input[0].dims)) == (1, 2, [3, 32, 32])  # KIND_GPU
        assert not config.HasField("model_operations")

    def test_files(self, engine_file):
        path = engine_file()
        model = model_of(open_artifact(path))
        assert model.version["model.plan"] == b"a plan"
        assert model.version["model.plan.json"] == path.with_name("tiny.engine.json").read_bytes()
        assert list(model.libraries) == ["libvimdeploy_tensorrt.so", "libvimdeploy_tensorrt_registered.so"]
        assert model.server_options == (
            "--backend-config=tensorrt,plugins=/models/tiny/libvimdeploy_tensorrt_registered.so",
        )

    def test_that_carries_the_plugin(self, engine_file):
        model = model_of(open_artifact(engine_file(plugin_in_engine=True, version_compatible=True)))
        assert (model.libraries, model.server_options) == (
            {},
            ("--backend-config=tensorrt,version-compatible=true",),
        )

    def test_of_function_bodies(self, engine_file):
        model = model_of(open_artifact(engine_file(plugin_version=None)))
        assert (model.libraries, model.server_options, model.operators) == ({}, (), "function body")

    @pytest.mark.parametrize(("asked", "found"), [(None, 8), (4, 4)])
    def test_batch(self, engine_file, parsed, asked, found):
        assert parsed(model_of(open_artifact(engine_file()), max_batch=asked)).max_batch_size == found

    def test_that_takes_one_batch_alone(self, engine_file, parsed):
        artifact = open_artifact(engine_file(profiles=({"images": ((4, 3, 32, 32),) * 3},)))
        config = parsed(model_of(artifact))
        assert (config.max_batch_size, list(config.input[0].dims)) == (0, [-1, 3, 32, 32])
        assert list(config.model_warmup[0].inputs["images"].dims) == [4, 3, 32, 32]

    @pytest.mark.parametrize(
        ("batches", "found"),
        [([(1, 1), (2, 8)], 8), ([(4, 16), (1, 3)], 16), ([(1, 1), (8, 8)], 1), ([(2, 2), (8, 8)], 0)],
    )
    def test_of_several_profiles(self, engine_file, parsed, batches, found):
        """A batch between two profiles would be refused, so none is made."""
        profiles = tuple({"images": tuple((batch, 3, 32, 32) for batch in (low, high, high))} for low, high in batches)
        config = parsed(model_of(open_artifact(engine_file(profiles=profiles))))
        assert (config.max_batch_size, list(config.instance_group[0].profile)) == (found, ["0", "1"])

    def test_of_profiles_for_several_sizes(self, engine_file, any_size_network, parsed):
        profiles = tuple(
            {"images": ((1, 3, side, side),) * 2 + ((most, 3, side, side),)} for side, most in ((32, 8), (64, 2))
        )
        config = parsed(model_of(open_artifact(engine_file(model=any_size_network.info, profiles=profiles))))
        assert config.max_batch_size == 2

    def test_warm_up_of_any_size(self, engine_file, any_size_network, parsed):
        profile = {"images": tuple((batch, 3, side, side) for batch, side in ((1, 32), (2, 48), (4, 64)))}
        artifact = open_artifact(engine_file(model=any_size_network.info, profiles=(profile,)))
        config = parsed(model_of(artifact))
        assert [list(sample.inputs["images"].dims) for sample in config.model_warmup] == [[3, 48, 48]] * 2

    @pytest.mark.parametrize(
        ("fields", "options", "reason"),
        [
            ({"flavor": "rtx", "plugin_version": None}, {}, "TensorRT-RTX"),
            ({}, {"device": "cpu"}, "no device cpu to choose"),
            ({}, {"operators": "function-body", "threads": 2}, "no operators function-body and no threads"),
            ({}, {"max_batch": 9}, "takes up to 8"),
            ({"profiles": ({"images": ((4, 3, 32, 32),) * 3},)}, {"max_batch": 4}, "takes one batch alone"),
        ],
    )
    def test_refused(self, engine_file, fields, options, reason):
        with pytest.raises(ConfigError, match=reason):
            model_of(open_artifact(engine_file(**fields)), **options)

    def test_without_the_plugin_library(self, engine_file, monkeypatch):
        monkeypatch.setattr(triton, "library_path", lambda runtime: None)
        with pytest.raises(ConfigError, match="this installation of vimdeploy lacks"):
            model_of(open_artifact(engine_file()))


@pytest.mark.parametrize(
    "options",
    [{"device": "tpu"}, {"max_batch": 0}, {"instances": 0}, {"instances": 1025}, {"threads": 0}],
)
def test_options_that_are_none(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        TritonOptions(**options)


def test_names_are_quoted(parsed):
    name = 'a "b"\\ \n ä'
    info = ModelInfo("mine", (TensorSpec(name, ("batch", 7)),), (TensorSpec("y", ("batch", 7)),))
    config = parsed(model_of(made(info)))
    assert (config.input[0].name, next(iter(config.model_warmup[0].inputs))) == (name, name)


def test_a_name_in_a_file_is_no_path():
    names = {name for name in model_of(made(DETECTOR)).beside if name.startswith("warmup/")}
    assert names == {"warmup/input_1", "warmup/input_2", "warmup/input_3"}


@pytest.mark.parametrize("sizes", [{}, {"rows": SizeRange(1 << 40)}])
def test_an_input_that_nobody_has_the_memory_for(sizes):
    dims = ("batch", "rows") if sizes else ("batch", 1 << 20, 1 << 20)
    info = ModelInfo("mine", (TensorSpec("x", dims),), (TensorSpec("y", ("batch", 7)),), sizes=sizes)
    with pytest.raises(ConfigError, match="No server is asked for"):
        model_of(made(info))


def test_an_engine_of_sizes_that_nobody_has_the_memory_for(engine_file):
    profile = {"images": ((1, 3, 32, 32), (1 << 40, 3, 32, 32), (1 << 40, 3, 32, 32))}
    with pytest.raises(ConfigError, match="No server is asked for"):
        model_of(open_artifact(engine_file(profiles=(profile,), plugin_version=None)))


def test_a_model_that_takes_nothing():
    with pytest.raises(ConfigError, match="takes or gives nothing"):
        model_of(made(ModelInfo("mine", (), (TensorSpec("y", (7,)),))))
