"""DLPack's capsules, read and made; the structures are those before version 1, which every library takes."""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import numpy as np

from vimdeploy.errors import InputError

CUDA, CUDA_MANAGED = 2, 13
"""Kinds of memory that a GPU reads."""
_DLPACK_KINDS = {0: "i", 1: "u", 2: "f", 6: "b"}
"""DLPack's codes of types that numpy has, as numpy's letters."""
_CODES = {kind: code for code, kind in _DLPACK_KINDS.items()}
_CAPSULE = b"dltensor"


class Description(NamedTuple):
    """Where an array is, and how it lies there."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    """In elements; None if it is contiguous."""
    dtype: np.dtype[Any]
    device: int
    """The device's number."""


class _DLDevice(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("index", ctypes.c_int32))


class _DLDataType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _DLTensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _DLDevice),
        ("ndim", ctypes.c_int32),
        ("dtype", _DLDataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _DLManagedTensor(ctypes.Structure):
    _fields_ = (
        ("tensor", _DLTensor),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
    )


_new_capsule = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi)
)
_pointer_in = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
# A capsule that is being destroyed must not be counted again, so it goes by its address.
_is_unread = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_IsValid", ctypes.pythonapi))
_pointer_at = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)

_given: dict[int, Any] = {}
"""What capsules point to, by its address, until who took it says that it is done."""


def described_by(capsule: object) -> Description:
    """What is in a capsule, which stays as it is: nobody takes the array out, so the capsule holds its memory.

    Raises:
        InputError: for a type that numpy does not have.
    """
    tensor = _DLManagedTensor.from_address(_pointer_in(capsule, _CAPSULE)).tensor
    shape = tuple(tensor.shape[: tensor.ndim])
    strides = tuple(tensor.strides[: tensor.ndim]) if tensor.strides else None
    type_ = tensor.dtype
    if type_.code not in _DLPACK_KINDS or type_.lanes != 1 or type_.bits not in (8, 16, 32, 64):
        raise InputError("Wanted a type that numpy has, found another one, such as bfloat16; convert it first.")
    dtype = np.dtype(f"{_DLPACK_KINDS[type_.code]}{type_.bits // 8}")
    return Description((tensor.data or 0) + tensor.byte_offset, shape, strides, dtype, tensor.device.index)


def capsule_of(
    address: int, shape: tuple[int, ...], dtype: np.dtype[Any], device: tuple[int, int], owner: object
) -> Any:
    """A capsule that describes a contiguous array.

    Args:
        address: of the first element.
        shape: of the array.
        dtype: boolean, of whole or of floating-point numbers.
        device: DLPack's kind of memory, and the device's number.
        owner: what holds the memory; it is kept until who takes the array is done with it.
    """
    sizes = (ctypes.c_int64 * len(shape))(*shape)
    tensor = _DLTensor(
        data=address,
        device=_DLDevice(*device),
        ndim=len(shape),
        dtype=_DLDataType(_CODES[dtype.kind], 8 * dtype.itemsize, 1),
        shape=sizes,
    )
    managed = _DLManagedTensor(tensor=tensor, deleter=_deleter)
    _given[ctypes.addressof(managed)] = managed, sizes, owner
    return _new_capsule(ctypes.addressof(managed), _CAPSULE, ctypes.cast(_destructor, ctypes.c_void_p))


def _give_back(address: int) -> None:
    del _given[address]


def _destroy(capsule: int) -> None:
    """What happens to a capsule in the end; who takes what is in it gives it another name."""
    if _is_unread(capsule, _CAPSULE):
        _give_back(_pointer_at(capsule, _CAPSULE))


_deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_give_back)
_destructor = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(_destroy)
