"""``FILE.py:FUNCTION``: a function of somebody's file that makes a model and its example inputs."""

from __future__ import annotations

import contextlib
import importlib.util
import random
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vimdeploy.errors import ConfigError, require
from vimdeploy.reading import shown
from vimdeploy.text import shortened
from vimdeploy.user_code import told

if TYPE_CHECKING:
    from torch import nn

    from vimdeploy.model_info import ModelInfo
    from vimdeploy.networks import Network

    GivenModel = nn.Module | tuple[nn.Module, Any] | str | Path
    """A module that a file was exported from, with its example inputs if they are at hand."""

_PLACE = re.compile(r"(.+\.py):([^:/\\]+)")


def is_model_file(text: str) -> bool:
    """Whether a text is of the form ``FILE.py:FUNCTION``."""
    return _PLACE.fullmatch(text) is not None


@contextlib.contextmanager
def model_of_file(place: str) -> Iterator[tuple[nn.Module, Any]]:
    """Import a file and call its function, within ``vimdeploy.compat.mamba()``, which stands until the end.

    The file's folder is importable until the end. What the file prints goes to standard error. Random numbers are the
    same each time, so that a model without trained weights is the same model.

    Args:
        place: ``FILE.py:FUNCTION``; the function takes nothing.

    Yields:
        The model, and its example inputs as ``vimdeploy.export`` takes them.

    Raises:
        ConfigError: if there is no such file or function, or it does not give that.
        MissingPackageError: without torch.
    """
    match = _PLACE.fullmatch(place)
    if match is None:
        raise ConfigError(f"Wanted FILE.py:FUNCTION, such as their_model.py:make; found {shortened(repr(place), 100)}.")
    path, name = Path(match[1]), match[2]
    if not path.is_file():
        raise ConfigError(f"There is no file {shown(path)}; wanted one whose function {name}() makes the model.")
    torch = require("torch", "export")
    from vimdeploy.compat import mamba

    with contextlib.redirect_stdout(sys.stderr), mamba(), _importable(path.resolve()) as module, _same_numbers():
        made = _called(_function(_imported(module, path), name, path), f"{name}() in {shown(path)}")
        if not (isinstance(made, (tuple, list)) and len(made) == 2 and isinstance(made[0], torch.nn.Module)):
            raise ConfigError(
                f"Wanted a model and its example inputs from {name}() in {shown(path)}, as in "
                f"return model, (torch.randn(1, 3, 224, 224),); found {_kind(made)}."
            )
        yield made[0], made[1]


@contextlib.contextmanager
def given_network(
    model: GivenModel | None, info: ModelInfo
) -> Iterator[tuple[Network | None, dict[str, npt.NDArray[Any]]]]:
    """The PyTorch module that a file was exported from, in eval mode within the block, and its example inputs by name.

    Args:
        model: the module, (module, example inputs), or ``FILE.py:FUNCTION``; None for none.
        info: of the file.

    Raises:
        ConfigError: if it is none of these, or the file is of another module.
    """
    if model is None:
        yield None, {}
        return
    if isinstance(model, (str, Path)):
        with model_of_file(str(model)) as made, given_network(made, info) as given:
            yield given
        return
    torch = require("torch", "export")
    module, examples = model if isinstance(model, tuple) and len(model) == 2 else (model, None)
    if not isinstance(module, torch.nn.Module):
        raise ConfigError(
            f"Wanted a PyTorch module, (module, example inputs), or FILE.py:FUNCTION; found {_kind(model)}."
        )
    from vimdeploy.torch_module import example_arrays, network_of_module, ready

    with ready(module):
        network = network_of_module(module, examples, info)
        yield network, example_arrays(network)


def _kind(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {', '.join(type(each).__name__ for each in value) or 'nothing'}"
    return type(value).__name__


@contextlib.contextmanager
def _importable(path: Path) -> Iterator[ModuleType]:
    """A file as a module that is not run yet, its folder importable; at the end, nothing of the folder is left."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None  # its name ends in .py
    before, searched = dict(sys.modules), list(sys.path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    sys.path.insert(0, str(path.parent))
    try:
        yield module
    finally:
        sys.path[:] = searched
        for name, imported in list(sys.modules.items()):
            file = getattr(imported, "__file__", None)
            if imported is module or (name not in before and file and _is_in(Path(file), path.parent)):
                del sys.modules[name]
        if path.stem in before:
            sys.modules[path.stem] = before[path.stem]


def _is_in(file: Path, folder: Path) -> bool:
    return folder in file.parents and "site-packages" not in file.parts


def _imported(module: ModuleType, path: Path) -> ModuleType:
    assert module.__spec__ is not None
    assert module.__spec__.loader is not None
    try:
        module.__spec__.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever somebody's file raises
        raise ConfigError(f"{shown(path)} cannot be imported: {told(error)}.") from error
    return module


def _function(module: ModuleType, name: str, path: Path) -> Callable[[], Any]:
    functions = [key for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
    if not hasattr(module, name):
        has = f"it has {', '.join(functions[:5])}" if functions else "it has none"
        raise ConfigError(f"There is no function {name} in {shown(path)}; {has}.")
    function = getattr(module, name)
    if not callable(function):
        raise ConfigError(f"Wanted a function, {name} in {shown(path)} is {_kind(function)}.")
    found: Callable[[], Any] = function
    return found


def _called(function: Callable[[], Any], what: str) -> Any:
    try:
        return function()
    except (Exception, SystemExit) as error:  # whatever somebody's function raises
        raise ConfigError(f"{what} gave up: {told(error)}.") from error


@contextlib.contextmanager
def _same_numbers() -> Iterator[None]:
    """The random numbers of a seed within the block, and those of before behind it."""
    import torch

    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(0)
        np.random.seed(0)  # what other people's code draws from
        torch.manual_seed(0)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
