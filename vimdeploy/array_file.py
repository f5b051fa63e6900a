"""Arrays in a file of numpy (.npz): the inputs of a model for another program, and the outputs that it gave."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from vimdeploy.errors import InputError
from vimdeploy.files import write_whole
from vimdeploy.model_info import TensorSpec
from vimdeploy.reading import check_regular, shown, why

_MOST_BYTES = 2 << 30
"""Bytes of the arrays of a file: thousands of pictures, or of their answers."""


def write_arrays(path: str | Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write arrays by their names.

    Raises:
        OutputError: if the file cannot be written; nothing is left behind.
    """
    file = io.BytesIO()
    np.savez(file, **dict[str, Any](arrays))
    write_whole(path, file.getvalue())


def read_arrays(path: str | Path, specs: Sequence[TensorSpec], has_batch: bool) -> dict[str, npt.NDArray[Any]]:
    """Read arrays that a model takes or gives, one below the other along axis 0; what else is in the file is left.

    Args:
        path: of a file of ``numpy.savez``. A single array may have any name if a single one is wanted.
        specs: what is wanted, in the model's order.
        has_batch: whether axis 0 of ``specs`` is the batch; else the arrays have one axis more in front, of calls.

    Returns:
        The arrays by name, of one length along axis 0 and of the model's types.

    Raises:
        InputError: if the file cannot be read, lacks an array, or has one of another shape or type.
    """
    try:
        check_regular(path)
        with zipfile.ZipFile(path) as archive:
            found = _read(archive, specs, has_batch)
    except InputError as error:
        raise InputError(f"{shown(path)} cannot be used: {error}.") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise InputError(
            f"{shown(path)} cannot be read as arrays: {why(error).rstrip('.')}. Wanted a file of numpy.savez."
        ) from error
    lengths = {len(array) for array in found.values()}
    if len(lengths) > 1 or 0 in lengths:
        told = ", ".join(f"{name} {len(array)}" for name, array in found.items())
        raise InputError(f"{shown(path)} cannot be used: wanted arrays of one length along axis 0, found {told}.")
    return found


def _read(archive: zipfile.ZipFile, specs: Sequence[TensorSpec], has_batch: bool) -> dict[str, npt.NDArray[Any]]:
    """The arrays; none is read before all are known to be as wanted.

    Raises:
        InputError: a clause: what is wrong.
    """
    members = {name.removesuffix(".npy"): name for name in archive.namelist()}
    if len(specs) == len(members) == 1:
        members = {specs[0].name: archive.namelist()[0]}
    missing = [spec.name for spec in specs if spec.name not in members]
    if missing:
        raise InputError(f"wanted the arrays {', '.join(spec.name for spec in specs)}; found {', '.join(members)}")
    size = 0
    for spec in specs:
        with archive.open(members[spec.name]) as file:
            shape, dtype = _header(file)
        dims = spec.dims if not has_batch else spec.dims[1:]
        fits = len(shape) == 1 + len(dims) and all(
            isinstance(dim, str) or dim == length for dim, length in zip(dims, shape[1:], strict=True)
        )
        if not fits or dtype.kind != _type(spec).kind:
            wanted = ", ".join(map(str, ("count", *dims)))
            raise InputError(f"wanted {spec.name} ({wanted}) of {spec.type}, found {shape} of {dtype}")
        size += math.prod(shape) * max(dtype.itemsize, _type(spec).itemsize)
    if size > _MOST_BYTES:
        raise InputError(f"its arrays take {size >> 20:,} MiB, at most {_MOST_BYTES >> 20:,} are read; split it")
    arrays = {}
    for spec in specs:
        with archive.open(members[spec.name]) as file:
            arrays[spec.name] = np.lib.format.read_array(file, allow_pickle=False).astype(_type(spec), copy=False)
    return arrays


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """The shape and the type of an array, without its values."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    else:
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    return shape, dtype


def _type(spec: TensorSpec) -> np.dtype[Any]:
    """A tensor's type, as numpy has it; what numpy does not have is stored as float32."""
    try:
        return np.dtype(spec.type)
    except TypeError:
        return np.dtype(np.float32)
