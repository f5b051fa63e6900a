"""What a warp does for a full tile of tokens: the shortest path through a kernel's blocks that does a tile's work.

A kernel's loop has branches for tiles at the end of a sequence, for the first and the last one, for ranks that are
large. The work of a tile in the middle is known from the source; the path that does exactly this work, with the fewest
instructions, is the one that the kernel takes for nearly all tiles.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from scan_costs.machine_code import Block, Instruction

# Results a clock of a multiprocessor, in the CUDA C++ Programming Guide's table of arithmetic throughput: 16 of a
# special function everywhere; a warp's 32 thus take 2 clocks of the multiprocessor, 8 of its scheduler's quarter.
SPECIAL_CLOCKS = 8
_FLOAT32 = ("FFMA", "FMUL", "FADD", "FFMA2", "FMUL2", "FADD2")


@dataclass(frozen=True)
class Work:
    """Instructions by which a tile's path is known, each for all threads of a warp."""

    special: int
    """Exponentials and reciprocals."""
    loads: int
    """From global memory."""
    stores: int
    sum_loads: int
    """From the buffer of sums, which is in shared or in global memory."""
    sum_stores: int
    shared_loads: int
    products: int = 0
    """On tensor cores."""


_IS_WORK: dict[str, Callable[[Instruction], bool]] = {
    "special": lambda instruction: instruction.name == "MUFU",
    "loads": lambda instruction: instruction.name == "LDG",
    "stores": lambda instruction: instruction.name == "STG",
    "sum_loads": lambda instruction: instruction.name == "LD",
    "sum_stores": lambda instruction: instruction.name == "ST",
    "shared_loads": lambda instruction: instruction.name in ("LDS", "LDSM"),
    "products": lambda instruction: instruction.name == "HMMA",
}


@dataclass(frozen=True)
class Cost:
    """What a path takes, for one warp."""

    issued: float
    """Instructions that the warp issues."""
    float32: float
    """Among these, multiply-adds, products and sums of float32, for the lanes of that name."""
    special: float
    """Clocks of the special function unit of one scheduler."""
    shared: float
    """Clocks of the shared memory, which returns 128 bytes in each: a number that all lanes read comes packed."""
    shared_unpacked: float
    """The same if such a number takes as long as different ones."""

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __sub__(self, other: Cost) -> Cost:
        return self + other * -1

    def __mul__(self, by: float) -> Cost:
        return Cost(*(getattr(self, f.name) * by for f in fields(self)))

    def __truediv__(self, by: float) -> Cost:
        return self * (1 / by)


class NoSuchPathError(Exception):
    """The machine code has no path that does the work: it, or the work, is not what was thought."""


def shortest_cost(blocks: Sequence[Block], work: Work) -> Cost:
    """The cost of a tile.

    Raises:
        NoSuchPathError: if no path from a barrier to itself does the work.
    """
    barriers = [index for index, block in enumerate(blocks) if _ends_with_barrier(block)]
    paths = (_shortest_path(blocks, barrier, work) for barrier in reversed(barriers))  # that of the inner loop is last
    instructions = next((path for path in paths if path is not None), None)
    if instructions is None:
        raise NoSuchPathError(f"The kernel has no path from a barrier to itself that does {work}.")
    names = Counter(instruction.name for instruction in instructions)
    packed, unpacked = (sum(_shared_clocks(i, uniform) for i in instructions) for uniform in (2, 4))
    return Cost(
        len(instructions),
        sum(names[name] for name in _FLOAT32),
        SPECIAL_CLOCKS * names["MUFU"],
        packed,
        unpacked,
    )


def _ends_with_barrier(block: Block) -> bool:
    return bool(block.instructions) and block.instructions[-1].name == "BAR"


def _shared_clocks(instruction: Instruction, uniform: int) -> int:
    """128 bytes a clock. The rows of B, C and the low rank, 16 bytes a load, are the same for all lanes."""
    if instruction.name == "LDS" and instruction.bits == 128:
        return uniform
    if instruction.name in ("LDS", "STS", "LD", "ST"):
        return max(instruction.bits, 32) // 32
    return 0


def _shortest_path(blocks: Sequence[Block], barrier: int, work: Work) -> list[Instruction] | None:
    """The instructions after a block up to its end, once round a loop; by Dijkstra's algorithm, on blocks and the work
    done so far: instructions that every thread executes, and those with a guard, which may be executed or not.
    """
    wanted = [getattr(work, kind) for kind in _IS_WORK]
    work_in = [_work_in(block) for block in blocks]
    most_ahead = _most_ahead(blocks, barrier, work_in, wanted)
    number = itertools.count()  # of equals, the first
    queue: list[tuple[int, int, int, tuple[tuple[int, int], ...], tuple[int, ...]]]
    queue = [(0, next(number), barrier, ((0, 0),) * len(wanted), ())]
    visited = set()
    while queue:
        length, _, at, done, path = heapq.heappop(queue)
        if path and at == barrier:
            return [instruction for index in path for instruction in blocks[index].instructions]
        if (at, done) in visited or (path and _ends_with_barrier(blocks[at])):
            continue
        visited.add((at, done))
        for to in blocks[at].successors:
            after = tuple(
                (sure + more, min(maybe + perhaps, want))
                for (sure, maybe), (more, perhaps), want in zip(done, work_in[to], wanted, strict=True)
            )
            if all(
                sure <= want <= sure + maybe + (0 if to == barrier else ahead)
                for (sure, maybe), ahead, want in zip(after, most_ahead[to], wanted, strict=True)
            ):
                entry = (length + len(blocks[to].instructions), next(number), to, after, (*path, to))
                heapq.heappush(queue, entry)
    return None


def _work_in(block: Block) -> list[tuple[int, int]]:
    """For each kind of work: instructions without and with a guard."""
    guards = [[i.is_guarded for i in block.instructions if is_work(i)] for is_work in _IS_WORK.values()]
    return [(of_kind.count(False), of_kind.count(True)) for of_kind in guards]


def _most_ahead(
    blocks: Sequence[Block], barrier: int, work_in: Sequence[Sequence[tuple[int, int]]], wanted: Sequence[int]
) -> list[list[int]]:
    """For each block, the most of each kind of work that can follow up to the barrier; no more than is wanted."""
    most = [[0] * len(wanted) for _ in blocks]
    is_changed = True
    while is_changed:
        is_changed = False
        for index, block in reversed(list(enumerate(blocks))):
            for to in block.successors:
                for kind, want in enumerate(wanted):
                    ahead = sum(work_in[to][kind]) + (0 if to == barrier else most[to][kind])
                    if min(ahead, want) > most[index][kind]:
                        most[index][kind] = min(ahead, want)
                        is_changed = True
    return most
