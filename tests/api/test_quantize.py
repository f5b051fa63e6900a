import pytest

from vimdeploy.api.quantize import quantize
from vimdeploy.errors import OutputError


def test_what_was_written(tiny_artifact, picture, tmp_path):
    made = quantize(tiny_artifact, tmp_path / "int8.onnx", picture.parent, budget=100)
    assert (made.artifact.path, made.artifact.info.precision) == (tmp_path / "int8.onnx", "int8")
    assert (len(made.layers), made.images, made.judged_by) == (4, 1, "equal top-1 answers")


def test_the_model_as_output(tiny_onnx, tmp_path):
    with pytest.raises(OutputError, match="would be written over"):
        quantize(tiny_onnx, tiny_onnx, tmp_path)
