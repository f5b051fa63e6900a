import dataclasses

import pytest
import torch

from gpu_kit.problems import (
    LARGE,
    GroupProblem,
    Problem,
    conv_bytes,
    conv_operands,
    floor_us,
    group_problems,
    group_scan_operands,
    problem_of,
    problems,
    scan_bytes,
    scan_operands,
)
from vimdeploy.ops.contract import (
    BIDIRECTIONAL_CONV1D,
    BIDIRECTIONAL_SCAN,
    CAUSAL_CONV1D,
    LOW_RANK_SCAN,
    SELECTIVE_SCAN,
)

ODD = Problem("any", batch=3, tokens=7, channels=5, rank=2, states=4, width=3, scale=0.5)
GROUPS = GroupProblem("any", batch=3, tokens=7, channels=5, rank=2, states=4, reverse=(0, 1), width=3)
GIVEN = dataclasses.replace(GROUPS, rank=0)


def test_problems_are_those_of_the_released_models():
    tiny = problem_of("Vim-Ti", 8)
    assert (tiny.name, tiny.tokens, tiny.channels, tiny.rank, tiny.states) == ("Vim-Ti 8 x 197", 197, 384, 12, 16)
    assert problem_of("Vim-Ti", 1, LARGE).tokens == 6085
    assert [problem.name for problem in problems(quick=True)] == [
        "Vim-Ti 1 x 197",
        "Vim-Ti 8 x 197",
        "Vim-Ti 128 x 197",
        "Vim-Ti 1 x 6085",
        "Vim-Ti 8 x 6085",
    ]


def test_operands_have_the_contract_s_shapes():
    sizes = {"B": 3, "L": 7, "E": 5, "N": 4, "K": 2, "G": 2, "R": 2, "W": 3, "X": 5, "2E": 10, "R+2N": 10}
    generator = torch.Generator().manual_seed(0)
    for operator, operands in (
        (BIDIRECTIONAL_SCAN, scan_operands(ODD, torch.float16, generator)),
        (BIDIRECTIONAL_CONV1D, conv_operands(ODD, torch.float16, generator)),
        (CAUSAL_CONV1D, conv_operands(GROUPS, torch.float16, generator)),
        (SELECTIVE_SCAN, group_scan_operands(GIVEN, torch.float16, generator)),
        (LOW_RANK_SCAN, group_scan_operands(GROUPS, torch.float16, generator)),
    ):
        for value, tensor in zip(operator.inputs, operands.tensors(), strict=True):
            assert tensor.shape == tuple(sizes[dim] for dim in value.dims), value.name
            assert tensor.dtype == (torch.float32 if value.type == "float32" else torch.float16), value.name
            assert tensor.is_contiguous()


def test_bytes_are_those_of_the_tensors_but_for_half_of_xz():
    generator = torch.Generator().manual_seed(0)
    for dtype in (torch.float16, torch.float32):
        y, u = (ODD.positions * n * dtype.itemsize for n in (1, 2))
        for count, operands, out in (
            (scan_bytes, scan_operands(ODD, dtype, generator), y),
            (conv_bytes, conv_operands(ODD, dtype, generator), u),
        ):
            whole = sum(tensor.nbytes for tensor in operands.tensors()) + out
            xz = next(tensor for tensor in operands.tensors() if tensor.shape == (3, 7, 10))
            assert count(ODD, dtype.itemsize) == whole - xz.nbytes // 2


@pytest.mark.parametrize("problem", [GROUPS, GIVEN])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_bytes_of_groups_are_those_of_the_tensors(problem, dtype):
    generator = torch.Generator().manual_seed(0)
    out = problem.positions * dtype.itemsize  # y of the groups, or u of as many directions
    for count, operands in (
        (scan_bytes, group_scan_operands(problem, dtype, generator)),
        (conv_bytes, conv_operands(problem, dtype, generator)),
    ):
        assert count(problem, dtype.itemsize) == sum(tensor.nbytes for tensor in operands.tensors()) + out


def test_models_of_others_have_1_8_and_16_states_and_both_scans():
    problems = group_problems(quick=False)
    for scan in (SELECTIVE_SCAN, LOW_RANK_SCAN):
        assert {problem.states for problem in problems if problem.operator is scan} == {1, 8, 16}
    assert len({problem.name for problem in problems}) == len(problems)
    assert set(group_problems(quick=True)) < set(problems)
    assert GIVEN.decays == 4 * GIVEN.positions
    assert GIVEN.special_functions == 6 * GIVEN.positions
    assert dataclasses.replace(GIVEN, delta_softplus=False).special_functions == 4 * GIVEN.positions


def test_vim_tiny_moves_eight_and_a_half_bytes_and_32_exponentials_a_position():
    large = problem_of("Vim-Ti", 128)
    assert large.decays == 32 * large.positions
    assert large.special_functions == 38 * large.positions
    assert round(scan_bytes(large, 2) / large.positions, 1) == 8.5


def test_the_floors_are_bytes_and_exponentials_over_their_rates():
    problem = problem_of("Vim-Ti", 128)
    by_bytes, by_exp2 = floor_us(problem, 2, bytes_per_s=3e12, exp2_per_s=4.18e12)
    assert by_bytes == pytest.approx(scan_bytes(problem, 2) / 3e6)
    assert by_exp2 == pytest.approx(problem.decays / 4.18e6)
