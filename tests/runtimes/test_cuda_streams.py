import ctypes
from types import SimpleNamespace

import pytest
import torch

from vimdeploy.errors import ExecutionError, InputError
from vimdeploy.gpu import current
from vimdeploy.runtimes.cuda_streams import copy_on_gpu, stream_handle, synchronize, wait_for


@pytest.mark.parametrize(
    ("stream", "handle"),
    [
        (0, 0),
        (77 << 40, 77 << 40),
        (SimpleNamespace(__cuda_stream__=lambda: (0, 78)), 78),  # cuda.core
        (SimpleNamespace(cuda_stream=79), 79),  # PyTorch
        (SimpleNamespace(ptr=80), 80),  # CuPy
        (SimpleNamespace(handle=81), 81),  # pycuda
        (SimpleNamespace(handle=ctypes.c_void_p(82)), 82),  # Numba
        (SimpleNamespace(handle=ctypes.c_void_p(0)), 0),  # Numba's default stream
    ],
)
def test_a_stream_is_known_by_what_its_library_calls_it(stream, handle):
    assert stream_handle(stream) == handle


@pytest.mark.parametrize("stream", ["77", True, -1, 1 << 64, None, object(), torch.ones(1)])
def test_something_else_is_no_stream(stream):
    with pytest.raises(InputError, match=r"^Wanted a CUDA stream or its handle, found "):
        stream_handle(stream)


class TestOrder:
    def test_a_stream_waits_for_another(self, cuda):
        with current(0):
            wait_for(5, 6)
        assert cuda.calls == [("event", 2), ("record", 5), ("wait", 6), ("free event",)]

    @pytest.mark.parametrize(("writer", "reader"), [(5, 5), (0, 1), (1, 0), (0, 0)])
    def test_a_stream_waits_not_for_itself(self, cuda, writer, reader):
        """CUDA's default stream is 0 and 1."""
        with current(0):
            wait_for(writer, reader)
        assert cuda.calls == []

    @pytest.mark.parametrize("call", ["event", "record", "wait"])
    def test_cuda_fails(self, cuda, call):
        cuda.fails.add(call)
        with current(0), pytest.raises(ExecutionError, match=r"^CUDA failed: out of memory$"):
            wait_for(5, 6)
        assert cuda.names().count("free event") == (call != "event")


def test_a_copy_is_put_into_the_stream(cuda):
    with current(0):
        cuda.push()
        here, there = cuda.mem_alloc(4), cuda.mem_alloc(8)
        cuda.pop()
        cuda.bytes(int(here), 4)[:] = range(4)
        copy_on_gpu(there + 2, here, 4, 5)
        assert cuda.calls[-1] == ("copy", 4, 5)
        synchronize(5)
    assert cuda.bytes(int(there), 8).tolist() == [255, 255, 0, 1, 2, 3, 255, 255]
