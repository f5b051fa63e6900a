import json

import pytest

import vimdeploy
from vimdeploy.errors import ModelFileError

BOTH = {"file", "bytes", "sha256", "kind", "made_by_vimdeploy", "image_size", "model", "operators"}


def test_of_an_onnx_file(tiny_onnx):
    facts = vimdeploy.inspect(str(tiny_onnx))
    assert facts.keys() >= BOTH
    assert (facts["kind"], facts["made_by_vimdeploy"], facts["bytes"]) == ("onnx", True, tiny_onnx.stat().st_size)
    assert facts["operators"] == {
        "computed_by": ["library", "function body"],
        "nodes": {"BidirectionalConv1d": 2, "BidirectionalSelectiveScan": 2},
    }


def test_of_an_opened_model(tiny_artifact):
    facts = vimdeploy.inspect(tiny_artifact)
    assert (facts["file"], facts["sha256"]) == ("the model in memory", tiny_artifact.sha256)


def test_of_an_engine(engine_file):
    facts = vimdeploy.inspect(engine_file())
    assert facts.keys() >= BOTH
    assert (facts["kind"], facts["operators"]) == ("engine", {"computed_by": ["plugin"], "nodes": {}})


def test_of_another_programs_file(foreign_onnx):
    facts = vimdeploy.inspect(foreign_onnx)
    assert (facts["made_by_vimdeploy"], facts["operators"]["computed_by"]) == (False, [])
    assert facts["model"]["inputs"] == {"x": {"dims": [1], "type": "float32"}}


def test_is_a_document_for_json(tiny_onnx, engine_file, foreign_onnx):
    for path in (tiny_onnx, engine_file(), foreign_onnx):
        json.dumps(vimdeploy.inspect(path), allow_nan=False)


def test_what_is_no_model(tmp_path):
    with pytest.raises(ModelFileError, match=r"none\.onnx cannot be read"):
        vimdeploy.inspect(tmp_path / "none.onnx")
