"""Which operators a session of ONNX Runtime computes with: the library's kernels, or the file's function bodies."""

from __future__ import annotations

from pathlib import Path

from vimdeploy import libraries
from vimdeploy.errors import ConfigError
from vimdeploy.gpu import gpus
from vimdeploy.runtimes.cuda_provider import check_cuda

OPERATORS = ("auto", "library", "function body")


def choose_library(operators: str, on_cuda: bool) -> Path | None:
    """What to register in a session of ONNX Runtime; None for the function bodies.

    A library without a kernel for the device stays out: a registered operator switches its body off.

    Args:
        operators: one of ``OPERATORS``; ``auto`` is the library where it can compute.
        on_cuda: whether the session is to run on the first GPU.

    Raises:
        ConfigError: where ``library`` is wanted and cannot be had.
    """
    if operators not in OPERATORS:
        raise ConfigError(f"operators must be one of {', '.join(OPERATORS)}, found {operators!r}.")
    if operators == "function body":
        return None
    lack = _lack_of_library(on_cuda)
    if lack and operators == "library":
        raise ConfigError(f"{lack}, or use operators='function body'.")
    return None if lack else libraries.library_path()


def _lack_of_library(on_cuda: bool) -> str | None:
    """Why the library cannot compute, and what to do; None where it can."""
    if libraries.library_path() is None:
        return (
            "The operator library is not in this installation of vimdeploy; install it again where a C++ compiler and "
            "cmake are"
        )
    if not on_cuda:
        return None
    check_cuda()
    capability = gpus()[0].compute_capability
    architectures = (libraries.library_info() or {})["cuda_architectures"]
    if libraries.architectures_cover(architectures, capability):
        return None
    return (
        f"The operator library has CUDA kernels for {', '.join(architectures) or 'no GPU'}, wanted were some for "
        f"compute capability {capability}; install vimdeploy again where CUDA's compiler nvcc is"
    )
