"""Step replaced-path: the fused operators against the kernels that Vim is trained with, if those are installed.

As hustvl/Vim's ``bimamba_type="v2"`` calls them, channels before tokens. in_proj, x_proj and out_proj are outside of
the timed parts, on either side.

- The scan, from x_proj's outputs to the sum of the directions. Ours: one call, the step sizes made inside. Theirs, for
  each direction: the product that makes the step sizes, B and C made dense, one call of ``selective_scan_cuda.fwd``
  with z. z is flipped before the second, its result flipped back, both added and halved.
- The convolution. Ours: one call. Theirs: two calls of ``causal_conv1d_fn``, x flipped before the second.
- The scan of groups, all first to last, with the step sizes given: one call on either side.
"""

from __future__ import annotations

import dataclasses
import importlib
from functools import partial
from types import ModuleType

import torch
from torch import Tensor

from gpu_kit.bench_kernels import DTYPES, times
from gpu_kit.kernels import Kernels, empty_workspace
from gpu_kit.problems import (
    ConvOperands,
    GroupProblem,
    GroupScanOperands,
    Problem,
    ScanOperands,
    conv_bytes,
    conv_operands,
    group_problems,
    group_scan_operands,
    problems,
    scan_bytes,
    scan_operands,
)
from gpu_kit.records import Log
from gpu_kit.reference import relative_error
from gpu_kit.steps import Settings
from gpu_kit.timing import Timing, sets_of_inputs, time_calls

SAME = 1e-2
"""Relative: their side rounds the step sizes and each direction's result to T, ours rounds neither."""


def replaced_path(settings: Settings, log: Log) -> None:
    """Times of both sides, and how many times as long theirs takes."""
    library = settings.built("libvimdeploy_gpu_bench.so")
    if library is None:
        return log.skipped("the replaced path", "the build made no libvimdeploy_gpu_bench.so")
    own = Kernels(library)
    generator = torch.Generator("cuda").manual_seed(settings.seed)
    scan, convolution = _imported("selective_scan_cuda", log), _imported("causal_conv1d", log)
    for problem in problems(settings.quick):
        for dtype in DTYPES:
            if scan:
                _compare_scan(scan, own, problem, dtype, generator, settings, log)
            if convolution:
                _compare_conv1d(convolution, own, problem, dtype, generator, settings, log)
            torch.cuda.empty_cache()
    for group_problem in group_problems(settings.quick):
        if scan and not group_problem.rank:
            forward = dataclasses.replace(group_problem, reverse=(0,) * len(group_problem.reverse))
            for dtype in DTYPES:
                _compare_group_scan(scan, own, forward, dtype, generator, settings, log)
                torch.cuda.empty_cache()
    return None


class TheirScan:
    """The operands of one problem in the other side's layout, made from ours."""

    def __init__(self, problem: Problem, ours: ScanOperands) -> None:
        self.problem, self.ours = problem, ours
        # As their in_proj leaves it: (2E, B, L) in memory, seen as (B, 2E, L).
        self.xz = ours.xz.permute(2, 0, 1).contiguous().transpose(0, 1)
        in_order = [t.flip(1) if r else t for t, r in zip(ours.u, problem.reverse, strict=True)]
        self.u = [t.transpose(1, 2).contiguous() for t in in_order]  # (B, E, L) each
        self.dt_bc = [
            (t.flip(1) if r else t).flatten(0, 1).contiguous()  # (B L, R + 2N) each
            for t, r in zip(ours.dt_bc, problem.reverse, strict=True)
        ]

    def run(self, scan: ModuleType) -> Tensor:
        """(B, E, L), before out_proj."""
        z = self.xz[:, self.problem.channels :]
        return (self._direction(scan, 0, z) + self._direction(scan, 1, z.flip(-1)).flip(-1)) / 2

    def _direction(self, scan: ModuleType, k: int, z: Tensor) -> Tensor:
        p, ours = self.problem, self.ours
        low_rank, B, C = self.dt_bc[k].split([p.rank, p.states, p.states], dim=-1)
        dt = (ours.dt_weight[k] @ low_rank.t()).view(p.channels, p.batch, p.tokens).transpose(0, 1)  # (B, E, L)
        B, C = (t.view(p.batch, p.tokens, 1, p.states).permute(0, 2, 3, 1).contiguous() for t in (B, C))
        gated: Tensor = scan.fwd(self.u[k], dt, ours.A[k], B, C, ours.D[k], z, ours.dt_bias[k], True)[2]
        return gated


class TheirGroupScan:
    """The operands of a scan of groups in the other side's layout: the groups' channels one after the other."""

    def __init__(self, ours: GroupScanOperands) -> None:
        self.u, self.delta = (t.transpose(2, 3).flatten(1, 2).contiguous() for t in (ours.u, ours.delta))  # (B, G E, L)
        self.B, self.C = (t.transpose(2, 3).contiguous() for t in (ours.B, ours.C))  # (B, G, N, L)
        self.A, self.D, self.delta_bias = (t.flatten(0, 1) for t in (ours.A, ours.D, ours.delta_bias))

    def run(self, scan: ModuleType) -> Tensor:
        """(B, G E, L)."""
        y: Tensor = scan.fwd(self.u, self.delta, self.A, self.B, self.C, self.D, None, self.delta_bias, True)[0]
        return y


