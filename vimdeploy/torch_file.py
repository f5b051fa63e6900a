"""What a PyTorch file holds, as data: nothing in it is executed, and nothing asks for more memory than it has bytes.

Read are the files of ``torch.save``, zipped or as before torch 1.6, by torch's own loader for data alone; and plain
pickles of numpy arrays, as detectron2's model zoo has them. Before either, each pickle is walked without building
anything: its operations are counted, and how deep they nest.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from vimdeploy.errors import CheckpointError, require
from vimdeploy.text import reason_of, shortened

UNPACKED = 8
"""How many times its own size a file may unpack to; weights hardly compress at all."""
_OPERATIONS = 2_000_000
"""Most operations of a pickle; a released training state has 30,000, and each may take some 200 bytes."""
_DEPTH = 500
"""Deepest nesting: Python's own C code crashes on tuples that nest some 10,000 deep."""
_LONGEST_NAME = 200
"""Characters of a class's name; torch searches minutes in a message about one of a million. And its loader makes a
bytearray of any length, with no bytes in the file."""
_LEGACY_PICKLES = 5
"""A magic number, a version, the machine, the contents, and the names of the storages that follow."""
_HOLDERS = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD", "REDUCE", "NEWOBJ", "NEWOBJ_EX"}
"""Operations that put the other operands into the first one, or call it with them."""


class Data:
    """Stands for an object that is data: a date, a path, a Namespace. It does nothing but keep what it is made of."""

    def __init__(self, *parts: Any, **named: Any) -> None:
        self.parts = parts
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class Array(Data):
    """Stands for a numpy array."""

    def value(self) -> np.ndarray:
        """The array.

        Raises:
            ValueError: if it is none of numbers.
            TypeError: if its parts are not what numpy writes.
        """
        if self.state is None:  # of pickles of protocol 5
            content, dtype, shape, order = self.parts
        else:
            _, shape, dtype, is_fortran, content = self.state
            order = "F" if is_fortran else "C"
        if not isinstance(content, (bytes, bytearray)) or not isinstance(dtype, _Type):
            raise ValueError("an array of objects is no weight")
        kind = dtype.value()
        return np.frombuffer(content, kind).reshape(shape, order=order).astype(kind.newbyteorder("="))


class _Type(Data):
    """Stands for a numpy dtype."""

    def value(self) -> np.dtype:
        code = str(self.parts[0]) if self.parts else ""
        if not re.fullmatch(r"[fiub][1248]", code):
            raise ValueError("what is no number is no weight")
        is_swapped = isinstance(self.state, tuple) and self.state[1:2] == (">",)
        return np.dtype(code).newbyteorder(">" if is_swapped else "=")


class _Items(Data):
    """Stands for a dictionary of another class: a plain one."""

    def __new__(cls, *parts: Any) -> Any:
        return OrderedDict()


class _List(Data):
    """Stands for a deque: a list."""

    def __new__(cls, *parts: Any) -> Any:
        return []


