import numpy as np
import pytest

from vimdeploy.errors import ExecutionError
from vimdeploy.gpu import current
from vimdeploy.runtimes.cuda_memory import DeviceMemory, PinnedMemory, copy_from_gpu, copy_on_gpu, copy_to_gpu

VALUES = np.arange(6, dtype=np.float32)


@pytest.fixture(autouse=True)
def context(cuda):
    with current(0):
        yield


def test_values_go_to_the_gpu_about_there_and_back(cuda):
    first, second, back = DeviceMemory(24), DeviceMemory(32), PinnedMemory(6, np.float32)
    copy_to_gpu(first.address, VALUES, 5)
    copy_on_gpu(second.address + 8, first.address, 24, 6)
    copy_from_gpu(back.array, second.address + 8, 7)
    np.testing.assert_array_equal(back.array, VALUES)
    assert [call for call in cuda.calls if call[0].startswith("copy")] == [
        ("copy in", 24, 5),
        ("copy", 24, 6),
        ("copy out", 24, 7),
    ]
    for memory in (first, second, back):
        memory.free()
    assert cuda.memory == {}


@pytest.mark.parametrize("dtype", [np.float16, np.int64, bool])
def test_pinned_memory_is_an_array(dtype):
    array = PinnedMemory(6, dtype).array
    array[:] = VALUES
    assert (array.dtype, array.shape) == (dtype, (6,))
    np.testing.assert_array_equal(array, VALUES.astype(dtype))


@pytest.mark.parametrize("make", [lambda: DeviceMemory(0).address, lambda: len(PinnedMemory(0, np.float32).array)])
def test_nothing_has_a_place_too(cuda, make):
    make()
    assert [call[1] for call in cuda.work] == [1]


@pytest.mark.parametrize(
    ("call", "fails"),
    [
        ("allocate", lambda: DeviceMemory(8)),
        ("pinned", lambda: PinnedMemory(2, np.float32)),
        ("copy in", lambda: copy_to_gpu(DeviceMemory(24).address, VALUES, 5)),
        ("copy out", lambda: copy_from_gpu(VALUES.copy(), DeviceMemory(24).address, 5)),
        ("copy", lambda: copy_on_gpu(DeviceMemory(24).address, DeviceMemory(24).address, 24, 5)),
    ],
)
def test_cuda_fails(cuda, call, fails):
    cuda.fails.add(call)
    with pytest.raises(ExecutionError, match=r"^CUDA failed: out of memory$"):
        fails()
