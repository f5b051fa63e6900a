"""Step operators: the kernels against float64, for every type and schedule, on fresh random numbers."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from gpu_kit import reference
from gpu_kit.kernels import SCHEDULES, TYPES, Choice, Kernels, empty_workspace
from gpu_kit.problems import (
    LARGE,
    GroupProblem,
    GroupScanOperands,
    Problem,
    ScanOperands,
    conv_operands,
    group_problems,
    group_scan_operands,
    problem_of,
    scan_operands,
)
from gpu_kit.records import Log
from gpu_kit.steps import Settings
from vimdeploy.ops import native


def operators(settings: Settings, log: Log) -> None:
    """||found - wanted|| / ||wanted|| of every operator, and whether a second run gives the same bits."""
    library = settings.built("libvimdeploy_gpu_bench.so")
    if library is None:
        return log.skipped("the operators", "the build made no libvimdeploy_gpu_bench.so")
    kernels = Kernels(library)
    generator = torch.Generator("cuda").manual_seed(settings.seed)
    for problem in checked_problems(settings.quick):
        for dtype in TYPES:
            _check_conv1d(kernels, problem, dtype, generator, log)
            operands = scan_operands(problem, dtype, generator)
            wanted = reference.selective_scan(operands, problem.reverse, problem.scale)
            _check_scan(kernels, problem, operands, wanted, log)
    for group_problem in checked_group_problems(settings.quick):
        for dtype in TYPES:
            _check_conv1d(kernels, group_problem, dtype, generator, log, silu=group_problem.delta_softplus)
            group_operands = group_scan_operands(group_problem, dtype, generator)
            wanted = reference.group_scan(group_operands, group_problem.reverse, group_problem.delta_softplus)
            _check_scan(kernels, group_problem, group_operands, wanted, log)
            _check_in_pytorch(group_problem, group_operands, wanted, log)
    return None


def checked_problems(quick: bool) -> list[Problem]:
    """Vim-Ti/S/B at 224, and Vim-Ti at 1248."""
    some = [problem_of("Vim-Ti", 1), problem_of("Vim-Ti", 8), problem_of("Vim-S", 3), problem_of("Vim-B", 2)]
    return some if quick else [*some, problem_of("Vim-Ti", 128), problem_of("Vim-Ti", 1, LARGE)]


def checked_group_problems(quick: bool) -> list[GroupProblem]:
    """What is measured of models of others, and one without softplus for either scan."""
    small = GroupProblem("small", 2, 197, 65, 6, 4, (0, 1), delta_softplus=False)
    return [small, dataclasses.replace(small, rank=0), *group_problems(quick)]


def _check_conv1d(
    kernels: Kernels,
    problem: Problem | GroupProblem,
    dtype: torch.dtype,
    generator: torch.Generator,
    log: Log,
    silu: bool = True,
) -> None:
    operands = conv_operands(problem, dtype, generator)
    wanted = reference.conv1d(operands, problem.reverse, silu)

    def run() -> Tensor:
        u = torch.full(wanted.shape, math.nan, dtype=dtype, device="cuda")
        kernels.conv1d(operands, problem.reverse, u, silu)
        return u

    _compare(f"conv1d {problem.name} {_name(dtype)}", run(), run(), wanted, log)


def _check_scan(
    kernels: Kernels,
    problem: Problem | GroupProblem,
    operands: ScanOperands | GroupScanOperands,
    wanted: Tensor,
    log: Log,
) -> None:
    dtype = operands.u.dtype
    for schedule in (None, *SCHEDULES):
        choice = Choice(schedule)
        plan = kernels.plan(problem, dtype, choice)

        def run(choice: Choice = choice, workspace_bytes: int = plan.workspace_bytes) -> Tensor:
            y = torch.full(wanted.shape, math.nan, dtype=dtype, device="cuda")
            kernels.selective_scan(problem, operands, empty_workspace(workspace_bytes), y, choice)
            return y

        subject = f"scan {problem.name} {_name(dtype)} {schedule or 'automatic'}"
        _compare(subject, run(), run(), wanted, log, plan=plan.words)


def _check_in_pytorch(problem: GroupProblem, operands: GroupScanOperands, wanted: Tensor, log: Log) -> None:
    """The installed package's kernels, as tensors of PyTorch are passed to them."""
    subject = f"scan {problem.name} {_name(operands.u.dtype)} in PyTorch"
    first, second = (
        native.selective_scan(operands.tensors(), problem.reverse, problem.delta_softplus, with_state=False)
        for _ in range(2)
    )
    if first is None or second is None:
        log.failed(subject, "the installed package has no kernels for this device")
    else:
        _compare(subject, first[0], second[0], wanted, log)


def _compare(subject: str, first: Tensor, second: Tensor, wanted: Tensor, log: Log, **values: str) -> None:
    error = reference.relative_error(first, wanted)
    if torch.equal(first.view(torch.uint8), second.view(torch.uint8)):
        log.within(subject, "relative error", error, reference.error_bound(first.dtype), **values)
    else:
        log.failed(subject, "two runs on the same inputs differ: a race", **values)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
