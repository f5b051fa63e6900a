"""The compiled operators: where the libraries lie, and what they say of themselves."""

from __future__ import annotations

import ctypes
import json
import re
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from vimdeploy.errors import ConfigError

_SUFFIX = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")


def library_path(runtime: str = "onnxruntime") -> Path | None:
    """Our operators as a library for ``onnxruntime`` or ``tensorrt``; None if this installation lacks it.

    Python started in the folder of the sources imports those, which have no library: the installed package's is taken.
    """
    name = f"libvimdeploy_{runtime}{_SUFFIX}"
    folders = [Path(package) for package in sys.modules["vimdeploy"].__path__]  # two if it is installed as editable
    installed = _installed_folder()
    return next(
        (path for folder in (*folders, installed) if folder and (path := folder / "lib" / name).is_file()), None
    )


def cmake_prefix() -> Path | None:
    """The folder in which CMake's ``find_package(vimdeploy)`` finds the libraries; None if this installation lacks it.

    It is for ``CMAKE_PREFIX_PATH``.
    """
    library = library_path()
    prefix = library and library.parents[1]
    return prefix if prefix and (prefix / "lib" / "cmake" / "vimdeploy" / "vimdeployConfig.cmake").is_file() else None


def _installed_folder() -> Path | None:
    """The folder of the installed package, which need not be the one that was imported; None if none is installed."""
    try:
        return Path(str(metadata.distribution("vimdeploy").locate_file("vimdeploy")))
    except metadata.PackageNotFoundError:
        return None


@cache
def library_info(runtime: str = "onnxruntime") -> dict[str, Any] | None:
    """What the library for ``onnxruntime`` or ``tensorrt`` says of itself; None if it is not installed.

    Among the rest: ``cuda_architectures``, empty if it was built without CUDA's compiler; of ONNX Runtime's also
    ``instruction_set``, the one it chose.

    Raises:
        ConfigError: if it cannot be loaded.
    """
    path = library_path(runtime)
    if path is None:
        return None
    try:
        describe = ctypes.CDLL(str(path)).VimdeployLibraryInfo
        describe.restype = ctypes.c_char_p
        info: dict[str, Any] = json.loads(describe())
    except (OSError, AttributeError, ValueError) as error:
        raise ConfigError(f"{path} cannot be loaded: {error}") from error
    return info


def lack_of_kernels(name: str, architectures: Sequence[str], compute_capability: str) -> str:
    """Why a library cannot compute on a GPU, and what to do; empty if it can.

    Args:
        name: of the library, for people.
        architectures: its ``cuda_architectures``.
        compute_capability: of the GPU.
    """
    if architectures_cover(architectures, compute_capability):
        return ""
    return (
        f"The {name} has CUDA kernels for {', '.join(architectures) or 'no GPU'}, wanted were some for compute "
        f"capability {compute_capability}; install vimdeploy again where CUDA's compiler nvcc is"
    )


def architectures_cover(architectures: Iterable[str], compute_capability: str) -> bool:
    """Whether code for these architectures runs on a GPU.

    Args:
        architectures: as CMake writes them: ``86-real`` is machine code, which later GPUs of the same generation run;
            ``86-virtual`` is PTX, which every later GPU runs; ``86`` is both.
        compute_capability: of the GPU, such as ``8.9``.
    """
    gpu = tuple(int(part) for part in compute_capability.split("."))
    for architecture in architectures:
        match = re.fullmatch(r"(\d+)(\d)(-real|-virtual)?", architecture)
        if match is None:  # "native", "all": made for what there is
            return True
        built = int(match[1]), int(match[2])
        if built <= gpu and (built[0] == gpu[0] or match[3] != "-real"):
            return True
    return False