def _compare_group_scan(
    scan: ModuleType,
    own: Kernels,
    problem: GroupProblem,
    dtype: torch.dtype,
    generator: torch.Generator,
    settings: Settings,
    log: Log,
) -> None:
    count = sets_of_inputs(scan_bytes(problem, dtype.itemsize))
    ours = [group_scan_operands(problem, dtype, generator) for _ in range(count)]
    theirs = [TheirGroupScan(operands) for operands in ours]
    outputs = [torch.empty_like(operands.u) for operands in ours]
    workspace = empty_workspace(own.plan(problem, dtype).workspace_bytes)

    def run_ours(i: int) -> None:
        own.selective_scan(problem, ours[i], workspace, outputs[i])

    run_ours(0)
    found = theirs[0].run(scan).unflatten(1, (len(problem.reverse), -1)).transpose(2, 3)  # (B, G, L, E)
    own_time = time_calls([partial(run_ours, i) for i in range(count)], settings.seconds)
    their_time = time_calls([partial(their.run, scan) for their in theirs], settings.seconds)
    _log_both("scan", problem, dtype, relative_error(found, outputs[0].double()), own_time, their_time, count, log)


def _log_both(
    what: str,
    problem: Problem | GroupProblem,
    dtype: torch.dtype,
    difference: float,
    own_time: Timing,
    their_time: Timing,
    count: int,
    log: Log,
) -> None:
    log.within(
        f"{what} {problem.name} {str(dtype).removeprefix('torch.')}",
        "difference",
        difference,
        SAME,
        **times(own_time),
        **{
            "their us": their_time.median_us,
            "their spread": their_time.spread,
            "ratio": their_time.median_us / own_time.median_us,
            "sets": float(count),
        },
    )


def _compare_scan(
    scan: ModuleType,
    own: Kernels,
    problem: Problem,
    dtype: torch.dtype,
    generator: torch.Generator,
    settings: Settings,
    log: Log,
) -> None:
    count = sets_of_inputs(scan_bytes(problem, dtype.itemsize))
    ours = [scan_operands(problem, dtype, generator) for _ in range(count)]
    theirs = [TheirScan(problem, operands) for operands in ours]
    outputs = [torch.empty_like(operands.u[0]) for operands in ours]
    workspace = empty_workspace(own.plan(problem, dtype).workspace_bytes)

    def run_ours(i: int) -> None:
        own.selective_scan(problem, ours[i], workspace, outputs[i])

    run_ours(0)
    difference = relative_error(theirs[0].run(scan).transpose(1, 2), outputs[0].double())
    own_time = time_calls([partial(run_ours, i) for i in range(count)], settings.seconds)
    their_time = time_calls([partial(their.run, scan) for their in theirs], settings.seconds)
    _log_both("scan", problem, dtype, difference, own_time, their_time, count, log)


def _compare_conv1d(
    convolution: ModuleType,
    own: Kernels,
    problem: Problem,
    dtype: torch.dtype,
    generator: torch.Generator,
    settings: Settings,
    log: Log,
) -> None:
    count = sets_of_inputs(conv_bytes(problem, dtype.itemsize))
    ours = [conv_operands(problem, dtype, generator) for _ in range(count)]
    theirs = [operands.x.permute(2, 0, 1).contiguous().transpose(0, 1) for operands in ours]  # as in TheirScan
    shape = (len(problem.reverse), problem.batch, problem.tokens, problem.channels)
    outputs = [torch.empty(shape, dtype=dtype, device="cuda") for _ in ours]

    def run_theirs(operands: ConvOperands, xz: Tensor) -> list[Tensor]:
        x = xz[:, : problem.channels]
        sides = zip((x, x.flip(-1)), operands.weight, operands.bias, strict=True)
        return [convolution.causal_conv1d_fn(x, weight, bias, activation="silu") for x, weight, bias in sides]

    def run_ours(i: int) -> None:
        own.conv1d(ours[i], problem.reverse, outputs[i])

    run_ours(0)
    forward, backward = run_theirs(ours[0], theirs[0])
    found = torch.stack([forward.transpose(1, 2), backward.flip(-1).transpose(1, 2)])
    own_time = time_calls([partial(run_ours, i) for i in range(count)], settings.seconds)
    calls = [partial(run_theirs, operands, xz) for operands, xz in zip(ours, theirs, strict=True)]
    their_time = time_calls(calls, settings.seconds)
    difference = relative_error(found, outputs[0].double())
    _log_both("conv1d", problem, dtype, difference, own_time, their_time, count, log)


def _imported(module: str, log: Log) -> ModuleType | None:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        log.skipped(module, f"it cannot be imported ({error}); build it beside and name its folder in PYTHONPATH")
        return None
