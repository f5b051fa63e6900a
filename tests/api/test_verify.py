import dataclasses
import warnings

import numpy as np
import onnx
import pytest

import vimdeploy
from vimdeploy.api.export import with_bytes
from vimdeploy.artifact import artifact_from_onnx
from vimdeploy.checkpoint import load_checkpoint
from vimdeploy.errors import ConfigError, OutputError, VimdeployWarning
from vimdeploy.inputs import Inputs
from vimdeploy.libraries import library_path
from vimdeploy.model_info import FromCheckpoint
from vimdeploy.parity.results import Verification


@pytest.fixture
def exported(tiny_proto, tiny_pth):
    """The tiny model in memory, as if it had been exported from its checkpoint."""
    model = onnx.ModelProto()
    model.CopyFrom(tiny_proto)
    info = dataclasses.replace(
        artifact_from_onnx(tiny_proto).info, origin=FromCheckpoint(load_checkpoint(tiny_pth).sha256)
    )
    onnx.helper.set_model_props(model, info.to_metadata())
    return artifact_from_onnx(model)


def test_one_result_per_way_to_compute(exported, tiny_pth):
    phases = []
    with warnings.catch_warnings():
        warnings.simplefilter("error", VimdeployWarning)
        results = vimdeploy.verify(
            exported, checkpoint=tiny_pth, count=2, progress=lambda phase, *_: phases.append(phase)
        )
    assert {type(result) for result in results} == {Verification}
    ways = ["library", "function body"] if library_path() else ["function body"]
    assert [result.candidate.description for result in results] == [f"ONNX Runtime ({way}, cpu)" for way in ways]
    assert all(result.passed and result.fault is None for result in results)
    assert (results[0].images, results[0].reference.source, results[0].candidate.source) == (
        *(2, str(tiny_pth)),
        "the model in memory",
    )
    assert results[0].candidate.sha256 == exported.sha256
    assert phases


def test_another_checkpoint_is_warned_of(exported, tiny_pth, tmp_path):
    other = tmp_path / "other.pth"
    other.write_bytes(tiny_pth.read_bytes() + b" ")
    with pytest.warns(VimdeployWarning, match=r"other\.pth is not the file that .* was exported from .their SHA-256"):
        vimdeploy.verify(exported, checkpoint=other, count=1)


def test_without_weights_the_library_is_compared_with_the_bodies(exported):
    if library_path() is None:
        pytest.skip("needs the compiled operators")
    with pytest.warns(VimdeployWarning, match="is compared with the function bodies, not with PyTorch"):
        [result] = vimdeploy.verify(exported, count=1)
    assert result.reference.description == "ONNX Runtime (function body, cpu)"


def test_against_a_file_that_takes_other_pictures(tiny_artifact):
    made = with_bytes(tiny_artifact)
    for artifact, other in ((made, tiny_artifact), (tiny_artifact, made)):
        results = vimdeploy.verify(artifact, against=other, count=2)
        assert results[0].passed
        assert results[0].outputs[0].largest == 0
        assert results[0].stages


def test_pictures_of_bytes(exported, tiny_pth, picture, tmp_path):
    results = vimdeploy.verify(
        with_bytes(exported), checkpoint=tiny_pth, images=picture.parent, report=tmp_path / "report.html"
    )
    for result in results:
        assert result.passed
        assert result.stages
        assert (result.weights.unknown, result.weights.differences) == ((), ())


def test_against_another_file(tiny_artifact, tiny_onnx):
    results = vimdeploy.verify(tiny_artifact, against=tiny_onnx, count=1)
    assert {(result.reference.source, result.weights) for result in results} == {(str(tiny_onnx), None)}


def test_a_page(tiny_artifact, tmp_path):
    vimdeploy.verify(tiny_artifact, count=1, report=tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


def test_what_cannot_be(tiny_artifact, tiny_onnx, tiny_pth, tmp_path):
    with pytest.raises(ConfigError, match="not several"):
        vimdeploy.verify(tiny_artifact, checkpoint=tiny_pth, against=tiny_onnx)
    with pytest.raises(ConfigError, match="give their folder too"):
        vimdeploy.verify(tiny_artifact, classes=tmp_path / "classes.csv")
    with pytest.raises(OutputError, match="would be written over"):
        vimdeploy.verify(tiny_onnx, report=tiny_onnx)
    with pytest.raises(OutputError, match="does not exist; create it first"):
        vimdeploy.verify(tiny_artifact, report=tmp_path / "none" / "page.html")


def test_inputs_of_several_sizes_cannot_be_saved(tiny_artifact, tmp_path, monkeypatch):
    sizes = iter(((3, 32, 32), (3, 40, 32)))
    several = Inputs("two", ["a", "b"], lambda number: {"images": np.zeros(next(sizes))})
    monkeypatch.setattr("vimdeploy.api.verify.some_inputs", lambda *_: several)
    with pytest.raises(ConfigError, match="The inputs are of several sizes"):
        vimdeploy.save_inputs(tiny_artifact, tmp_path / "inputs.npz")
    assert not (tmp_path / "inputs.npz").exists()
