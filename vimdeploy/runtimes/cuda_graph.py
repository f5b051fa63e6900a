"""CUDA graphs by the driver's own API, because pycuda (2026.1) has none.

A graph is work that a stream was given once, ready to be given again in one call: a model of many short kernels then
costs one launch.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from vimdeploy.gpu import driver

_CAPTURE_MODE_THREAD_LOCAL = 1
"""From cuda.h: other threads, PyTorch's for example, go on as they please while this one captures."""


class CudaGraph:
    """A recorded sequence of work, ready to run on a stream."""

    def __init__(self, executable: ctypes.c_void_p) -> None:
        self._executable = executable

    def launch(self, stream: int) -> bool:
        """Put the work into a stream; whether CUDA took it."""
        return driver().cuGraphLaunch(self._executable, ctypes.c_void_p(stream)) == 0

    def close(self) -> None:
        """Free the graph. The buffers that its work uses must live until then."""
        driver().cuGraphExecDestroy(self._executable)


def captured(stream: int, work: Callable[[], None]) -> CudaGraph | None:
    """The graph of what ``work`` puts into a stream, which does not run meanwhile.

    Args:
        stream: a stream's handle, its context current.
        work: must only put work into that stream.

    Returns:
        None if CUDA or ``work`` refused; the stream is then as it was.
    """
    cuda = driver()
    handle, graph, executable = ctypes.c_void_p(stream), ctypes.c_void_p(), ctypes.c_void_p()
    if cuda.cuStreamBeginCapture_v2(handle, _CAPTURE_MODE_THREAD_LOCAL):
        return None
    try:
        work()
        refused = False
    except Exception:  # the caller runs the work without a graph, and hears of the error then
        refused = True
    if cuda.cuStreamEndCapture(handle, ctypes.byref(graph)) or not graph:
        return None
    try:
        if refused or cuda.cuGraphInstantiateWithFlags(ctypes.byref(executable), graph, ctypes.c_ulonglong(0)):
            return None
    finally:
        cuda.cuGraphDestroy(graph)
    return CudaGraph(executable)