def _stand_ins() -> dict[str, type]:
    """What takes the place of each class that is data, by the class's name in a pickle."""
    names: dict[type, list[str]] = {
        Data: [
            *(
                f"builtins.{name}"
                for name in ("bool", "dict", "float", "frozenset", "int", "list", "object", "str", "tuple")
            ),
            "builtins.range",
            "builtins.slice",
            "argparse.Namespace",
            "types.SimpleNamespace",
            *(f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta", "timezone")),
            *(
                f"{module}.{pure}{system}Path"
                for module in ("pathlib", "pathlib._local")
                for pure in ("", "Pure")
                for system in ("", "Posix", "Windows")
            ),
            "decimal.Decimal",
            "fractions.Fraction",
            "uuid.UUID",
            "uuid.SafeUUID",
            "torch.torch_version.TorchVersion",
            *(f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")),
        ],
        Array: [f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core")]
        + [f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")]
        + ["numpy.ndarray"],
        _Type: ["numpy.dtype"],
        _List: ["collections.deque"],
        _Items: [
            "collections.defaultdict",
            "lightning_fabric.utilities.data.AttributeDict",
            "lightning.fabric.utilities.data.AttributeDict",
            "pytorch_lightning.utilities.parsing.AttributeDict",
            "lightning.pytorch.utilities.parsing.AttributeDict",
            "easydict.EasyDict",
            "addict.addict.Dict",
            "mmcv.utils.config.ConfigDict",
            "mmengine.config.config.ConfigDict",
            "yacs.config.CfgNode",
            "fvcore.common.config.CfgNode",
            "detectron2.config.config.CfgNode",
        ],
    }
    return {name: stand_in for stand_in, given in names.items() for name in given}


STAND_INS = _stand_ins()


class _Unpickler(pickle.Unpickler):
    """For plain pickles: what is not in the list is refused by its name."""

    def find_class(self, module: str, name: str) -> Any:
        known: dict[str, Any] = STAND_INS | {"collections.OrderedDict": OrderedDict, "_codecs.encode": _bytes_of}
        if f"{module}.{name}" not in known:
            raise pickle.UnpicklingError(f"Unsupported global: GLOBAL {module}.{name}")
        return known[f"{module}.{name}"]


def _bytes_of(text: str, encoding: str) -> bytes:
    """Bytes as Python 3 writes them into old pickles."""
    return text.encode("latin1")


def contents(path: Path, data: bytes) -> Any:
    """What a file holds; objects that are data and no weights are ``Data``.

    Args:
        path: of the file, for the messages.
        data: the whole file.

    Raises:
        CheckpointError: if it is damaged, holds more than data, or asks for much more memory than it has bytes.
        MissingPackageError: without torch.
    """
    torch = require("torch", "export")
    safe = torch.serialization.safe_globals([(stand_in, name) for name, stand_in in STAND_INS.items()])
    try:
        if data[:2] == b"PK":
            _check_zip(data)
        elif not _is_of_torch(data, torch.serialization.MAGIC_NUMBER):
            return _Unpickler(io.BytesIO(data)).load()
        with safe, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the pickle's protocol: what matters of it is an error below
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except _TooMuchError as error:
        raise CheckpointError(f"{path} was not loaded, because {error}; weights alone are not like that.") from error
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        name = shortened(asked[1], 100) if asked else ""
        wish = f"it asks for {name}, which is code and no weights" if name else "it holds more than weights"
        if "Unsupported operand" in str(error):
            wish = "its pickle_protocol is not 2, which alone can be read as data"
        raise CheckpointError(
            f"{path} was not loaded, because {wish}. Save the state dict alone (torch.save(model.state_dict(), ...)) "
            "or as .safetensors."
        ) from error
    except Exception as error:  # a damaged pickle raises exceptions of all kinds
        raise CheckpointError(
            f"{path} is a damaged PyTorch file ({shortened(reason_of(error), 300)}); download it again."
        ) from error


class _TooMuchError(Exception):
    """A file that is small and wants to become large."""


def _check_zip(data: bytes) -> None:
    """Look at the directory of a zip, and walk its pickle, before torch unpacks anything.

    Raises:
        _TooMuchError: if it would unpack to much more than its size, or its pickle is no state dict's.
        UnpicklingError: if it is a program.
        ValueError: if it has no pickle, or a damaged one.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        unpacked = sum(entry.file_size for entry in entries)
        if unpacked > UNPACKED * len(data):
            raise _TooMuchError(f"its {len(data)} bytes would unpack to {unpacked}")
        if any(entry.filename.endswith("/constants.pkl") for entry in entries):
            raise pickle.UnpicklingError("GLOBAL torch.jit.ScriptModule")
        pickles = [entry for entry in entries if entry.filename.rpartition("/")[2] == "data.pkl"]
        if not pickles:
            raise ValueError("it has no data.pkl")
        for entry in pickles:
            _walk(io.BytesIO(archive.read(entry)))


def _is_of_torch(data: bytes, magic: int) -> bool:
    """Walk the pickles of a file that is no zip: those of ``torch.save`` before torch 1.6, or a single one."""
    stream = io.BytesIO(data)
    _walk(stream)
    is_of_torch = magic.to_bytes(10, "little") in data[: min(stream.tell(), 32)]
    for _ in range(_LEGACY_PICKLES - 1 if is_of_torch else 0):
        _walk(stream)
    return is_of_torch


def _walk(stream: BinaryIO) -> None:
    """Walk one pickle and build nothing.

    Raises:
        _TooMuchError: if it has too many operations, nests too deep, or asks for memory in other ways.
        ValueError: if it is damaged.
    """
    depths: list[int | None] = []  # of what would stand on the stack; None for a mark
    memo: dict[int, int] = {}
    for count, (operation, operand, _) in enumerate(pickletools.genops(stream)):
        if count > _OPERATIONS:
            raise _TooMuchError(f"its pickle has more than {_OPERATIONS} operations")
        name = operation.name
        if name == "GLOBAL":
            asked = str(operand).replace(" ", ".").replace("__builtin__", "builtins")
            if asked.endswith(".bytearray") or len(asked) > _LONGEST_NAME:
                raise pickle.UnpicklingError(f"GLOBAL {asked}")
        if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            place = len(memo) if name == "MEMOIZE" else int(str(operand))
            if not 0 <= place <= count:  # Python's loader makes a table of so many places
                raise _TooMuchError(f"its pickle numbers an object {place}")
            memo[place] = depths[-1] or 0
            continue
        before = operation.stack_before
        taken: list[int] = []  # the operands, last first
        if pickletools.markobject in before:
            while (depth := depths.pop()) is not None:
                taken.append(depth)
            before = before[: before.index(pickletools.markobject)]
        taken += [depths.pop() or 0 for _ in before]
        if name in ("GET", "BINGET", "LONG_BINGET"):
            depth = memo[int(str(operand))]
        elif name in _HOLDERS:
            depth = max([taken[-1], *(part + 1 for part in taken[:-1])])
        else:
            depth = 1 + max(taken, default=0)
        if depth > _DEPTH:
            raise _TooMuchError(f"its pickle nests more than {_DEPTH} deep")
        depths += [None if what is pickletools.markobject else depth for what in operation.stack_after]
