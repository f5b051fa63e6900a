"""What the scans of a model are expected to take on a GPU that need not be here."""

from __future__ import annotations

import ast
import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vimdeploy.artifact import Artifact
from vimdeploy.errors import ConfigError, InputError
from vimdeploy.libraries import library_path
from vimdeploy.ops.contract import DOMAIN, FLOAT_TYPES, OPERATORS
from vimdeploy.text import printable

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class GpuFacts:
    """What the time of a scan depends on."""

    multiprocessors: int
    shared_kib: tuple[int, int]
    """Shared memory of a multiprocessor, and the most of a block."""
    compute_capability: str
    largest_cluster: int
    """Thread blocks; 1 before compute capability 9.0, which has no clusters."""
    clock_mhz: int
    """The highest."""
    memory_gb_per_s: float
    cache_mib: float
    """The L2 cache."""

    @property
    def numbers(self) -> tuple[int, ...]:
        """In the order and the units of the C function."""
        major, minor = self.compute_capability.split(".")
        return (
            self.multiprocessors,
            *(size << 10 for size in self.shared_kib),
            10 * int(major) + int(minor),
            self.largest_cluster,
            1000 * self.clock_mhz,
            round(1000 * self.memory_gb_per_s),
            round(self.cache_mib * 2**20),
        )


# Shared memory: CUDA C++ Programming Guide, technical specifications per compute capability; clusters of 16 where it
# names them, else the 8 that are portable. The others: NVIDIA's architecture papers and data sheets of each product.
_HOPPER, _AMPERE, _JETSON, _ADA = (228, 227), (164, 163), (164, 163), (100, 99)
GPUS = {
    "H100": GpuFacts(132, _HOPPER, "9.0", 16, 1980, 3350, 50),  # SXM
    "H200": GpuFacts(132, _HOPPER, "9.0", 16, 1980, 4800, 50),
    "A100": GpuFacts(108, _AMPERE, "8.0", 1, 1410, 2039, 40),  # SXM, 80 GB
    "L4": GpuFacts(58, _ADA, "8.9", 1, 2040, 300, 48),
    "T4": GpuFacts(40, (64, 64), "7.5", 1, 1590, 320, 4),
    "AGX Orin": GpuFacts(16, _JETSON, "8.7", 1, 1300, 204.8, 4),  # 64 GB
    "Orin Nano": GpuFacts(8, _JETSON, "8.7", 1, 1020, 102, 2),  # 8 GB, Super
    "AGX Thor": GpuFacts(20, _HOPPER, "11.0", 8, 1575, 273, 32),  # T5000
    "RTX 3060": GpuFacts(28, _ADA, "8.6", 1, 1777, 360, 3),  # 12 GB
    "RTX 4090": GpuFacts(128, _ADA, "8.9", 1, 2520, 1008, 72),
    "RTX 5090": GpuFacts(170, _ADA, "12.0", 8, 2407, 1792, 96),
}
"""By the names that people give them."""


@dataclass(frozen=True)
class ScanTime:
    """A scan of a model."""

    node: str
    operator: str
    type: str
    sizes: Mapping[str, int]
    """By the contract's letters."""
    plan: str
    """How the kernels divide it."""
    us: float
    """Microseconds that it is expected to take."""


def gpu_named(name: str) -> GpuFacts:
    """A GPU of ``GPUS``; its name may be written small.

    Raises:
        InputError: if it is not there.
    """
    for known, facts in GPUS.items():
        if known.lower() == name.strip().lower():
            return facts
    raise InputError(f"There are no facts of a GPU {printable(name)!r}; there are those of {', '.join(GPUS)}.")


def expected_scans(artifact: Artifact, gpu: GpuFacts, shape: Mapping[str, int]) -> list[ScanTime]:
    """Every scan of an ONNX file, in the order of the graph.

    Args:
        artifact: whose operators are still nodes.
        shape: of the free axes: ``{"batch": 8, "height": 1248, "width": 1248}``; a batch that is not named is 1.

    Raises:
        InputError: if the file has no scans, or a size that the file does not tell and ``shape`` does not name.
        ConfigError: if the operator library is not here or older than this.
    """
    counted = [operator for operator in _SCANS if artifact.operators.get(operator)]
    if artifact.engine is not None or not counted:
        raise InputError(f"{artifact} has no nodes of our scans; wanted an ONNX file with some, as export writes it.")
    tensors = _tensors(artifact.model)
    nodes = [node for node in artifact.model.graph.node if node.domain == DOMAIN and node.op_type in _SCANS]
    return [_expected(node, tensors, gpu, {"batch": 1, **shape}) for node in nodes]


