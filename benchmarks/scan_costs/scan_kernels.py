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
_PRODUCT_RANKS = 16
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
    """Channels of a thread."""
    kernel: Kernel

    def cost(self, rank: int) -> Cost:
        """The cost of a token, one direction and 32 channels.

        For a gated output it is the mean of the tiles that its group reaches first, and of those that the other group
        has been at before; for a cluster the mean of both walks.

        Raises:
            NoSuchPathError: if the machine code does not do the work that is expected of it.
        """
        costs = [shortest_cost(self.kernel.blocks, work) for work in self._works(rank)]
        return sum(costs[1:], costs[0]) / (len(costs) * _TOKENS * self.channels)

    @property
    def _instructions_of_a_product(self) -> int:
        """Turing multiplies eight ranks at a time, later ones sixteen."""
        opcodes = {i.opcode for block in self.kernel.blocks for i in block.instructions if i.name == "HMMA"}
        return 2 if any(".1688." in opcode for opcode in opcodes) else 1

    @property
    def has_products(self) -> bool:
        """Whether tensor cores multiply the low rank of the step sizes."""
        return any(i.name == "HMMA" for block in self.kernel.blocks for i in block.instructions)

    def _works(self, rank: int) -> Iterator[Work]:
        lanes = _CHANNELS // self.channels // _TOKENS  # threads that stage one token together
        loads = _TOKENS + 2 * max(1, self.states // lanes)  # u, B, C
        rows = max(1, self.states // 4) * (1 if self.name == "summary" else 2)  # B, and C, four states a load
        shared_loads, products = _TOKENS * rows, 0
        if self.form == "given":
            loads += _TOKENS
        elif self.has_products:
            factors = -(-rank // _PRODUCT_RANKS)
            products = 2 * self.channels * factors * self._instructions_of_a_product
            loads += factors
            # Sums of four pairs of tokens, in two halves; and the weights, if those of one product are not all.
            shared_loads += 2 * 4 + (2 * self.channels * factors if factors > 1 else 0)
        else:
            loads += -(-rank // lanes)
            shared_loads += 3 * rank  # eight tokens' numbers, and a weight for each channel
        special = _TOKENS * self.channels * (self.states + 1)  # the states' decays, and softplus
        walk = Work(special, loads, 0, 0, 0, shared_loads, products)
        if self.name == "summary":
            yield walk
        elif self.form == "gated":
            sums, gates = 2 * self.channels, 2 * _TOKENS * self.channels
            yield from [walk, walk] if self.name == "cluster" else []
            yield replace(walk, sum_stores=sums)
            loads_z = walk.loads + _TOKENS
            yield replace(walk, special=special + gates, loads=loads_z, stores=_TOKENS, sum_loads=sums)
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
    and one for each rank, or for each product of 16 ranks. With two channels a thread there are 16 states only.

    Args:
        kernels: of one architecture; those of bfloat16 are passed over, as they cost what those of float16 do.
    """
    by_kind = {(k.name, k.form, k.type, k.channels, k.states): k for k in kernels}
    rows = []
    for (name, form, type_, channels, states), kernel in by_kind.items():
        if states != _MOST_STATES or type_ == "bfloat16":
            continue
        few, many = (-(-rank // _PRODUCT_RANKS) if kernel.has_products else rank for rank in _RANKS)
        cost, fewer = kernel.cost(_RANKS[0]), by_kind.get((name, form, type_, channels, states // 2))
        of_state = (cost - fewer.cost(_RANKS[0])) / (states - fewer.states) if fewer else cost - cost
        of_rank = (kernel.cost(_RANKS[1]) - cost) / (many - few)
        fixed = cost - of_state * states - of_rank * few
        cells = [f"{cost.special / SPECIAL_CLOCKS - states:g}"]
        for unit in ("issued", "float32", "shared"):
            of_unit = [getattr(part, unit) for part in (fixed, of_state, of_rank)]
            cells.append(f"{{{of_unit[0]:.1f}, {of_unit[1]:.2f}, {of_unit[2]:.2f}}}")
        kind = f"Walk::{name}, Form::{form}, {4 if type_ == 'float32' else 2}, {channels}"
        rows.append(f"{{{kind}, {', '.join(cells)}}},")
    return rows
