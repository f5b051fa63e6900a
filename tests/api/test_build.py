import pytest

from vimdeploy.api.build import build
from vimdeploy.errors import OutputError


def test_what_was_written(tiny_artifact, tmp_path):
    pytest.importorskip("tensorrt_rtx")
    pytest.importorskip("polygraphy")
    built = build(tiny_artifact, tmp_path / "tiny.engine", flavor="rtx", batch=2)
    assert built.artifact.path == tmp_path / "tiny.engine"
    assert built.artifact.engine.profile["images"] == ((2, 3, 32, 32),) * 3


def test_the_model_as_output(tiny_onnx):
    with pytest.raises(OutputError, match="would be written over"):
        build(tiny_onnx, tiny_onnx)
