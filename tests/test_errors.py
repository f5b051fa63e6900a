import pytest

from vimdeploy import errors
from vimdeploy.errors import (
    ExecutionError,
    InputError,
    MissingPackageError,
    ParityError,
    VimdeployError,
    require,
)

ALL = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, VimdeployError)]


@pytest.mark.parametrize("error", ALL)
def test_every_error_is_in_the_drawn_tree(error):
    assert f" {error.__name__} " in errors.__doc__ or error is VimdeployError


@pytest.mark.parametrize("name", ["CheckpointError", "ConfigError", "ModelFileError", "ImageError", "OutputError"])
def test_wrong_input_can_be_caught_as_one(name):
    assert issubclass(getattr(errors, name), InputError)


@pytest.mark.parametrize("error", [MissingPackageError, ParityError, ExecutionError])
def test_what_is_no_wrong_input_is_not_caught_as_such(error):
    assert not issubclass(error, InputError)


@pytest.mark.parametrize("line", ["exit code 2", "(exit code 1)"])
def test_the_tree_tells_the_exit_codes(line):
    assert line in errors.__doc__


def test_require_imports():
    import json

    assert require("json", "export") is json


def test_require_names_the_extra_of_a_missing_package():
    with pytest.raises(MissingPackageError, match=r"no_such_package.*pip install '.*\[hub\]'"):
        require("no_such_package", "hub")


def test_require_keeps_the_import_error_as_cause():
    with pytest.raises(MissingPackageError) as caught:
        require("no_such_package", "hub")
    assert isinstance(caught.value.__cause__, ImportError)
