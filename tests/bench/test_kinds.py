from pathlib import Path

import pytest

from vimdeploy.bench.kinds import kind_of
from vimdeploy.errors import ModelFileError


@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.safetensors", "a.json"])
def test_pytorch_runs_checkpoints_and_descriptions(name):
    assert kind_of(Path(name)) == "eager"


def test_an_onnx_file_is_ours_or_not(tiny_onnx, foreign_onnx):
    assert (kind_of(tiny_onnx), kind_of(foreign_onnx)) == ("ours", "foreign")


def test_an_engine(engine_file):
    assert kind_of(engine_file()) == "engine"


def test_a_missing_file():
    with pytest.raises(ModelFileError, match="cannot be read: No such file"):
        kind_of(Path("none.onnx"))
