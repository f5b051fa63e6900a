import shutil

import pytest

from vimdeploy.api.export import export
from vimdeploy.errors import ConfigError, OutputError


def test_what_was_written(tiny, tiny_pth, tmp_path):
    made = export(tiny, tmp_path / "tiny.onnx", checkpoint=tiny_pth)
    assert (made.artifact.path, made.passed_over) == (tmp_path / "tiny.onnx", ())
    assert made.parity
    assert all(result.passed for result in made.parity)


def test_the_checkpoint_as_output(tiny, tiny_pth, tmp_path):
    path = tmp_path / "tiny.pth"
    shutil.copy(tiny_pth, path)
    with pytest.raises(OutputError, match="would be written over"):
        export(tiny, path, checkpoint=path)
    assert path.read_bytes() == tiny_pth.read_bytes()


@pytest.mark.parametrize("wrong", [{"precision": "int8"}, {"image_size": "big"}, {"random_weights": None}])
def test_what_cannot_be(tiny, tmp_path, wrong):
    with pytest.raises(ConfigError):
        export(tiny, tmp_path / "tiny.onnx", **{"random_weights": 0} | wrong)
