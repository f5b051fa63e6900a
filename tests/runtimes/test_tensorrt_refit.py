"""What TensorRT's refitter, which needs a GPU, is asked for, on stand-ins."""

import sys

import pytest
from helpers import stand_in_tensorrt
from onnx import numpy_helper

import vimdeploy
from vimdeploy.artifact import artifact_from_onnx, open_artifact
from vimdeploy.errors import ConfigError, ExecutionError, ModelFileError, OutputError
from vimdeploy.exporters.tensorrt_network import network_sha256, weights_of
from vimdeploy.gpu import Gpu


def with_other_weights(proto):
    """Another file of the same network."""
    model = type(proto)()
    model.CopyFrom(proto)
    for tensor in weights_of(model).values():
        tensor.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(tensor), tensor.name))
    return artifact_from_onnx(model)


@pytest.fixture(params=["10.3.0", "11.1.0"])
def trt(request, monkeypatch, cuda, plugin_library, tiny_proto):
    trt = stand_in_tensorrt.tensorrt(request.param, cuda)
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    monkeypatch.setattr("vimdeploy.gpu.gpus", lambda: [Gpu("Orin", "8.7")])
    plugin_library("87-real")
    trt.marked = [*weights_of(tiny_proto), "one of TensorRT's"]
    return trt


@pytest.fixture
def refittable(trt, tiny_proto, engine_file):
    """An engine that takes other weights."""
    return engine_file(network_sha256=network_sha256(tiny_proto), tensorrt_version=trt.__version__)


def test_every_weight_of_the_other_file_is_in_the_engine(trt, refittable, tiny_proto, tmp_path):
    other = with_other_weights(tiny_proto)
    made = vimdeploy.refit(refittable, other, tmp_path / "new.engine").artifact
    wanted = {name: numpy_helper.to_array(tensor).tobytes() for name, tensor in weights_of(other.model).items()}
    assert (trt.refitted, trt.registry.loaded) == (wanted, [str(tmp_path / "plugin.so")])
    assert made.data == (b"a plan" if trt.__version__ == "10.3.0" else b"a plan that stays refittable")


def test_the_new_engine_says_what_it_is(trt, refittable, tiny_proto, tmp_path):
    before, other = open_artifact(refittable).engine, with_other_weights(tiny_proto)
    engine = vimdeploy.refit(refittable, other, tmp_path / "new.engine").artifact.engine
    assert (engine.onnx_sha256, engine.model) == (other.sha256, other.info)
    assert (engine.network_sha256, engine.profiles, engine.device) == (
        before.network_sha256,
        before.profiles,
        before.device,
    )


@pytest.mark.filterwarnings("ignore:Random inputs")
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_weights_of_two_bytes(trt, engine_file, tiny_onnx, tmp_path, precision):
    model = vimdeploy.convert(tiny_onnx, tmp_path / "half.onnx", precision, count=1).artifact
    trt.marked = list(weights_of(model.model))
    engine = engine_file(network_sha256=network_sha256(model.model), tensorrt_version=trt.__version__)
    vimdeploy.refit(engine, model, tmp_path / "new.engine")
    half = {name: tensor for name, tensor in weights_of(model.model).items() if tensor.data_type != 1}
    assert half
    assert all(trt.refitted[name] == numpy_helper.to_array(tensor).tobytes() for name, tensor in half.items())


def test_an_engine_that_was_not_built_for_it(trt, engine_file, tiny_onnx, tmp_path):
    with pytest.raises(ConfigError, match=r"tiny\.engine was not built to take other weights; .* --refittable"):
        vimdeploy.refit(engine_file(), tiny_onnx, tmp_path / "new.engine")


def test_a_file_of_another_network(trt, refittable, any_size_proto, tmp_path):
    with pytest.raises(ModelFileError, match=r"is not of the network that .*tiny\.engine was built from: only the val"):
        vimdeploy.refit(refittable, artifact_from_onnx(any_size_proto), tmp_path / "new.engine")
    assert not (tmp_path / "new.engine").exists()


@pytest.mark.parametrize(
    ("facts", "error", "reason"),
    [
        ({"lacks": ["head.weight"]}, ModelFileError, "The engine does not take head.weight; build it again"),
        ({"refuses": ["head.weight"]}, ModelFileError, r"does not take head.weight \(5, \d+\): it gives no reason; b"),
        ({"misses": ["A"]}, ExecutionError, "TensorRT gave up: it misses A; build"),
        ({"refit_fails": True}, ExecutionError, "TensorRT gave up: it gives no reason; build"),
    ],
)
def test_what_tensorrt_refuses(trt, refittable, tiny_onnx, tmp_path, facts, error, reason):
    vars(trt).update(facts)
    with pytest.raises(error, match=reason):
        vimdeploy.refit(refittable, tiny_onnx, tmp_path / "new.engine")
    assert not (tmp_path / "new.engine").exists()


def test_an_engine_that_tensorrt_does_not_refit_any_more(trt, refittable, tiny_onnx, tmp_path):
    trt.engine.refittable = False
    with pytest.raises(ModelFileError, match=r"says that .*tiny\.engine does not take other weights any more; build"):
        vimdeploy.refit(refittable, tiny_onnx, tmp_path / "new.engine")


def test_code_in_an_engine_is_not_run_unasked(trt, engine_file, tiny_proto, tmp_path):
    facts = {"network_sha256": network_sha256(tiny_proto), "tensorrt_version": trt.__version__}
    engine, model = engine_file(version_compatible=True, **facts), artifact_from_onnx(tiny_proto)
    with pytest.raises(ConfigError, match="allow it with --allow-engine-code"):
        vimdeploy.refit(engine, model, tmp_path / "new.engine")
    vimdeploy.refit(engine, model, tmp_path / "new.engine", allow_engine_code=True)
    assert trt.refitted


def test_files_that_are_something_else(trt, refittable, tiny_onnx, tmp_path):
    with pytest.raises(ModelFileError, match="is an ONNX file; wanted an engine of vimdeploy build --refittable"):
        vimdeploy.refit(tiny_onnx, tiny_onnx, tmp_path / "new.engine")
    with pytest.raises(ModelFileError, match="is an engine; wanted the ONNX file"):
        vimdeploy.refit(refittable, refittable, tmp_path / "new.engine")
    with pytest.raises(OutputError, match="would be written over"):
        vimdeploy.refit(refittable, tiny_onnx, refittable)
