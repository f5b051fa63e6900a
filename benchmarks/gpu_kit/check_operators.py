"""Step operators: the kernels against float64, for every type and regime, on fresh random numbers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gpu_kit import reference
from gpu_kit.kernels import REGIMES, TYPES, Kernels, empty_workspace
from gpu_kit.problems import LARGE, Problem, conv_operands, problem_of, scan_operands
from gpu_kit.records import Log
from gpu_kit.steps import Settings


def operators(settings: Settings, log: Log) -> None:
    """||found - wanted|| / ||wanted|| of both operators, and whether a second run gives the same bits."""
    library = settings.built("libvimdeploy_gpu_bench.so")
    if library is None:
        return log.skipped("both operators", "the build made no libvimdeploy_gpu_bench.so")
    kernels = Kernels(library)
    generator = torch.Generator("cuda").manual_seed(settings.seed)
    for problem in checked_problems(settings.quick):
        for dtype in TYPES:
            _check_conv1d(kernels, problem, dtype, generator, log)
            _check_scan(kernels, problem, dtype, generator, log)
    return None


def checked_problems(quick: bool) -> list[Problem]:
    """Vim-Ti/S/B at 224, and Vim-Ti at 1248."""
    some = [problem_of("Vim-Ti", 1), problem_of("Vim-Ti", 8), problem_of("Vim-S", 3), problem_of("Vim-B", 2)]
    return some if quick else [*some, problem_of("Vim-Ti", 128), problem_of("Vim-Ti", 1, LARGE)]


def _check_conv1d(kernels: Kernels, problem: Problem, dtype: torch.dtype, generator: torch.Generator, log: Log) -> None:
    operands = conv_operands(problem, dtype, generator)
    wanted = reference.conv1d(operands, problem.reverse)

    def run() -> Tensor:
        u = torch.full(wanted.shape, math.nan, dtype=dtype, device="cuda")
        kernels.conv1d(operands, problem.reverse, u)
        return u

    _compare(f"conv1d {problem.name} {_name(dtype)}", run(), run(), wanted, log)


def _check_scan(kernels: Kernels, problem: Problem, dtype: torch.dtype, generator: torch.Generator, log: Log) -> None:
    operands = scan_operands(problem, dtype, generator)
    wanted = reference.selective_scan(operands, problem.reverse, problem.scale)
    for regime in REGIMES:
        plan, workspace_bytes = kernels.plan(problem, dtype, regime)

        def run(regime: str = regime, workspace_bytes: int = workspace_bytes) -> Tensor:
            y = torch.full(wanted.shape, math.nan, dtype=dtype, device="cuda")
            kernels.selective_scan(problem, operands, regime, empty_workspace(workspace_bytes), y)
            return y

        _compare(f"scan {problem.name} {_name(dtype)} {regime}", run(), run(), wanted, log, plan=plan)


def _compare(subject: str, first: Tensor, second: Tensor, wanted: Tensor, log: Log, **values: str) -> None:
    error = reference.relative_error(first, wanted)
    if torch.equal(first.view(torch.uint8), second.view(torch.uint8)):
        log.within(subject, "relative error", error, reference.error_bound(first.dtype), **values)
    else:
        log.failed(subject, "two runs on the same inputs differ: a race", **values)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
