"""Capsules that go to and come from NumPy and PyTorch themselves, in the CPU's memory."""

import gc

import numpy as np
import pytest
import torch

from vimdeploy.errors import InputError
from vimdeploy.runtimes import dlpack
from vimdeploy.runtimes.dlpack import Description, capsule_of, described_by

CPU = (1, 0)


class Array:
    """Something with DLPack, whose memory is an array of numpy."""

    def __init__(self, array):
        self.array = array

    def __dlpack_device__(self):
        return CPU

    def __dlpack__(self, **_):
        return capsule_of(self.array.ctypes.data, self.array.shape, self.array.dtype, CPU, self)


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    gc.collect()
    assert not dlpack._given


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "int64", "int32", "uint8", "bool"])
@pytest.mark.parametrize("reader", [torch.from_dlpack, np.from_dlpack], ids=["torch", "numpy"])
def test_is_read_without_a_copy(reader, dtype):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    found = reader(Array(array))
    np.testing.assert_array_equal(np.asarray(found), array)
    array[1, 2, 3] = 0
    assert found[1, 2, 3] == 0


def test_the_memory_lives_as_long_as_who_reads_it():
    gone = []

    class Owner(Array):
        def __del__(self):
            gone.append(True)

    tensor = torch.from_dlpack(Owner(np.ones(3, np.float32)))
    gc.collect()
    assert (tensor.sum(), gone) == (3, [])
    del tensor
    gc.collect()
    assert gone == [True]


def test_a_capsule_that_nobody_reads_keeps_nothing():
    capsule = Array(np.ones(3, np.float32)).__dlpack__()
    assert len(dlpack._given) == 1
    del capsule
    assert not dlpack._given


def test_a_scalar_has_no_sizes():
    assert torch.from_dlpack(Array(np.array(2.5, np.float32))).item() == 2.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int64, torch.uint8, torch.bool])
def test_pytorchs_are_described(dtype):
    tensor = torch.ones(3, 4, dtype=dtype)[1:]
    found = described_by(tensor.__dlpack__())
    assert found._replace(strides=None) == Description(
        tensor.data_ptr(), (2, 4), None, np.dtype(str(dtype).removeprefix("torch.")), 0
    )


def test_strides_are_told():
    assert described_by(torch.ones(3, 4).T.__dlpack__()).strides == (1, 4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.complex64])
def test_a_type_that_numpy_does_not_have(dtype):
    with pytest.raises(InputError, match="Wanted a type that numpy has, found another one"):
        described_by(torch.ones(3, dtype=dtype).__dlpack__())
