"""The float64 reference on the device, here on the CPU, against the plain loops."""

import numpy as np
import pytest
import torch
from helpers import oracle

from gpu_kit import reference
from gpu_kit.problems import GroupProblem, Problem, conv_operands, group_scan_operands, scan_operands

PROBLEM = Problem("any", batch=2, tokens=9, channels=5, rank=3, states=4, width=4, scale=0.5, reverse=(0, 1, 1))


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_operators_are_those_of_the_contract(generator, dtype):
    scan, convolution = scan_operands(PROBLEM, dtype, generator), conv_operands(PROBLEM, dtype, generator)
    wanted_y = oracle.bidirectional_selective_scan(
        *(t.double().numpy() for t in scan.tensors()), PROBLEM.reverse, PROBLEM.scale
    )
    wanted_u = oracle.bidirectional_conv1d(*(t.double().numpy() for t in convolution.tensors()), PROBLEM.reverse)
    np.testing.assert_allclose(reference.selective_scan(scan, PROBLEM.reverse, PROBLEM.scale), wanted_y, rtol=1e-9)
    np.testing.assert_allclose(reference.conv1d(convolution, PROBLEM.reverse), wanted_u, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rank", [0, 3])
@pytest.mark.parametrize("flag", [False, True])
def test_the_operators_of_groups_are_those_of_the_contract(generator, rank, flag):
    problem = GroupProblem(
        "any", batch=2, tokens=9, channels=5, rank=rank, states=4, reverse=(0, 1, 1), delta_softplus=flag
    )
    scan = group_scan_operands(problem, torch.float16, generator)
    wanted_y, _ = oracle.selective_scan(
        *(t.double().numpy() for t in scan.tensors()), reverse=problem.reverse, delta_softplus=flag
    )
    np.testing.assert_allclose(reference.group_scan(scan, problem.reverse, flag), wanted_y, rtol=1e-9, atol=1e-12)
    convolution = conv_operands(problem, torch.float16, generator)
    wanted_u = oracle.causal_conv1d(*(t.double().numpy() for t in convolution.tensors()), problem.reverse, silu=flag)
    np.testing.assert_allclose(reference.conv1d(convolution, problem.reverse, flag), wanted_u, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_rounding_to_a_type_is_within_its_bound_and_one_bit_less_is_not(generator, dtype):
    wanted = torch.randn(10_000, dtype=torch.float64, generator=generator)
    assert reference.relative_error(wanted.to(dtype), wanted) <= reference.error_bound(dtype)
    assert not reference.relative_error(wanted * (1 + 1.1 * reference.error_bound(dtype)), wanted) <= (
        reference.error_bound(dtype)
    )


def test_nan_is_within_no_bound():
    wanted = torch.ones(3, dtype=torch.float64)
    assert not reference.relative_error(torch.tensor([1.0, float("nan"), 1.0]), wanted) <= 1e9
