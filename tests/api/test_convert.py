import warnings

import pytest

import vimdeploy
from vimdeploy.api.convert import Converted
from vimdeploy.converters.ranges import Range
from vimdeploy.errors import ConfigError, ModelFileError, OutputError, VimdeployWarning


@pytest.fixture
def images(picture):
    """The folder of one picture."""
    return picture.parent


def test_the_opened_file_its_ranges_and_the_comparison(tiny_onnx, images, tmp_path):
    phases = []
    made = vimdeploy.convert(
        tiny_onnx, tmp_path / "half.onnx", "fp16", images=images, progress=lambda phase, *_: phases.append(phase)
    )
    assert isinstance(made, Converted)
    assert (made.artifact.path, made.artifact.info.precision) == (tmp_path / "half.onnx", "fp16")
    assert made.inputs == f"1 picture of {images}"
    assert {type(found) for found in made.ranges.values()} == {Range}
    assert all(result.passed for result in made.parity)
    assert list(dict.fromkeys(phases)) == ["Looking at the tensors", "Comparing"]


def test_random_inputs_are_warned_of_where_they_are_asked_for(tiny_onnx, tmp_path):
    with pytest.warns(VimdeployWarning, match="tensors of real pictures may reach further") as caught:
        vimdeploy.convert(tiny_onnx, tmp_path / "half.onnx", "bf16", count=1)
    assert caught[0].filename == __file__


def test_pictures_are_not(tiny_artifact, images, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", VimdeployWarning)
        made = vimdeploy.convert(tiny_artifact, tmp_path / "half.onnx", "fp16", images=images, keep=["layers.0.*Scan"])
    assert made.artifact.info.kept_in_float32 == {"layers.0.mixer.BidirectionalSelectiveScan": "asked for"}


def test_pictures_of_bytes(tiny_onnx, picture, tmp_path):
    made = vimdeploy.convert(tiny_onnx, tmp_path / "bytes.onnx", uint8_input=True)
    assert (made.artifact.info.takes_bytes, made.artifact.info.precision, made.ranges) == (True, "fp32", {})
    assert made.parity[0].passed
    answers = [vimdeploy.load(file, device="cpu").predict(picture) for file in (made.artifact, tiny_onnx)]
    assert answers[0].document() == answers[1].document()


def test_all_at_once(tiny_onnx, images, tmp_path):
    made = vimdeploy.convert(
        tiny_onnx, tmp_path / "all.onnx", "fp16", uint8_input=True, portable=True, batch=2, images=images
    )
    info = made.artifact.info
    assert (str(info.inputs[0]), info.precision, info.form) == ("images (2, 32, 32, 3) of uint8", "fp16", "portable")


def test_pictures_that_are_bytes_already(tiny_onnx, tmp_path):
    vimdeploy.convert(tiny_onnx, tmp_path / "bytes.onnx", uint8_input=True)
    with pytest.raises(ConfigError, match="takes pictures of uint8 already"):
        vimdeploy.convert(tmp_path / "bytes.onnx", tmp_path / "again.onnx", uint8_input=True)
    assert not (tmp_path / "again.onnx").exists()


@pytest.mark.parametrize("precision", ["fp32", "int8", "half"])
def test_another_precision(tiny_onnx, tmp_path, precision):
    with pytest.raises(ConfigError, match=f"precision must be fp16 or bf16, found '{precision}'"):
        vimdeploy.convert(tiny_onnx, tmp_path / "half.onnx", precision)


def test_an_engine(engine_file, tmp_path):
    with pytest.raises(ModelFileError, match="is an engine; wanted the ONNX file"):
        vimdeploy.convert(engine_file(), tmp_path / "half.onnx", "fp16")


def test_its_own_file(tiny_onnx):
    with pytest.raises(OutputError, match="would be written over"):
        vimdeploy.convert(str(tiny_onnx), tiny_onnx, "fp16")


def test_a_name_that_an_engine_would_have(tiny_onnx, tmp_path):
    with pytest.raises(OutputError, match="would be taken for an engine"):
        vimdeploy.convert(tiny_onnx, tmp_path / "half.engine", "fp16")
    assert list(tmp_path.iterdir()) == []
