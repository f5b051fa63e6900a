import pytest

from vimdeploy.api.convert import convert
from vimdeploy.errors import ConfigError, OutputError, VimdeployWarning


def test_what_was_written(tiny_artifact, tmp_path):
    with pytest.warns(VimdeployWarning, match="Random inputs are looked at"):
        made = convert(tiny_artifact, tmp_path / "half.onnx", "fp16", count=2)
    assert (made.artifact.path, made.artifact.info.precision) == (tmp_path / "half.onnx", "fp16")
    assert made.ranges
    assert all(result.passed for result in made.parity)


def test_the_model_as_output(tiny_onnx):
    with pytest.raises(OutputError, match="would be written over"):
        convert(tiny_onnx, tiny_onnx, "fp16")


def test_another_precision(tiny_onnx, tmp_path):
    with pytest.raises(ConfigError, match="precision must be fp16 or bf16"):
        convert(tiny_onnx, tmp_path / "half.onnx", "fp32")
