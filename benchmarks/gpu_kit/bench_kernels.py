"""Step kernels: every operator alone, every schedule, beside the device's ceilings, measured in the same process."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

import torch

from gpu_kit.ceilings import Ceilings, measure_ceilings
from gpu_kit.kernels import SCHEDULES, Choice, Kernels, empty_workspace
from gpu_kit.machine import clocks
from gpu_kit.problems import (
    GroupProblem,
    GroupScanOperands,
    Problem,
    ScanOperands,
    conv_bytes,
    conv_operands,
    floor_us,
    group_problems,
    group_scan_operands,
    problems,
    scan_bytes,
    scan_operands,
)
from gpu_kit.records import Log
from gpu_kit.steps import Settings
from gpu_kit.timing import Timing, sets_of_inputs, time_calls

DTYPES = (torch.float16, torch.float32)


def kernels(settings: Settings, log: Log) -> None:
    """Times, and shares of the ceilings: fewest bytes / time / copy bandwidth, decays / time / rate of exp2."""
    library = settings.built("libvimdeploy_gpu_bench.so")
    if library is None:
        return log.skipped("kernels", "the build made no libvimdeploy_gpu_bench.so")
    own = Kernels(library)
    generator = torch.Generator("cuda").manual_seed(settings.seed)
    ceilings = measure_ceilings(own, settings.seconds)
    log.measured("ceilings", **dataclasses.asdict(ceilings), **clocks())
    for problem in problems(settings.quick):
        for dtype in DTYPES:
            make_operands = partial(scan_operands, problem, dtype, generator)
            _bench_scan(own, problem, dtype, make_operands, ceilings, settings, log)
            _bench_conv1d(own, problem, dtype, generator, ceilings, settings, log)
            _bench_step_size_product(problem, dtype, generator, settings, log)
            torch.cuda.empty_cache()
    for group_problem in group_problems(settings.quick):
        for dtype in DTYPES:
            make_group_operands = partial(group_scan_operands, group_problem, dtype, generator)
            _bench_scan(own, group_problem, dtype, make_group_operands, ceilings, settings, log)
            if group_problem.rank:
                _bench_conv1d(own, group_problem, dtype, generator, ceilings, settings, log)
            torch.cuda.empty_cache()
    log.measured("clocks at the end", **clocks())
    return None


def _bench_scan(
    own: Kernels,
    problem: Problem | GroupProblem,
    dtype: torch.dtype,
    make_operands: Callable[[], ScanOperands | GroupScanOperands],
    ceilings: Ceilings,
    settings: Settings,
    log: Log,
) -> None:
    least_bytes = scan_bytes(problem, dtype.itemsize)
    sets = [make_operands() for _ in range(sets_of_inputs(least_bytes))]
    outputs = [torch.empty_like(operands.u[0] if isinstance(problem, Problem) else operands.u) for operands in sets]
    automatic = own.plan(problem, dtype)
    floor_bytes, floor_exp2 = floor_us(problem, dtype.itemsize, ceilings.bytes_per_s, ceilings.exp2_per_s)
    measured = set()
    for schedule in SCHEDULES:
        choice = Choice(schedule)
        plan = own.plan(problem, dtype, choice)
        if plan in measured:  # for a schedule that this problem on this device cannot have
            continue
        measured.add(plan)
        workspace = empty_workspace(plan.workspace_bytes)
        calls = [
            partial(own.selective_scan, problem, operands, workspace, y, choice)
            for operands, y in zip(sets, outputs, strict=True)
        ]
        timing = time_calls(calls, settings.seconds)
        # In a network the operator before has just written the inputs.
        warm = {"us from the cache": time_calls(calls[:1], settings.seconds).median_us} if len(sets) > 1 else {}
        log.measured(
            f"scan {problem.name} {_name(dtype)} {schedule}",
            **times(timing),
            automatic="this" if plan == automatic else "another",
            **warm,
            **{
                "expected us": plan.expected_us,
                "of copy bandwidth": floor_bytes / timing.median_us,
                "of exp2 rate": floor_exp2 / timing.median_us,
                "times the floor": timing.median_us / max(floor_bytes, floor_exp2),
                "bytes": float(least_bytes),
                "exponentials": float(problem.decays),
                "sets": float(len(sets)),
            },
            plan=plan.words,
        )


def _bench_conv1d(
    own: Kernels,
    problem: Problem | GroupProblem,
    dtype: torch.dtype,
    generator: torch.Generator,
    ceilings: Ceilings,
    settings: Settings,
    log: Log,
) -> None:
    least_bytes = conv_bytes(problem, dtype.itemsize)
    sets = [conv_operands(problem, dtype, generator) for _ in range(sets_of_inputs(least_bytes))]
    shape = (len(problem.reverse), problem.batch, problem.tokens, problem.channels)
    outputs = [torch.empty(shape, dtype=dtype, device="cuda") for _ in sets]
    timing = time_calls(
        [partial(own.conv1d, operands, problem.reverse, u) for operands, u in zip(sets, outputs, strict=True)],
        settings.seconds,
    )
    log.measured(
        f"conv1d {problem.name} {_name(dtype)}",
        **times(timing),
        **{
            "of copy bandwidth": least_bytes / ceilings.bytes_per_s / timing.median_us * 1e6,
            "bytes": float(least_bytes),
            "sets": float(len(sets)),
        },
    )


def _bench_step_size_product(
    problem: Problem, dtype: torch.dtype, generator: torch.Generator, settings: Settings, log: Log
) -> None:
    """What making the step sizes outside would cost by itself: one product (K, B L, R) x (K, R, E), written out."""
    operands = scan_operands(problem, dtype, generator)
    low_rank = operands.dt_bc[..., : problem.rank].flatten(1, 2)  # (K, B L, R), a view
    weight = operands.dt_weight.transpose(1, 2)
    outputs = [low_rank @ weight for _ in range(sets_of_inputs(2 * problem.positions * dtype.itemsize))]
    timing = time_calls([partial(torch.bmm, low_rank, weight, out=out) for out in outputs], settings.seconds)
    log.measured(f"separate step sizes {problem.name} {_name(dtype)}", **times(timing))


def times(timing: Timing) -> dict[str, float]:
    """For a table."""
    return {"us": timing.median_us, "10 %": timing.low_us, "90 %": timing.high_us, "spread": timing.spread}


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