_SCANS = {operator.name: operator for operator in OPERATORS if any("N" in value.dims for value in operator.inputs)}
_PLAN_CHARACTERS = 512
_LONGEST_SIZE = 200
"""Characters of an axis's name that are read as an expression."""


def _expected(
    node: onnx.NodeProto, tensors: Mapping[str, _Tensor], gpu: GpuFacts, shape: Mapping[str, int]
) -> ScanTime:
    operator = _SCANS[node.op_type]
    sizes, types = {"R": 0}, set()
    for value, name in zip(operator.inputs, node.input, strict=False):
        tensor = tensors.get(name)
        if tensor is None:
            continue
        types |= {tensor.type} if value.type == "T" else set()
        for letter, size in zip(value.dims, tensor.dims, strict=False):
            if len(letter) == 1:
                sizes[letter] = _size(size, shape)
    order = ("B", "K" if "K" in sizes else "G", "L", "E", "N", "R")
    if not sizes.keys() >= set(order) or len(types) != 1:
        raise InputError(f"The file does not tell the shapes of {printable(node.name)}; export the model again.")
    type_ = types.pop()
    us, plan = _ask_library(node.op_type, FLOAT_TYPES.index(type_), [sizes[letter] for letter in order], gpu)
    return ScanTime(node.name, node.op_type, type_, {letter: sizes[letter] for letter in order}, plan, us)


@dataclass(frozen=True)
class _Tensor:
    dims: Sequence[int | str]
    type: str


def _tensors(model: onnx.ModelProto) -> dict[str, _Tensor]:
    import onnx

    def type_of(number: int) -> str:
        return onnx.TensorProto.DataType.Name(number).lower().replace("float", "float32" if number == 1 else "float")

    tensors = {tensor.name: _Tensor(list(tensor.dims), type_of(tensor.data_type)) for tensor in model.graph.initializer}
    for value in (*model.graph.input, *model.graph.value_info):
        tensor = value.type.tensor_type
        dims = [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
        tensors[value.name] = _Tensor(dims, type_of(tensor.elem_type))
    return tensors


def _size(size: int | str, shape: Mapping[str, int]) -> int:
    """A number, or an expression of free axes such as ``(height//16)*(width//16) + 1``.

    Raises:
        InputError: if it has an axis that ``shape`` does not name, or is none of these.
    """
    if isinstance(size, int):
        return size
    allowed = (ast.Expression, ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Name, ast.Load, ast.Constant)
    try:
        tree = ast.parse(size, mode="eval") if len(size) <= _LONGEST_SIZE else None
        parts = list(ast.walk(tree)) if tree else []
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        tree, parts = None, []
    numbers = [type(part.value) is int for part in parts if isinstance(part, ast.Constant)]
    if tree is None or not all(numbers) or not all(isinstance(part, allowed) for part in parts):
        raise InputError(f"The file has an axis {printable(size[:_LONGEST_SIZE])!r}, whose size cannot be told.")
    names = {part.id for part in parts if isinstance(part, ast.Name)}
    if unknown := names - shape.keys():
        wanted = " ".join(f"--shape {name}=SIZE" for name in sorted(unknown))
        raise InputError(f"The file leaves {', '.join(sorted(unknown))} free; say the sizes by {wanted}.")
    try:
        value = eval(compile(tree, "axis", "eval"), {"__builtins__": {}}, dict(shape))
    except ZeroDivisionError as error:
        raise InputError(f"The file has an axis {printable(size)!r}, whose size cannot be told.") from error
    return int(value)


def _ask_library(name: str, type_: int, sizes: Sequence[int], gpu: GpuFacts) -> tuple[float, str]:
    path = library_path()
    function: Any = getattr(ctypes.CDLL(str(path)), "VimdeployExpectedScan", None) if path else None
    if function is None:
        raise ConfigError("The operator library is not installed here, or is older than this; install vimdeploy again.")
    function.restype = ctypes.c_char_p
    us, plan = ctypes.c_double(), ctypes.create_string_buffer(_PLAN_CHARACTERS)
    error = function(
        name.encode(),
        type_,
        (ctypes.c_int64 * len(sizes))(*sizes),
        (ctypes.c_int64 * len(gpu.numbers))(*gpu.numbers),
        ctypes.byref(us),
        plan,
        ctypes.c_size_t(len(plan)),
    )
    if error:
        raise InputError(f"The model of time refuses this scan: {error.decode(errors='replace')}.")
    return us.value, plan.value.decode().partition(": ")[2]  # without the operator's name
