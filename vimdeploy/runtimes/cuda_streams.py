"""CUDA streams of this process's libraries: what they are known by, and how the work of one comes before another's."""

from __future__ import annotations

import ctypes
from typing import Any

from vimdeploy.errors import ExecutionError, InputError
from vimdeploy.gpu import driver

LEGACY_STREAM = 1
"""CUDA's default stream, which both agreements call 1 because 0 could be either of its two default streams."""

_EVENT_WITHOUT_TIME = 2
"""CU_EVENT_DISABLE_TIMING of cuda.h."""


def stream_handle(stream: Any) -> int:
    """The handle of a CUDA stream: a number, or an object of PyTorch, CuPy, Numba, pycuda or cuda.core.

    Raises:
        InputError: if it is none of these.
    """
    handle: Any = stream
    if callable(getattr(stream, "__cuda_stream__", None)):
        handle = stream.__cuda_stream__()[1]
    else:
        for name in ("cuda_stream", "ptr", "handle"):
            handle = getattr(handle, name, handle)
    if isinstance(handle, ctypes.c_void_p):
        handle = handle.value or 0
    if isinstance(handle, bool) or not isinstance(handle, int) or not 0 <= handle < 1 << 64:
        raise InputError(f"Wanted a CUDA stream or its handle, found {stream!r}.")
    return handle


class Event:
    """A point in a stream's work, which others wait for. All that it does wants the GPU's context to be current."""

    def __init__(self) -> None:
        """Make one, which has passed.

        Raises:
            ExecutionError: if CUDA fails.
        """
        self._event = ctypes.c_void_p()
        checked(driver().cuEventCreate(ctypes.byref(self._event), _EVENT_WITHOUT_TIME))

    def record(self, stream: int) -> None:
        """Pass when a stream has done what it was given so far."""
        checked(driver().cuEventRecord(self._event, ctypes.c_void_p(stream)))

    def precede(self, stream: int) -> None:
        """Let a stream wait for it, while the CPU goes on."""
        checked(driver().cuStreamWaitEvent(ctypes.c_void_p(stream), self._event, 0))

    def synchronize(self) -> None:
        """Wait for it."""
        checked(driver().cuEventSynchronize(self._event))

    def close(self) -> None:
        """Free it; streams keep what they wait for."""
        driver().cuEventDestroy_v2(self._event)


def wait_for(writer: int, reader: int) -> None:
    """Let a stream wait for what another was given so far, while the CPU goes on; their context is current.

    Args:
        writer: the handle of the stream that is waited for.
        reader: the handle of the stream that waits.

    Raises:
        ExecutionError: if CUDA fails.
    """
    if (writer or LEGACY_STREAM) != (reader or LEGACY_STREAM):
        event = Event()
        try:
            event.record(writer)
            event.precede(reader)
        finally:
            event.close()


def synchronize(stream: int) -> None:
    """Wait for what a stream was given so far; its context is current.

    Args:
        stream: its handle.

    Raises:
        ExecutionError: if CUDA fails.
    """
    checked(driver().cuStreamSynchronize(ctypes.c_void_p(stream)))


def copy_on_gpu(to: int, source: int, size: int, stream: int) -> None:
    """Put a copy within a GPU's memory into a stream; its context is current.

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


def checked(status: int) -> None:
    """Refuse a status of the driver.

    Raises:
        ExecutionError: if it is an error, with the driver's words.
    """
    if status:
        words = ctypes.c_char_p()
        driver().cuGetErrorString(status, ctypes.byref(words))
        raise ExecutionError(f"CUDA failed: {words.value.decode() if words.value else f'error {status}'}")
