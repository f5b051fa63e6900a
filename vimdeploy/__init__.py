"""Deploy Vision Mamba: a checkpoint becomes one ONNX file that runs on any machine, with proof of its answers.

>>> session = vimdeploy.load("vim_tiny.onnx")
>>> session.predict("cat.jpg")
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# ONNX Runtime 1.29 and newer report to their maker unless this is set before they are imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from vimdeploy import compat
    from vimdeploy.api.bench import bench
    from vimdeploy.api.build import build
    from vimdeploy.api.convert import convert
    from vimdeploy.api.export import export
    from vimdeploy.api.extract import extract
    from vimdeploy.api.inspect import inspect
    from vimdeploy.api.package import package
    from vimdeploy.api.quantize import quantize
    from vimdeploy.api.refit import refit
    from vimdeploy.api.run import run
    from vimdeploy.api.verify import save_inputs, verify
    from vimdeploy.errors import (
        CheckpointError,
        ConfigError,
        ExecutionError,
        ImageError,
        InputError,
        MissingPackageError,
        ModelFileError,
        OutputError,
        ParityError,
        SlowOperatorsWarning,
        VimdeployError,
        VimdeployWarning,
    )
    from vimdeploy.runtimes.base import Session
    from vimdeploy.runtimes.load import load

    __version__: str

_VERBS = ("export", "convert", "quantize", "build", "refit", "run", "extract", "verify", "bench", "package", "inspect")
_ERRORS = (
    "CheckpointError",
    "ConfigError",
    "ExecutionError",
    "ImageError",
    "InputError",
    "MissingPackageError",
    "ModelFileError",
    "OutputError",
    "ParityError",
    "SlowOperatorsWarning",
    "VimdeployError",
    "VimdeployWarning",
)
_HOMES = {
    **{verb: f"vimdeploy.api.{verb}" for verb in _VERBS},
    **dict.fromkeys(_ERRORS, "vimdeploy.errors"),
    "Session": "vimdeploy.runtimes.base",
    "load": "vimdeploy.runtimes.load",
    "save_inputs": "vimdeploy.api.verify",
}
"""Where each name is: modules are imported when a name is used, so that ``import vimdeploy`` stays light."""

__all__ = [  # noqa: RUF022  # in the order of use
    "load",
    "export",
    "convert",
    "quantize",
    "build",
    "refit",
    "run",
    "extract",
    "verify",
    "save_inputs",
    "bench",
    "package",
    "inspect",
    "compat",
    "Session",
    "CheckpointError",
    "ConfigError",
    "ExecutionError",
    "ImageError",
    "InputError",
    "MissingPackageError",
    "ModelFileError",
    "OutputError",
    "ParityError",
    "SlowOperatorsWarning",
    "VimdeployError",
    "VimdeployWarning",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("vimdeploy")
    if name == "compat":
        return import_module("vimdeploy.compat")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
