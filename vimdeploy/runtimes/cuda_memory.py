"""Memory of a GPU and for its copies, by CUDA's driver. All that happens here wants the GPU's context to be current."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from vimdeploy.gpu import driver
from vimdeploy.runtimes.cuda_streams import checked


class DeviceMemory:
    """Memory of a GPU."""

    def __init__(self, size: int) -> None:
        """Take it.

        Args:
            size: in bytes.

        Raises:
            ExecutionError: if the GPU has none.
        """
        address = ctypes.c_uint64()
        checked(driver().cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(max(1, size))))
        self.address = address.value

    def free(self) -> None:
        """Give it back, once the GPU is done with all that it was given."""
        checked(driver().cuMemFree_v2(ctypes.c_uint64(self.address)))


class PinnedMemory:
    """Memory of the CPU that stays in place, so that copies to a GPU and from it go on while the CPU does."""

    def __init__(self, count: int, dtype: npt.DTypeLike) -> None:
        """Take it.

        Args:
            count: of elements.
            dtype: of each.

        Raises:
            ExecutionError: if the system has none.
        """
        place, size = ctypes.c_void_p(), max(1, count * np.dtype(dtype).itemsize)
        checked(driver().cuMemHostAlloc(ctypes.byref(place), ctypes.c_size_t(size), 0))
        self._place = place
        assert place.value
        self.array: npt.NDArray[Any] = np.frombuffer(
            memoryview((ctypes.c_char * size).from_address(place.value)), dtype, count
        )

    def free(self) -> None:
        """Give it back; nobody may use the array any more."""
        checked(driver().cuMemFreeHost(self._place))


def copy_to_gpu(to: int, array: npt.NDArray[Any], stream: int) -> None:
    """Put a copy from the CPU's memory into a stream.

    Args:
        to: address.
        array: contiguous, and kept until it is copied.
        stream: its handle.

    Raises:
        ExecutionError: if CUDA fails.
    """
    source, size = ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)
    checked(driver().cuMemcpyHtoDAsync_v2(ctypes.c_uint64(to), source, size, ctypes.c_void_p(stream)))


def copy_from_gpu(array: npt.NDArray[Any], source: int, stream: int) -> None:
    """Put a copy to the CPU's memory into a stream.

    Args:
        array: contiguous, and kept until it is written.
        source: address.
        stream: its handle.

    Raises:
        ExecutionError: if CUDA fails.
    """
    to, size = ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)
    checked(driver().cuMemcpyDtoHAsync_v2(to, ctypes.c_uint64(source), size, ctypes.c_void_p(stream)))


def copy_on_gpu(to: int, source: int, size: int, stream: int) -> None:
    """Put a copy within a GPU's memory into a stream.

    Args:
        to: address.
        source: address.
        size: in bytes.
        stream: its handle.

    Raises:
        ExecutionError: if CUDA fails.
    """
    addresses = ctypes.c_uint64(to), ctypes.c_uint64(source)
    checked(driver().cuMemcpyDtoDAsync_v2(*addresses, ctypes.c_size_t(size), ctypes.c_void_p(stream)))
