import json

from vimdeploy.api.inspect import inspect


def test_a_file_of_ours(tiny_onnx):
    facts = inspect(tiny_onnx)
    assert (facts["kind"], facts["made_by_vimdeploy"], facts["model"]["name"]) == ("onnx", True, "tiny")
    json.dumps(facts)


def test_an_engine(engine_file):
    assert inspect(engine_file())["operators"] == {"computed_by": ["plugin"], "nodes": {}}


def test_a_file_of_another_program(foreign_onnx):
    assert not inspect(foreign_onnx)["made_by_vimdeploy"]
