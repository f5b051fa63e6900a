"""What the device can do at most: bytes copied, exp2, multiply-adds, loads from shared memory, each by itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch

from gpu_kit.kernels import Kernels
from gpu_kit.timing import time_calls

COPY_BYTES = 2 << 30
BLOCKS_PER_MULTIPROCESSOR = 8
"""Blocks of 256 threads: as many as a multiprocessor holds, or they run in turns."""


@dataclass(frozen=True)
class Ceilings:
    """Rates in 1/s."""

    bytes_per_s: float
    """From the device's memory to itself, bytes read and bytes written counted."""
    exp2_per_s: float
    fma_per_s: float
    shared_loads_per_s: float
    """Loads of warps, 16 bytes from one address for all lanes; the planner's model of time takes two clocks for one."""


def measure_ceilings(kernels: Kernels, seconds: float) -> Ceilings:
    """All of them, on data that is not zero."""
    numbers = min(COPY_BYTES, torch.cuda.mem_get_info()[0] // 4) // 4
    source = torch.randn(numbers, device="cuda")
    target = torch.empty_like(source)
    copy_us = time_calls([partial(target.copy_, source)], seconds).median_us
    rates = (_rate(kernels, function, seconds) for function in ("exp2", "fma", "shared_loads"))
    return Ceilings(2 * 4 * numbers / copy_us * 1e6, *rates)


def _rate(kernels: Kernels, function: str, seconds: float) -> float:
    blocks = BLOCKS_PER_MULTIPROCESSOR * torch.cuda.get_device_properties(0).multi_processor_count
    out = torch.rand(blocks * 256, device="cuda")
    operations = kernels.count(function, blocks, out)
    return operations / time_calls([partial(kernels.count, function, blocks, out)], seconds).median_us * 1e6
