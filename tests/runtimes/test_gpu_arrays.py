"""Arrays "on the GPU" are in the CPU's memory here, on a stand-in for the driver; NumPy and PyTorch are real."""

import gc

import numpy as np
import pytest
import torch
from helpers.stand_in_tensorrt import Foreign

from vimdeploy.errors import ExecutionError, InputError
from vimdeploy.runtimes.gpu_arrays import GpuArray, empty, gpu_array_of, is_on_gpu

VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)
OURS = 77
"""The stream of who reads."""


class Exporter:
    """A library's array, by DLPack alone; it writes down the streams that wait."""

    def __init__(self, array, gpu=0):
        self._array, self.streams = GpuArray(array.ctypes.data, array.shape, array.dtype, gpu, array), []

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()

    def __dlpack__(self, *, stream):
        self.streams.append(stream)
        return self._array.__dlpack__(stream=-1)


class TestIsOnGpu:
    @pytest.mark.parametrize("value", [GpuArray(0, (1,), VALUES.dtype, 0), Exporter(VALUES), Foreign(VALUES)])
    def test_what_says_so(self, value):
        assert is_on_gpu(value)

    @pytest.mark.parametrize(
        "value",
        [VALUES, torch.ones(1), torch.ones(1, requires_grad=True), torch.ones(1, device="meta"), [1], None, "x"],
    )
    def test_all_else_is_not(self, value):
        assert not is_on_gpu(value)


class TestTaken:
    def test_by_dlpack_whose_library_lets_our_stream_wait(self, cuda):
        exporter = Exporter(VALUES)
        array = gpu_array_of(exporter, 0, OURS)
        assert (array.address, array.shape, array.dtype) == (VALUES.ctypes.data, (3, 4), np.float32)
        assert (exporter.streams, cuda.calls) == ([OURS], [])

    def test_the_default_stream_is_1(self, cuda):
        exporter = Exporter(VALUES)
        gpu_array_of(exporter, 0, 0)
        assert exporter.streams == [1]

    @pytest.mark.parametrize(
        ("writer", "calls"), [(None, []), (OURS, []), (5, ["event", "record", "wait", "free event"])]
    )
    def test_by_its_interface_whose_stream_ours_waits_for(self, cuda, writer, calls):
        cuda.array(VALUES)
        array = gpu_array_of(Foreign(VALUES, writer), 0, OURS)
        assert (array.address, array.shape, array.dtype) == (VALUES.ctypes.data, (3, 4), np.float32)
        assert cuda.names() == calls
        if calls:
            assert cuda.calls[1:3] == [("record", 5), ("wait", OURS)]

    def test_on_another_gpu(self, cuda):
        with pytest.raises(InputError, match=r"^Wanted arrays on cuda, found one on cuda:1; move it there first\.$"):
            gpu_array_of(Exporter(VALUES, gpu=1), 0, OURS)

    @pytest.mark.parametrize("value", [VALUES, torch.ones(1), [1.0]])
    def test_in_the_cpus_memory(self, cuda, value):
        with pytest.raises(InputError, match=r"^Wanted arrays on cuda:1, found a \w+ that is not there"):
            gpu_array_of(value, 1, OURS)

    def test_an_address_that_cuda_does_not_know(self, cuda):
        with pytest.raises(InputError, match="found an address that CUDA does not know"):
            gpu_array_of(Foreign(VALUES), 0, OURS)

    def test_one_that_is_not_contiguous(self, cuda):
        with pytest.raises(InputError, match=r"Wanted a contiguous array .* shape \(4, 3\) with the strides \(4, 16\)"):
            gpu_array_of(Foreign(VALUES.T), 0, OURS)

    def test_strides_of_axes_of_one_do_not_matter(self, cuda):
        cuda.array(VALUES)
        foreign = Foreign(VALUES[:1].T[:, :, None])
        foreign.__cuda_array_interface__["strides"] = (4, 99, 98)
        assert gpu_array_of(foreign, 0, OURS).shape == (4, 1, 1)

    def test_a_library_that_fails(self, cuda):
        class Broken(Exporter):
            def __dlpack__(self, **_):
                raise BufferError("not today")

        with pytest.raises(InputError, match=r"^The Broken gives no array: not today$"):
            gpu_array_of(Broken(VALUES), 0, OURS)

    @pytest.mark.parametrize("entry", ["shape", "typestr", "data"])
    def test_an_interface_without_an_entry(self, cuda, entry):
        foreign = Foreign(VALUES)
        del foreign.__cuda_array_interface__[entry]
        with pytest.raises(InputError, match=r"^The Foreign gives no array: "):
            gpu_array_of(foreign, 0, OURS)


