"""Arrays in a GPU's memory: taken from PyTorch, CuPy, Numba, JAX and others without a copy, and given to them.

They meet by two agreements, DLPack and ``__cuda_array_interface__`` (version 3). Both say how the work of one library
comes before that of another: the stream of who reads an array waits for the stream that it was written on, on the GPU,
while the CPU goes on.
"""

from __future__ import annotations

import ctypes
import math
import sys
import weakref
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vimdeploy.errors import ConfigError, ExecutionError, InputError
from vimdeploy.gpu import Device, current, driver
from vimdeploy.runtimes import dlpack
from vimdeploy.runtimes.cuda_streams import LEGACY_STREAM, checked, wait_for
from vimdeploy.text import reason_of

_POINTER_DEVICE = 9
"""CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL of cuda.h."""


@dataclass(frozen=True, eq=False)
class GpuArray:
    """A contiguous array in a GPU's memory.

    Any library that knows DLPack or ``__cuda_array_interface__`` takes it without a copy: ``torch.from_dlpack(array)``,
    ``cupy.asarray(array)``, ``numba.cuda.as_cuda_array(array)``.
    """

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    gpu: int
    """CUDA's number of the GPU."""
    owner: object = field(default=None, repr=False)
    """What holds the memory, for as long as this array lives."""
    stream: int | None = None
    """The stream that writes it; None if it is written."""

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address if self.nbytes else 0, False),
            "strides": None,
            "stream": LEGACY_STREAM if self.stream == 0 else self.stream,
            "version": 3,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.CUDA, self.gpu

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> object:
        """A capsule of DLPack, once a stream waits for what writes the array.

        Args:
            stream: of who reads it; None: CUDA's default stream; -1: nobody waits.
            max_version: is passed over: every reader takes the first version.
            dl_device: None, or as of ``__dlpack_device__``.
            copy: None or False.

        Raises:
            BufferError: if the array is wanted elsewhere, or copied.
        """
        if copy or dl_device not in (None, self.__dlpack_device__()):
            raise BufferError(f"The array stays where it is, on {Device('cuda', self.gpu)}; copy it once you have it.")
        if stream != -1 and self.stream is not None:
            with current(self.gpu):
                wait_for(self.stream, LEGACY_STREAM if stream is None else stream)
        return dlpack.capsule_of(self.address, self.shape, self.dtype, self.__dlpack_device__(), self)

    def numpy(self) -> np.ndarray[Any, np.dtype[Any]]:
        """A copy in the CPU's memory, once the array is written.

        Raises:
            ExecutionError: if CUDA fails.
        """
        copy = np.empty(self.shape, self.dtype)
        with current(self.gpu):
            if self.stream is not None:
                checked(driver().cuStreamSynchronize(ctypes.c_void_p(self.stream)))
            size = ctypes.c_size_t(self.nbytes)
            checked(driver().cuMemcpyDtoH_v2(ctypes.c_void_p(copy.ctypes.data), ctypes.c_uint64(self.address), size))
        return copy


def is_on_gpu(value: object) -> bool:
    """Whether something is an array in a GPU's memory, by what it says of itself."""
    if isinstance(value, np.ndarray):
        return False
    if hasattr(value, "__dlpack_device__"):
        try:
            return value.__dlpack_device__()[0] in (dlpack.CUDA, dlpack.CUDA_MANAGED)
        except Exception:  # PyTorch's meta tensors are nowhere
            return False
    return hasattr(value, "__cuda_array_interface__")


def gpu_array_of(value: Any, gpu: int, stream: int) -> GpuArray:
    """An array of any library, ready to be used on a stream, which waits for what writes it.

    Args:
        value: an array of a library.
        gpu: CUDA's number of the GPU that it must be on.
        stream: the handle of the stream that will use it.

    Returns:
        The same memory. Who gave it must keep it as long as the stream uses it.

    Raises:
        InputError: if it is elsewhere, not contiguous, or of a type that numpy does not have.
        ExecutionError: if CUDA fails.
    """
    if not is_on_gpu(value):
        raise InputError(
            f"Wanted arrays on {Device('cuda', gpu)}, found a {type(value).__name__} that is not there; move it first."
        )
    with current(gpu):  # PyTorch gives arrays of the current GPU alone
        try:
            if hasattr(value, "__dlpack__"):
                value = value.detach() if hasattr(value, "detach") else value
                array = _from_capsule(value.__dlpack__(stream=stream or LEGACY_STREAM))
            else:
                array = _from_interface(value, gpu, stream)
        except (InputError, ExecutionError):
            raise
        except Exception as error:  # whatever the library raises
            raise InputError(f"The {type(value).__name__} gives no array: {reason_of(error)}") from error
    if array.gpu != gpu:
        found = Device("cuda", array.gpu)
        raise InputError(f"Wanted arrays on {Device('cuda', gpu)}, found one on {found}; move it there first.")
    return array


