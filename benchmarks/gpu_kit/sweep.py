"""Step sweep: the scan with every schedule and number of chunks, beside what the planner's model of time expects."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from gpu_kit.kernels import SCHEDULES, Choice, KernelError, Kernels, Plan, empty_workspace
from gpu_kit.problems import LARGE, Problem, ScanOperands, problem_of, scan_operands
from gpu_kit.records import Log
from gpu_kit.steps import Settings
from gpu_kit.timing import time_calls

CHUNKS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
SECONDS = 0.05
"""For each of the some 200 plans."""


def sweep(settings: Settings, log: Log) -> None:
    """Vim-Ti in FP16 at 1, 8 and 128 x 197 and 1 x 6085, inputs in the cache; and how good the planner's choice is."""
    library = settings.built("libvimdeploy_gpu_bench.so")
    if library is None:
        return log.skipped("sweep", "the build made no libvimdeploy_gpu_bench.so")
    own = Kernels(library)
    generator = torch.Generator("cuda").manual_seed(settings.seed)
    for problem in (*(problem_of("Vim-Ti", batch) for batch in (1, 8, 128)), problem_of("Vim-Ti", 1, LARGE)):
        operands = scan_operands(problem, torch.float16, generator)
        found: dict[Plan, float] = {}
        for choice, plan in plans(own, problem):
            try:
                found[plan] = _us(own, problem, operands, choice, plan)
            except KernelError:  # more shared memory, or a larger cluster, than the device has
                continue
            log.measured(
                f"{problem.name} {plan.words.partition(',')[0]}",
                us=found[plan],
                **{"expected us": plan.expected_us, "expected / us": plan.expected_us / found[plan]},
                plan=plan.words,
            )
        best, chosen = min(found, key=found.__getitem__), own.plan(problem, torch.float16)
        us = found.get(chosen) or _us(own, problem, operands, Choice(), chosen)
        log.measured(f"{problem.name} chosen", us=us, best=found[best], ratio=us / found[best], plan=best.words)
    return None


def plans(own: Kernels, problem: Problem) -> Iterator[tuple[Choice, Plan]]:
    """Every plan once, with a choice that leads to it."""
    seen = set()
    for schedule in SCHEDULES:
        for chunks in (1,) if schedule == "sequences" else CHUNKS:
            for channels_per_thread in (1, 2):
                for sums_in_shared in (True, False):
                    choice = Choice(schedule, chunks, sums_in_shared, channels_per_thread)
                    plan = own.plan(problem, torch.float16, choice)
                    if plan not in seen:
                        seen.add(plan)
                        yield choice, plan


def _us(own: Kernels, problem: Problem, operands: ScanOperands, choice: Choice, plan: Plan) -> float:
    y = torch.empty_like(operands.u[0])
    call = partial(own.selective_scan, problem, operands, empty_workspace(plan.workspace_bytes), y, choice)
    return time_calls([call], SECONDS).median_us
