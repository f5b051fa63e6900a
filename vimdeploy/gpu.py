"""The CUDA driver, asked directly: it is there wherever a GPU can be used."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from functools import cache

from vimdeploy.errors import ConfigError

# CUdevice_attribute of cuda.h, unchanged since CUDA 5
_COMPUTE_CAPABILITY_MAJOR, _COMPUTE_CAPABILITY_MINOR = 75, 76


@dataclass(frozen=True)
class Gpu:
    """A GPU that CUDA can use."""

    name: str
    compute_capability: str
    """``8.7``, for example."""


def driver() -> ctypes.CDLL:
    """The driver's library, initialised.

    Raises:
        ConfigError: if there is none, or none that works.
    """
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        library = ctypes.CDLL(name)
    except OSError as error:
        raise ConfigError(f"no NVIDIA driver ({name})") from error
    status = library.cuInit(0)
    if status:
        raise ConfigError(f"an NVIDIA driver, but no GPU that it can use (CUDA error {status})")
    return library


def gpus() -> list[Gpu]:
    """The GPUs, in CUDA's order; at least one.

    Raises:
        ConfigError: if there is none; the message says what was found instead, to be put into a sentence.
    """
    library = driver()
    count = ctypes.c_int(0)
    library.cuDeviceGetCount(ctypes.byref(count))
    if not count.value:
        raise ConfigError("an NVIDIA driver, but no GPU")
    return [_gpu(library, index) for index in range(count.value)]


def memory_in_use() -> int:
    """The bytes of the first GPU's memory that are taken, by this process and by all others.

    Raises:
        ConfigError: if there is no GPU, or it does not tell.
    """
    library, context = driver(), _primary_context()
    free, total, popped = ctypes.c_size_t(0), ctypes.c_size_t(0), ctypes.c_void_p()
    _check(library.cuCtxPushCurrent_v2(context))
    try:
        _check(library.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)))
    finally:
        library.cuCtxPopCurrent_v2(ctypes.byref(popped))
    return total.value - free.value


@cache
def _primary_context() -> ctypes.c_void_p:
    """The context that all libraries of this process share on the first GPU, kept for the life of the process."""
    library = driver()
    device, context = ctypes.c_int(0), ctypes.c_void_p()
    _check(library.cuDeviceGet(ctypes.byref(device), 0))
    _check(library.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
    return context


def _check(status: int) -> None:
    if status:
        raise ConfigError(f"an NVIDIA GPU that does not tell how much of its memory is free (CUDA error {status})")


def _gpu(library: ctypes.CDLL, index: int) -> Gpu:
    name = ctypes.create_string_buffer(128)
    library.cuDeviceGetName(name, len(name), index)
    major, minor = ctypes.c_int(0), ctypes.c_int(0)
    library.cuDeviceGetAttribute(ctypes.byref(major), _COMPUTE_CAPABILITY_MAJOR, index)
    library.cuDeviceGetAttribute(ctypes.byref(minor), _COMPUTE_CAPABILITY_MINOR, index)
    return Gpu(name.value.decode(), f"{major.value}.{minor.value}")