class TestGiven:
    def test_its_interface(self):
        array = GpuArray(4096, (3, 4), VALUES.dtype, 0, stream=0)
        assert array.__cuda_array_interface__ == {
            "shape": (3, 4),
            "typestr": "<f4",
            "data": (4096, False),
            "strides": None,
            "stream": 1,
            "version": 3,
        }

    def test_one_without_elements_has_no_address(self):
        assert GpuArray(4096, (0, 4), VALUES.dtype, 0).__cuda_array_interface__["data"] == (0, False)

    @pytest.mark.parametrize(("stream", "reader"), [(None, 1), (1, 1), (6, 6)])
    def test_who_reads_waits_for_who_writes(self, cuda, stream, reader):
        GpuArray(VALUES.ctypes.data, (3, 4), VALUES.dtype, 0, stream=5).__dlpack__(stream=stream)
        assert cuda.calls == [("event", 2), ("record", 5), ("wait", reader), ("free event",)]

    @pytest.mark.parametrize(("writer", "reader"), [(5, -1), (5, 5), (None, 6)])
    def test_or_does_not(self, cuda, writer, reader):
        GpuArray(VALUES.ctypes.data, (3, 4), VALUES.dtype, 0, stream=writer).__dlpack__(stream=reader)
        assert cuda.calls == []

    @pytest.mark.parametrize("wish", [{"copy": True}, {"dl_device": (1, 0)}, {"dl_device": (2, 1)}])
    def test_it_stays_where_it_is(self, wish):
        with pytest.raises(BufferError, match=r"^The array stays where it is, on cuda;"):
            GpuArray(4096, (3, 4), VALUES.dtype, 0).__dlpack__(**wish)

    def test_a_copy_for_the_cpu_waits_for_who_writes(self, cuda):
        cuda.array(VALUES)
        array = GpuArray(VALUES.ctypes.data, (3, 4), VALUES.dtype, 0, stream=5)
        np.testing.assert_array_equal(array.numpy(), VALUES)
        assert cuda.calls == [("synchronize stream", 5), ("copy back", 48)]

    def test_a_copy_that_cuda_refuses(self, cuda):
        cuda.array(VALUES)
        cuda.fails.add("copy back")
        with pytest.raises(ExecutionError, match="CUDA failed: out of memory"):
            GpuArray(VALUES.ctypes.data, (3, 4), VALUES.dtype, 0).numpy()


class TestEmpty:
    def test_the_memory_goes_with_the_last_who_has_it(self, cuda):
        array = empty(Foreign(VALUES), (2, 5), VALUES.dtype, 0)
        capsule = array.__dlpack__(stream=-1)
        assert (array.shape, cuda.calls) == ((2, 5), [("allocate array", 40)])
        del array
        gc.collect()
        assert "free array" not in cuda.names()
        del capsule
        gc.collect()
        assert cuda.names()[-1] == "free array"
        assert (cuda.memory, cuda.depth) == ({}, 0)

    def test_no_memory(self, cuda):
        cuda.fails.add("allocate array")
        with pytest.raises(ExecutionError, match="CUDA failed: out of memory"):
            empty(Foreign(VALUES), (2, 5), VALUES.dtype, 0)

    def test_is_pytorchs_if_the_input_is(self, cuda):
        tensor = empty(torch.ones(1), (2, 5), np.dtype(np.float16), 0)
        assert (tensor.shape, tensor.dtype, cuda.calls) == ((2, 5), torch.float16, [])

    @pytest.mark.parametrize(("stream", "made"), [(0, "default"), (1, "default"), (OURS, "external")])
    def test_pytorch_makes_it_on_the_callers_stream(self, monkeypatch, stream, made):
        asked = []
        monkeypatch.setattr(torch.cuda, "default_stream", lambda gpu: ("default", gpu))
        monkeypatch.setattr(torch.cuda, "ExternalStream", lambda handle, gpu: ("external", gpu))
        real = torch.inference_mode
        monkeypatch.setattr(torch.cuda, "stream", lambda found: asked.append(found) or real())
        empty(torch.ones(1), (2, 5), VALUES.dtype, 1, stream)
        assert asked == [(made, 1)]

    def test_pytorch_has_no_memory(self):
        with pytest.raises(
            ExecutionError, match=r"^PyTorch gives no memory for an output of \(1125899906842624, 1024\)"
        ):
            empty(torch.ones(1), (1 << 50, 1024), VALUES.dtype, 0)