def stream_of_torch(like: object, gpu: int) -> int | None:
    """The handle of PyTorch's current stream, if something is a tensor of it; else None."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(like, torch.Tensor):
        return None
    handle: int = torch.cuda.current_stream(gpu).cuda_stream
    return handle


def empty(like: object, shape: tuple[int, ...], dtype: np.dtype[Any], gpu: int, stream: int | None = None) -> Any:
    """Memory for an output that is to be used by the library that an input is from.

    Args:
        like: the input.
        shape: of the output.
        dtype: of the output.
        gpu: CUDA's number of the GPU.
        stream: that is to write it; None: PyTorch's current one, which the writer must wait for.

    Returns:
        A tensor of PyTorch, in the memory that PyTorch manages, if the input is one, else a ``GpuArray``.

    Raises:
        ExecutionError: if the GPU is out of memory.
    """
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(like, torch.Tensor):
        return _allocated(shape, dtype, gpu, stream)
    on_stream: AbstractContextManager[Any] = nullcontext()
    if stream is not None:
        is_default = stream in (0, LEGACY_STREAM)
        made = torch.cuda.default_stream(gpu) if is_default else torch.cuda.ExternalStream(stream, gpu)
        on_stream = torch.cuda.stream(made)
    try:
        with on_stream:
            return torch.empty(shape, dtype=getattr(torch, dtype.name), device=like.device)
    except RuntimeError as error:  # as of a GPU without memory
        raise ExecutionError(f"PyTorch gives no memory for an output of {shape}: {reason_of(error)}") from error


def _allocated(shape: tuple[int, ...], dtype: np.dtype[Any], gpu: int, stream: int | None) -> GpuArray:
    """A new array. Its memory is given back with it, once the GPU is done with all that it was given."""
    address = ctypes.c_uint64()
    with current(gpu):
        size = max(1, math.prod(shape) * dtype.itemsize)
        checked(driver().cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(size)))
    owner = _Memory()
    weakref.finalize(owner, _free, address.value, gpu).atexit = False  # CUDA is gone then, and the memory with it
    return GpuArray(address.value, shape, dtype, gpu, owner, stream)


class _Memory:
    """Stands for memory that is freed when nothing refers to it any more."""


def _free(address: int, gpu: int) -> None:
    with suppress(ConfigError), current(gpu):  # of a GPU that has failed, the memory is gone
        driver().cuMemFree_v2(ctypes.c_uint64(address))


def _from_capsule(capsule: object) -> GpuArray:
    found = dlpack.described_by(capsule)
    _check_contiguous(found.shape, 1, found.strides)
    return GpuArray(found.address, found.shape, found.dtype, found.device, capsule)


def _from_interface(value: Any, gpu: int, stream: int) -> GpuArray:
    interface = value.__cuda_array_interface__
    shape, dtype = tuple(interface["shape"]), np.dtype(interface["typestr"])
    _check_contiguous(shape, dtype.itemsize, interface.get("strides"))
    address = interface["data"][0]
    writer = interface.get("stream")
    if writer is not None:
        wait_for(writer, stream)
    found = ctypes.c_int(gpu)
    if address:
        status = driver().cuPointerGetAttribute(ctypes.byref(found), _POINTER_DEVICE, ctypes.c_uint64(address))
        if status:
            raise InputError("Wanted arrays in a GPU's memory, found an address that CUDA does not know.")
    return GpuArray(address, shape, dtype, found.value, value)


def _check_contiguous(shape: tuple[int, ...], step: int, strides: Any) -> None:
    """Refuse an array whose elements do not lie one behind the other.

    Args:
        shape: of the array.
        step: from one element to the next, in the unit of the strides.
        strides: of the array; None if it is contiguous.
    """
    if strides is None or 0 in shape:
        return
    for size, stride in zip(reversed(shape), reversed(tuple(strides)), strict=True):
        if size != 1 and stride != step:
            raise InputError(
                "Wanted a contiguous array on the GPU, because nothing is copied there; found one of the shape "
                f"{shape} with the strides {tuple(strides)}. Make it contiguous first."
            )
        step *= size
