from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

import vimdeploy
from vimdeploy import errors
from vimdeploy.errors import VimdeployError


def test_load_opens_a_session(tiny_onnx):
    session = vimdeploy.load(str(tiny_onnx), device="cpu", threads=1)
    assert session.run(np.zeros((1, 3, 32, 32), np.float32))["logits"].shape == (1, 5)


def test_load_raises_our_errors():
    with pytest.raises(VimdeployError):
        vimdeploy.load("none.onnx")


def test_version():
    assert vimdeploy.__version__ == version("vimdeploy")


def test_unknown_names():
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        _ = vimdeploy.no_such_name


def test_all_is_there():
    assert all(hasattr(vimdeploy, name) for name in vimdeploy.__all__)


@pytest.mark.parametrize(
    "error", [v for v in vars(errors).values() if isinstance(v, type) and v.__module__ == errors.__name__]
)
def test_every_error_and_warning_can_be_caught(error):
    assert getattr(vimdeploy, error.__name__) is error


def test_a_prompt_shows_what_there_is_and_nothing_else():
    assert dir(vimdeploy) == sorted(vimdeploy.__all__)


def test_types_are_for_users_too():
    assert (Path(vimdeploy.__file__).parent / "py.typed").is_file()
