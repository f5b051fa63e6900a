"""Devices by name, and the CUDA driver, asked directly: it is there wherever a GPU can be used."""

from __future__ import annotations

import contextlib
import ctypes
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from vimdeploy.errors import ConfigError

# CUdevice_attribute of cuda.h, unchanged since CUDA 5
_COMPUTE_CAPABILITY_MAJOR, _COMPUTE_CAPABILITY_MINOR = 75, 76


DEVICES = ("auto", "cpu", "cuda")
_DEVICE = re.compile(r"(auto|cpu|cuda)|cuda:(\d{1,4})")


@dataclass(frozen=True)
class Device:
    """Where a model runs."""

    kind: str
    """One of ``DEVICES``; ``gpu`` or ``npu`` for those of other makers, which plugins of ONNX Runtime run on."""
    index: int = 0
    """CUDA's number of the GPU."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.index}" if self.index else self.kind


FIRST_GPU = Device("cuda")


def device_of(name: str | Device) -> Device:
    """The device that a name stands for, as in PyTorch: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.

    Raises:
        ConfigError: if it is none of these.
    """
    match = _DEVICE.fullmatch(str(name))
    if not match:
        raise ConfigError(
            f"device must be auto, cpu, cuda, or cuda:N for the GPU that CUDA counts as N; found {str(name)!r}."
        )
    return Device(match[1] or "cuda", int(match[2] or 0))


@dataclass(frozen=True)
class Gpu:
    """A GPU that CUDA can use."""

    name: str
    compute_capability: str
    """``8.7``, for example."""


@cache
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


def gpu_of(device: Device) -> Gpu:
    """The GPU that a device stands for.

    Raises:
        ConfigError: if there is none, as of ``gpus``, or none of that number.
    """
    found = gpus()
    if device.index >= len(found):
        names = ", ".join(f"cuda:{index} ({gpu.name})" for index, gpu in enumerate(found))
        raise ConfigError(f"no GPU {device}, but {names}")
    return found[device.index]


def memory_in_use(index: int = 0) -> int:
    """The bytes of a GPU's memory that are taken, by this process and by all others.

    Args:
        index: CUDA's number of the GPU.

    Raises:
        ConfigError: if there is no GPU, or it does not tell.
    """
    free, total = ctypes.c_size_t(0), ctypes.c_size_t(0)
    with current(index):
        _check(driver().cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)))
    return total.value - free.value


@contextlib.contextmanager
def current(index: int) -> Iterator[None]:
    """A GPU's primary context, current for this thread meanwhile.

    Args:
        index: CUDA's number of the GPU.

    Raises:
        ConfigError: if there is no GPU, or it cannot be used.
    """
    library, popped = driver(), ctypes.c_void_p()
    _check(library.cuCtxPushCurrent_v2(_primary_context(index)))
    try:
        yield
    finally:
        library.cuCtxPopCurrent_v2(ctypes.byref(popped))


@cache
def _primary_context(index: int) -> ctypes.c_void_p:
    """The context that all libraries of this process share on a GPU, kept for the life of the process."""
    library = driver()
    device, context = ctypes.c_int(0), ctypes.c_void_p()
    _check(library.cuDeviceGet(ctypes.byref(device), index))
    _check(library.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
    return context


def _check(status: int) -> None:
    if status:
        raise ConfigError(f"an NVIDIA GPU that cannot be used (CUDA error {status})")


def _gpu(library: ctypes.CDLL, index: int) -> Gpu:
    name = ctypes.create_string_buffer(128)
    library.cuDeviceGetName(name, len(name), index)
    major, minor = ctypes.c_int(0), ctypes.c_int(0)
    library.cuDeviceGetAttribute(ctypes.byref(major), _COMPUTE_CAPABILITY_MAJOR, index)
    library.cuDeviceGetAttribute(ctypes.byref(minor), _COMPUTE_CAPABILITY_MINOR, index)
    return Gpu(name.value.decode(), f"{major.value}.{minor.value}")
