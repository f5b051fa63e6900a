"""Which operators a session of ONNX Runtime computes with: the library's kernels, or the file's function bodies."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import NamedTuple

from vimdeploy import libraries
from vimdeploy.errors import ConfigError, SlowOperatorsWarning
from vimdeploy.gpu import Device, gpu_of
from vimdeploy.installation import rebuild_command
from vimdeploy.runtimes.cuda_provider import check_cuda

OPERATORS = ("auto", "library", "function-body")
_OLD_NAME = "function body"
"""How ``function-body`` was spelled first; still taken."""


class ChosenLibrary(NamedTuple):
    """What to register in a session of ONNX Runtime."""

    library: Path | None
    """None for the function bodies."""
    lack: str = ""
    """Why ``auto`` does without the library, and what to do; empty if it does not."""


def choose_library(operators: str, device: Device) -> ChosenLibrary:
    """Choose what computes our operators.

    A library without a kernel for the device stays out, because a registered operator switches its body off.

    Args:
        operators: one of ``OPERATORS``; ``auto`` is the library if it can compute, else the bodies.
        device: that the session is to run on, ``cpu`` or ``cuda``.

    Raises:
        ConfigError: if ``library`` is wanted and cannot be had.
    """
    if operators not in (*OPERATORS, _OLD_NAME):
        raise ConfigError(f"operators must be one of {', '.join(OPERATORS)}, found {operators!r}.")
    if operators in ("function-body", _OLD_NAME):
        return ChosenLibrary(None)
    lack = _lack_of_library(device)
    if lack and operators == "library":
        raise ConfigError(f"{lack}, or use operators='function-body'.")
    return ChosenLibrary(None if lack else libraries.library_path(), lack)


def warn_of_slow_operators(lack: str) -> None:
    """Say that a session computes with the function bodies although nobody asked for them.

    Args:
        lack: of the ``ChosenLibrary``.
    """
    warnings.warn(
        f"{lack}. Until then standard operators compute, which takes 6 to 11 times as long.",
        SlowOperatorsWarning,
        stacklevel=3,
    )


def _lack_of_library(device: Device) -> str:
    """Why the library cannot compute, and what to do; empty if it can."""
    if libraries.library_path() is None:
        return (
            "The compiled operators are not in this installation of vimdeploy; install it where a C++ compiler is: "
            f"{rebuild_command()}"
        )
    if device.kind == "cpu":
        return ""
    check_cuda(device)
    capability = gpu_of(device).compute_capability
    architectures = (libraries.library_info() or {})["cuda_architectures"]
    return libraries.lack_of_kernels("operator library", architectures, capability)
