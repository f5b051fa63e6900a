"""The scan's kernels, and the work that each does for a tile of tokens; plugins/scan/cuda/thread_scan.h says why."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scan_costs.hot_path import SPECIAL_CLOCKS, Cost, Work, shortest_cost
from scan_costs.machine_code import Kernel, compile_kernels

FORMS = ("gated", "low_rank", "given")
"""In the order of ``Form`` in plugins/scan/cuda/layout.h."""
TYPES = {"f": "float32", "7Float16": "float16", "8BFloat16": "bfloat16"}

_TOKENS, _CHANNELS = 8, 64  # of a tile: kTokenTile and kChannelTile
_MOST_STATES = 16  # of a subscan
_RANKS = (12, 24)  # of Vim-Ti and Vim-S
_SYMBOL = re.compile(
    r"selective_scan_(?P<name>output|summary|cluster)I.*?ScanKindI(?:NS_)?(?P<type>f|7Float16|8BFloat16)E?"
    r"L.*?FormE(?P<form>\d)ELi(?P<states>\d+)E(?:Li(?P<channels>\d+)E)?"
)


@dataclass(frozen=True)
class ScanKernel:
    """A kernel, compiled for one kind of problem."""

    name: str
    """``output``, ``summary`` or ``cluster``."""
    type: str
    form: str
    states: int
    channels: int
    """Of a thread."""
    kernel: Kernel

    def cost(self, rank: int) -> Cost:
        """Of a token, one direction and 32 channels: of a gated output the mean of the tiles that its group reaches
        first, and of those that the other group has been at before; of a cluster the mean of both walks.

        Raises:
            NoSuchPathError: if the machine code does not do the work that is expected of it.
        """
        costs = [shortest_cost(self.kernel.blocks, work) for work in self._works(rank)]
        return sum(costs[1:], costs[0]) / (len(costs) * _TOKENS * self.channels)

    def _works(self, rank: int) -> Iterator[Work]:
        lanes = _CHANNELS // self.channels // _TOKENS  # threads that stage one token together
        has_low_rank, is_gated = self.form != "given", self.form == "gated"
        loads = _TOKENS + 2 * max(1, self.states // lanes)  # u, B, C
        loads += -(-rank // lanes) if has_low_rank else _TOKENS
        special = _TOKENS * self.channels * (self.states + 1)  # the states' decays, and softplus
        rows = max(1, self.states // 4) * (1 if self.name == "summary" else 2)  # B, and C, four states a load
        shared_loads = _TOKENS * rows + (3 * rank if has_low_rank else 0)
        walk = Work(special, loads, 0, 0, 0, shared_loads)
        if self.name == "summary":
            yield walk
        elif is_gated:
            sums, gates = 2 * self.channels, 2 * _TOKENS * self.channels
            yield from [walk, walk] if self.name == "cluster" else []
            yield replace(walk, sum_stores=sums)
            yield Work(special + gates, loads + _TOKENS, _TOKENS, sums, 0, shared_loads)
        else:
            yield from [walk] if self.name == "cluster" else []
            yield replace(walk, stores=_TOKENS)


def scan_kernels(plugins: Path, architecture: int) -> list[ScanKernel]:
    """All of them.

    Args:
        plugins: the folder of the sources.
        architecture: such as 90.

    Raises:
        ToolMissingError: if nvcc or nvdisasm is not found.
        subprocess.CalledProcessError: if one of them fails.
    """
    sources = sorted((plugins / "scan" / "cuda").glob("selective_scan*.cu"))
    found = []
    for kernel in compile_kernels(plugins, sources, architecture):
        if match := _SYMBOL.search(kernel.symbol):
            states, channels = int(match["states"]), int(match["channels"] or 1)
            form = FORMS[int(match["form"])]
            found.append(ScanKernel(match["name"], TYPES[match["type"]], form, states, channels, kernel))
    return sorted(found, key=lambda k: (k.name, FORMS.index(k.form), k.type, k.states, k.channels))


def table_of(kernels: Sequence[ScanKernel]) -> list[str]:
    """The rows of ``kKernelCosts`` in plugins/scan/cuda/kernel_costs.h: each cost as a number plus one for each state
    and one for each rank. Two channels a thread have 16 states only.

    Args:
        kernels: of float16, and of one architecture.
    """
    by_kind = {(k.name, k.form, k.channels, k.states): k for k in kernels}
    rows = []
    for (name, form, channels, states), kernel in by_kind.items():
        if states != _MOST_STATES:
            continue
        cost, fewer = kernel.cost(_RANKS[0]), by_kind.get((name, form, channels, states // 2))
        of_state = (cost - fewer.cost(_RANKS[0])) / (states - fewer.states) if fewer else cost - cost
        of_rank = (kernel.cost(_RANKS[1]) - cost) / (_RANKS[1] - _RANKS[0])
        cells = [f"{cost.special / SPECIAL_CLOCKS - states:g}"]
        for unit in ("issued", "float32", "shared"):
            state, rank = getattr(of_state, unit), getattr(of_rank, unit)
            fixed = getattr(cost, unit) - states * state - _RANKS[0] * rank
            cells.append(f"{{{fixed:.1f}, {state:.2f}, {rank:.2f}}}")
        rows.append(f"{{Walk::{name}, Form::{form}, {channels}, {', '.join(cells)}}},")
    return rows
