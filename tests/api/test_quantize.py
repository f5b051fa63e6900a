import pytest

import vimdeploy
from vimdeploy.api.quantize import Quantized
from vimdeploy.errors import ImageError, ModelFileError, OutputError, ParityError
from vimdeploy.tasks.base import Agreement


@pytest.fixture
def images(picture):
    """The folder of one picture."""
    return picture.parent


def test_the_opened_file_its_layers_and_its_answers(tiny_artifact, images, tmp_path):
    phases = []
    made = vimdeploy.quantize(
        tiny_artifact,
        tmp_path / "int8.onnx",
        images,
        budget=100,
        keep=["layers.0.mixer.in_proj.*"],
        progress=lambda phase, *_: phases.append(phase),
    )
    assert isinstance(made, Quantized)
    assert (made.artifact.path, made.artifact.info.precision) == (tmp_path / "int8.onnx", "int8")
    assert len(made.layers) == 3
    assert [layer.output_error for layer in made.layers] == sorted(layer.output_error for layer in made.layers)
    assert (made.images, made.judged_by) == (1, "equal top-1 answers")
    assert isinstance(made.agreement, Agreement)
    assert made.points_lost in (0, 100)
    assert phases[0] == "Calibrating"


def test_with_class_folders_accuracy_counts(tiny_onnx, picture, tmp_path):
    (tmp_path / "classes/cat").mkdir(parents=True)
    picture.rename(tmp_path / "classes/cat/one.png")
    made = vimdeploy.quantize(tiny_onnx, tmp_path / "int8.onnx", tmp_path / "classes", budget=100)
    assert made.judged_by == "accuracy"


def test_a_budget_that_no_layer_keeps(tiny_onnx, images, tmp_path, monkeypatch):
    monkeypatch.setattr("vimdeploy.tasks.classification._Tally.points_lost", lambda self: 3.0)
    with pytest.raises(ParityError, match=r"loses 3\.00 percentage points, 0 are allowed"):
        vimdeploy.quantize(tiny_onnx, tmp_path / "int8.onnx", images, budget=0)
    assert not (tmp_path / "int8.onnx").exists()


def test_what_cannot_be(tiny_onnx, engine_file, images, tmp_path):
    with pytest.raises(ImageError, match="found no folder none"):
        vimdeploy.quantize(tiny_onnx, tmp_path / "int8.onnx", "none")
    with pytest.raises(ModelFileError, match="is an engine; wanted the ONNX file"):
        vimdeploy.quantize(engine_file(), tmp_path / "int8.onnx", images)
    with pytest.raises(OutputError, match="would be written over"):
        vimdeploy.quantize(tiny_onnx, tiny_onnx, images)
