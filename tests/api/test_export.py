import dataclasses
import hashlib
import shutil
import sys

import numpy as np
import pytest

import vimdeploy
from vimdeploy.api.export import Exported
from vimdeploy.errors import ConfigError, InputError, MissingPackageError, OutputError, ParityError
from vimdeploy.model_info import FromCheckpoint
from vimdeploy.networks import AnySize
from vimdeploy.runtimes.onnxruntime import OnnxRuntimeSession


@pytest.fixture(scope="module")
def exported(tiny, tmp_path_factory):
    phases = []
    path = tmp_path_factory.mktemp("exported") / "tiny.onnx"
    made = vimdeploy.export(tiny, path, random_weights=0, progress=lambda phase, *_: phases.append(phase))
    return made, path, list(dict.fromkeys(phases))


def test_the_opened_file_and_the_comparison(exported):
    made, path, _ = exported
    assert isinstance(made, Exported)
    assert (made.artifact.path, made.artifact.bytes) == (path, path.stat().st_size)
    assert made.passed_over == ()
    assert all(result.passed and result.reference.description == "PyTorch (eager, cpu)" for result in made.parity)
    assert made.parity[-1].candidate.description == "ONNX Runtime (function body, cpu)"


def test_the_result_can_be_run_as_it_is(exported, picture):
    with vimdeploy.load(exported[0].artifact, device="cpu") as session:
        assert session.predict(picture).predictions[0].label in exported[0].artifact.info.labels


def test_progress_and_nothing_printed(exported, capfd):
    assert exported[2] == ["Making the model", "Tracing the model", "Comparing with PyTorch"]
    assert capfd.readouterr() == ("", "")


def test_from_a_checkpoint(tiny, tiny_pth, tmp_path):
    made = vimdeploy.export(tiny, tmp_path / "tiny.onnx", checkpoint=tiny_pth)
    assert (made.artifact.path, made.passed_over) == (tmp_path / "tiny.onnx", ())
    assert all(result.passed for result in made.parity)


def test_the_released_weights(tiny, tiny_pth, tmp_path, hub):
    released = dataclasses.replace(tiny, checkpoint="hf://hustvl/tiny/tiny.pth")
    made = vimdeploy.export(released, tmp_path / "tiny.onnx", pretrained=True)
    assert hub.asked == [("hustvl/tiny", "tiny.pth")]
    assert made.artifact.info.origin == FromCheckpoint(hashlib.sha256(tiny_pth.read_bytes()).hexdigest())


def test_released_weights_without_the_package_that_fetches_them(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingPackageError, match="This needs the package huggingface_hub"):
        vimdeploy.export("vim_tiny", tmp_path / "tiny.onnx", pretrained=True)
    assert list(tmp_path.iterdir()) == []


def test_a_network_of_ones_own(tiny_network, tmp_path):
    made = vimdeploy.export(tiny_network, str(tmp_path / "own.onnx"))
    assert made.artifact.info.labels == tiny_network.info.labels


def test_pictures_of_bytes(tiny, exported, picture, tmp_path):
    made = vimdeploy.export(tiny, tmp_path / "bytes.onnx", random_weights=0, uint8_input=True)
    assert str(made.artifact.info.inputs[0]) == "images (batch, 32, 32, 3) of uint8"
    assert all(result.passed and result.reference.description == "PyTorch (eager, cpu)" for result in made.parity)
    answers = [vimdeploy.load(each.artifact, device="cpu").predict(picture) for each in (made, exported[0])]
    assert answers[0].document() == answers[1].document()


@pytest.mark.slow
def test_names_of_classes_and_bounds(tiny, tmp_path):
    sizes = AnySize(least=(24, 24), most=(64, 64))
    made = vimdeploy.export(tiny, tmp_path / "a.onnx", random_weights=0, labels=list("abcde"), image_size=sizes)
    assert made.artifact.info.labels == tuple("abcde")
    assert made.artifact.info.size_text == "dynamic (24 to 64 in steps of 8)"
    assert vimdeploy.load(made.artifact).run(np.zeros((1, 3, 24, 40), np.float32))["logits"].shape == (1, 5)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ConfigError, "Wanted weights from one source: --checkpoint FILE, or"),
        ({"pretrained": True, "random_weights": 0}, ConfigError, "Wanted weights from one source"),
        ({"pretrained": True}, ConfigError, "knows no released weights of tiny; give some with --checkpoint FILE"),
        ({"random_weights": 0, "precision": "fp8"}, ConfigError, "precision must be one of fp32, fp16, bf16"),
        ({"random_weights": 0, "image_size": "big"}, ConfigError, "'dynamic', found 'big'"),
        ({"random_weights": 0, "task": "dreams"}, ConfigError, "task must be one of"),
        ({"random_weights": 0, "labels": ["one"]}, ConfigError, "Wanted 5 labels, one per class; found 1"),
        ({"checkpoint": "none.pth"}, InputError, "none.pth cannot be read"),
    ],
)
def test_what_cannot_be(tiny, tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        vimdeploy.export(tiny, tmp_path / "model.onnx", **options)
    assert list(tmp_path.iterdir()) == []


def test_the_checkpoint_is_no_output(tiny, tiny_pth, tmp_path):
    path = tmp_path / "tiny.pth"
    shutil.copy(tiny_pth, path)
    with pytest.raises(OutputError, match="would be written over"):
        vimdeploy.export(tiny, path, checkpoint=path)
    assert path.read_bytes() == tiny_pth.read_bytes()


def test_a_file_that_answers_otherwise_is_not_written(tiny, tmp_path, monkeypatch):
    right = OnnxRuntimeSession._run
    monkeypatch.setattr(
        OnnxRuntimeSession, "_run", lambda self, inputs: {name: v + 1 for name, v in right(self, inputs).items()}
    )
    with pytest.raises(ParityError, match=r"does not answer as PyTorch does: .* gives logits with an error of"):
        vimdeploy.export(tiny, tmp_path / "model.onnx", random_weights=0)
    assert list(tmp_path.iterdir()) == []
