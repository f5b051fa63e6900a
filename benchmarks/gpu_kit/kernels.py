"""Our CUDA kernels, called on PyTorch's tensors and its current stream, through the library ``vimdeploy_gpu_bench``."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gpu_kit.problems import ConvOperands, GroupProblem, GroupScanOperands, Problem, ScanOperands

SCHEDULES = ("sequences", "cluster", "two launches", "three launches")
"""In the order of ``kSchedules`` in plugins/scan/cuda/plan.h."""

TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
"""In the order of ``ElementType`` in plugins/scan/element.h."""

_PLAN_CHARACTERS = 512


@dataclass(frozen=True)
class Choice:
    """What a plan is to be like; by default the one that is expected to be the fastest."""

    schedule: str | None = None
    """One of ``SCHEDULES``, or the fastest if the problem on this device cannot have it; None: any."""
    chunks: int = 0
    """The most; 0: as many as are expected to be the fastest. What follows is for a number of chunks."""
    sums_in_shared: bool = False
    channels_per_thread: int = 1


AUTOMATIC = Choice()


@dataclass(frozen=True)
class Plan:
    """How a problem is divided."""

    words: str
    workspace_bytes: int
    expected_us: float
    """By the planner's model of time."""


class KernelError(Exception):
    """What the library answers instead of computing."""


class Kernels:
    """The library; benchmarks/native/gpu_c_api.cpp says what its functions take."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        for name in ("conv1d", "scan_plan", "scan", "count_exp2", "count_fma", "count_shared_loads"):
            getattr(self._library, f"vimdeploy_gpu_{name}").restype = ctypes.c_char_p

    def conv1d(self, operands: ConvOperands, reverse: Sequence[int], u: Tensor, silu: bool = True) -> None:
        """Into u (K, B, L, E), on the current stream."""
        batch, tokens, row = operands.x.shape
        _, channels, width = operands.weight.shape
        self._call(
            "conv1d",
            TYPES[operands.x.dtype],
            _numbers(batch, tokens, channels, width, row),
            len(reverse),
            _numbers(*reverse),
            int(silu),
            _pointers(*operands.tensors(), u),
            _stream(),
        )

    def plan(self, problem: Problem | GroupProblem, dtype: torch.dtype, choice: Choice = AUTOMATIC) -> Plan:
        """The plan of a choice."""
        text = ctypes.create_string_buffer(_PLAN_CHARACTERS)
        workspace, expected_us = ctypes.c_size_t(), ctypes.c_double()
        self._call(
            "scan_plan",
            *_scan(problem, dtype),
            _choice(choice),
            text,
            ctypes.c_size_t(len(text)),
            ctypes.byref(workspace),
            ctypes.byref(expected_us),
        )
        words = text.value.decode().partition(": ")[2]  # without the operator's name
        return Plan(words, workspace.value, expected_us.value)

    def selective_scan(
        self,
        problem: Problem | GroupProblem,
        operands: ScanOperands | GroupScanOperands,
        workspace: Tensor,
        y: Tensor,
        choice: Choice = AUTOMATIC,
    ) -> None:
        """Into y, (B, L, E) or (B, G, L, E), on the current stream; the workspace is as large as ``plan`` says."""
        self._call(
            "scan",
            *_scan(problem, operands.u.dtype),
            ctypes.c_float(problem.scale),
            int(problem.delta_softplus),
            _choice(choice),
            _pointers(*operands.tensors(), y),
            ctypes.c_void_p(workspace.data_ptr()),
            _stream(),
        )

    def count(self, function: str, blocks: int, out: Tensor) -> int:
        """Keep the device busy with ``exp2``, ``fma`` or ``shared_loads`` alone; how many there are in all."""
        operations = ctypes.c_int64()
        self._call(f"count_{function}", blocks, ctypes.c_void_p(out.data_ptr()), ctypes.byref(operations), _stream())
        return operations.value

    def _call(self, name: str, *arguments: object) -> None:
        problem = getattr(self._library, f"vimdeploy_gpu_{name}")(*arguments)
        if problem is not None:
            raise KernelError(problem.decode())


def empty_workspace(size: int, device: torch.device | str = "cuda") -> Tensor:
    """Device memory of so many bytes, full of NaN; PyTorch aligns it to 512 bytes."""
    return torch.full((max(math.ceil(size / 4), 1),), math.nan, device=device)


def _scan(problem: Problem | GroupProblem, dtype: torch.dtype) -> tuple[object, ...]:
    """What names a scan and its sizes."""
    p = problem
    sizes = _numbers(p.batch, p.tokens, p.channels, p.states, p.rank)
    return p.operator.name.encode(), TYPES[dtype], sizes, len(p.reverse), _numbers(*p.reverse)


def _choice(choice: Choice) -> ctypes.Array[ctypes.c_int64]:
    schedule = -1 if choice.schedule is None else SCHEDULES.index(choice.schedule)
    return _numbers(schedule, choice.chunks, choice.sums_in_shared, choice.channels_per_thread)


def _numbers(*values: int) -> ctypes.Array[ctypes.c_int64]:
    return (ctypes.c_int64 * len(values))(*values)


def _pointers(*tensors: Tensor) -> ctypes.Array[ctypes.c_void_p]:
    for tensor in tensors:
        if not tensor.is_contiguous():
            raise KernelError(f"Wanted dense tensors, found strides {tensor.stride()} of shape {tuple(tensor.shape)}.")
    return (ctypes.c_void_p * len(tensors))(*(tensor.data_ptr() for tensor in tensors))


def _stream() -> ctypes.c_void_p:
    return ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
