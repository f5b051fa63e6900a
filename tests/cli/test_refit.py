import json
import sys

import pytest
from helpers import stand_in_tensorrt

from vimdeploy.artifact import open_artifact
from vimdeploy.exporters.tensorrt_network import network_sha256, weights_of
from vimdeploy.gpu import Gpu
from vimdeploy.installation import install_command


@pytest.fixture
def engine(engine_file, tiny_proto):
    return engine_file(network_sha256=network_sha256(tiny_proto))


def test_writes_the_engine(invoke, monkeypatch, cuda, plugin_library, engine, tiny_onnx, tmp_path):
    trt = stand_in_tensorrt.tensorrt("10.3.0", cuda)
    trt.marked = list(weights_of(open_artifact(tiny_onnx).model))
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    monkeypatch.setattr("vimdeploy.gpu.gpus", lambda: [Gpu("Orin", "8.7")])
    plugin_library("87-real")
    result = invoke("refit", engine, tiny_onnx, "-o", tmp_path / "new.engine")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{tmp_path / 'new.engine'}: tiny, ")
    time, following = result.stderr.splitlines()
    assert time.startswith("Refitting the engine: ")
    assert following == f"Next: vimdeploy run {tmp_path / 'new.engine'} PICTURE"
    document = json.loads(invoke("inspect", tmp_path / "new.engine", "--json").stdout)
    assert document["network_sha256"] == open_artifact(engine).engine.network_sha256


class TestWrongInput:
    """One sentence, exit code 2, and nothing left behind."""

    def refused(self, invoke, folder, *arguments):
        result = invoke("refit", *arguments, "-o", folder / "new.engine")
        assert (result.exit_code, result.stdout, (folder / "new.engine").exists()) == (2, "", False)
        (error,) = (line for line in result.stderr.splitlines() if line.startswith("Error: "))
        return error

    def test_a_missing_package(self, invoke, monkeypatch, engine, tiny_onnx, tmp_path):
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        assert self.refused(invoke, tmp_path, engine, tiny_onnx).endswith(install_command("tensorrt"))

    def test_a_missing_file(self, invoke, engine, tmp_path):
        assert "none.onnx cannot be read" in self.refused(invoke, tmp_path, engine, "none.onnx")
        assert "none.engine cannot be read" in self.refused(invoke, tmp_path, "none.engine", "none.onnx")

    def test_the_two_the_other_way_round(self, invoke, engine, tiny_onnx, tmp_path):
        assert "wanted" in self.refused(invoke, tmp_path, tiny_onnx, engine)
