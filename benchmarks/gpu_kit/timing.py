"""How long the device takes: CUDA events around replays of a CUDA graph, inputs rotated among sets, medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

Call = Callable[[], object]

MIN_REPLAYS = 10
MAX_SETS = 256
L2_MULTIPLE = 3
"""The sets together are so many times as large as the cache, so that none is still in it when its turn comes."""


@dataclass(frozen=True)
class Timing:
    """Microseconds of one call."""

    median_us: float
    low_us: float
    """A tenth of the replays was faster."""
    high_us: float
    """A tenth of the replays was slower."""
    spread: float
    """How far apart the medians of the first and the second half are, in parts of the median: less is noise."""


def summary(times_us: Sequence[float]) -> Timing:
    """The median, the spread and the drift of times, given in the order in which they were taken."""
    middle = len(times_us) // 2
    median = statistics.median(times_us)
    halves = statistics.median(times_us[:middle]), statistics.median(times_us[middle:])
    ordered = sorted(times_us)
    tenth = len(ordered) // 10
    return Timing(median, ordered[tenth], ordered[-1 - tenth], abs(halves[0] - halves[1]) / median)


def sets_of_inputs(bytes_of_one: int) -> int:
    """How many sets of inputs to rotate among; fewer than wanted if they would take a third of the free memory."""
    wanted = -(-L2_MULTIPLE * torch.cuda.get_device_properties(0).L2_cache_size // bytes_of_one)
    room = torch.cuda.mem_get_info()[0] // 3 // bytes_of_one
    return max(1, min(wanted, room, MAX_SETS))


def time_calls(calls: Sequence[Call], seconds: float) -> Timing:
    """Time of one of the calls, captured one after the other in one graph that is replayed for some seconds."""
    graph = graph_of(calls)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def replay_us() -> float:
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) * 1e3 / len(calls)

    warm = [replay_us() for _ in range(3)][-1]
    replays = max(MIN_REPLAYS, int(seconds * 1e6 / (warm * len(calls))))
    return summary([replay_us() for _ in range(min(replays, 1000))])


def graph_of(calls: Sequence[Call]) -> torch.cuda.CUDAGraph:
    """The calls as one CUDA graph; each has run before, so that modules are loaded and handles made."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for call in calls[:2]:
            call()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    return graph


def time_on_host(call: Call, seconds: float) -> Timing:
    """Time of a call that returns when its answer is in the host's memory."""
    for _ in range(2):
        call()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < MIN_REPLAYS or (time.perf_counter() < end and len(times) < 1000):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e6)
    return summary(times)
