import sys

import numpy as np
import pytest
from helpers import stand_in_tensorrt

from vimdeploy.artifact import open_artifact
from vimdeploy.errors import ConfigError, ModelFileError
from vimdeploy.gpu import Gpu
from vimdeploy.runtimes.load import load


@pytest.fixture
def orin(cuda, monkeypatch, plugin_library):
    """A machine on which the engines of ``engine_file`` run."""
    monkeypatch.setitem(sys.modules, "tensorrt", stand_in_tensorrt.tensorrt(cuda=cuda, size=(32, 32)))
    monkeypatch.setattr("vimdeploy.gpu.gpus", lambda: [Gpu("Orin", "8.7")])
    plugin_library("87-real")


@pytest.mark.parametrize("kind", [str, lambda path: path, open_artifact], ids=["str", "Path", "Artifact"])
def test_an_onnx_file(tiny_onnx, kind):
    with load(kind(tiny_onnx), device="cpu") as session:
        assert session.description == "ONNX Runtime (library, cpu)"
        assert session.run(np.zeros((2, 3, 32, 32), np.float32))["logits"].shape == (2, 5)


def test_a_model_in_memory(tiny_artifact, picture):
    answer = load(tiny_artifact).predict(picture)
    assert {prediction.label for prediction in answer.predictions} == {"ant", "bee", "cat", "dog", "eel"}


@pytest.mark.parametrize("kind", [str, open_artifact], ids=["str", "Artifact"])
def test_an_engine(orin, engine_file, kind):
    with load(kind(engine_file())) as session:
        assert session.description == "TensorRT (plugin, cuda)"


class TestForeignOnnx:
    def test_runs_raw(self, foreign_onnx):
        session = load(foreign_onnx)
        assert session.description == "ONNX Runtime (cpu)"
        np.testing.assert_array_equal(session.run(np.ones(1, np.float32))["y"], [1])

    def test_has_no_answers(self, foreign_onnx, picture):
        with pytest.raises(
            ConfigError, match=r"foreign\.onnx does not say what its outputs mean; vimdeploy\.load\(FILE\)\.run"
        ):
            load(foreign_onnx).predict(picture)

    def test_tells_its_inputs_and_outputs(self, foreign_onnx):
        assert repr(load(foreign_onnx)).endswith("no task, fp32; x (1) of float32 -> y (1) of float32>")

    def test_has_no_stages(self, foreign_onnx):
        with pytest.raises(ConfigError, match=r"vimdeploy does not know the stages of foreign\.onnx"):
            load(foreign_onnx).open_stages()


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"allow_engine_code": True}, r"allow_engine_code is for engines; .*tiny\.onnx is none"),
            ({"contexts": 2}, r"contexts is for engines; .*tiny\.onnx is none"),
            ({"device": "tpu"}, "device must be auto, cpu, cuda, or cuda:N .* found 'tpu'"),
            ({"operators": "plugin"}, "operators must be one of auto, library, function-body, found 'plugin'"),
            ({"runtime": "tvm"}, "runtime must be one of auto, onnxruntime, openvino, tensorrt, found 'tvm'"),
            ({"runtime": "tensorrt"}, r"Wanted tensorrt as the runtime; .*tiny\.onnx is an ONNX file"),
            ({"precision": "bf16"}, "precision is for OpenVINO"),
            ({"runtime": "openvino", "cuda_graphs": True}, "cuda_graphs are of ONNX Runtime; OpenVINO is wanted"),
        ],
    )
    def test_that_an_onnx_file_does_not_have(self, tiny_onnx, options, message):
        with pytest.raises(ConfigError, match=message):
            load(tiny_onnx, **options)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"providers": ["CPUExecutionProvider"]}, r"providers are of ONNX Runtime; .*tiny\.engine is an engine"),
            ({"device": "cpu"}, "An engine runs on a GPU: device must be auto or cuda, found 'cpu'"),
            ({"threads": 2}, "An engine runs on a GPU: it takes no threads"),
            ({"operators": "library"}, "computes our operators by plugin; 'library' is not in it"),
            ({"device": "cuda:1"}, r"found no GPU cuda:1, but cuda:0 \(Orin\)"),
            ({"runtime": "openvino"}, r"Wanted openvino as the runtime; .*tiny\.engine is an engine"),
            ({"cuda_graphs": True}, r"cuda_graphs are of ONNX Runtime; .*tiny\.engine is an engine, which has them"),
        ],
    )
    def test_that_an_engine_does_not_have(self, orin, engine_file, options, message):
        with pytest.raises(ConfigError, match=message):
            load(engine_file(), **options)


def test_no_file(tmp_path):
    with pytest.raises(ModelFileError, match=r"none\.onnx cannot be read"):
        load(tmp_path / "none.onnx")
