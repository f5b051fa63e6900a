"""The layouts of the kit's other sides, with plain computations in the kernels' place."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from gpu_kit import reference
from gpu_kit.kernels import Plan, _pointers
from gpu_kit.models import FusedMixer
from gpu_kit.problems import GroupProblem, Problem, group_scan_operands, scan_operands
from gpu_kit.replaced_path import TheirGroupScan, TheirScan

PROBLEM = Problem("any", batch=2, tokens=9, channels=5, rank=3, states=4, width=4, scale=0.5)


class PlainKernels:
    """``gpu_kit.kernels.Kernels`` in float64; it refuses what they refuse."""

    def conv1d(self, operands, reverse, u, silu=True):
        _pointers(*operands.tensors(), u)
        u.copy_(reference.conv1d(operands, reverse, silu))

    def plan(self, problem, dtype):
        return Plan("plain", workspace_bytes=0, expected_us=0)

    def selective_scan(self, problem, operands, workspace, y):
        _pointers(*operands.tensors(), y)
        y.copy_(reference.selective_scan(operands, problem.reverse, problem.scale))


def plain_fwd(u, delta, A, B, C, D, z, delta_bias, delta_softplus):
    """One direction by the formulas, in the layouts of ``selective_scan_cuda.fwd``."""
    assert delta_softplus
    assert all(tensor.stride(-1) == 1 for tensor in (u, delta, B, C))
    groups = B.shape[1]
    assert (B.shape, C.shape) == (2 * ((u.shape[0], groups, A.shape[1], u.shape[2]),))
    B, C = (tensor.repeat_interleave(u.shape[1] // groups, dim=1) for tensor in (B, C))
    dt = F.softplus(delta + delta_bias[:, None])
    h, y = torch.zeros(*u.shape[:2], A.shape[1], dtype=u.dtype), []
    for token in range(u.shape[2]):
        step, x = dt[..., token, None], u[..., token, None]
        h = torch.exp(step * A) * h + step * x * B[:, :, :, token]
        y.append((h * C[:, :, :, token]).sum(-1) + D * u[..., token])
    y = torch.stack(y, dim=-1)
    return (y, None) if z is None else (y, None, y * F.silu(z))


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_the_replaced_path_computes_what_ours_does():
    operands = scan_operands(PROBLEM, torch.float64, torch.Generator().manual_seed(0))
    operands = type(operands)(*(tensor.double() for tensor in operands.tensors()))
    found = TheirScan(PROBLEM, operands).run(SimpleNamespace(fwd=plain_fwd)).transpose(1, 2)
    assert reference.relative_error(found, reference.selective_scan(operands, PROBLEM.reverse, PROBLEM.scale)) < 1e-12


def test_the_replaced_scan_of_groups_computes_what_ours_does():
    problem = GroupProblem("any", batch=2, tokens=9, channels=5, rank=0, states=4, reverse=(0, 0, 0))
    operands = group_scan_operands(problem, torch.float64, torch.Generator().manual_seed(0))
    operands = type(operands)(*(tensor.double() for tensor in operands.tensors()))
    found = TheirGroupScan(operands).run(SimpleNamespace(fwd=plain_fwd)).unflatten(1, (3, 5)).transpose(2, 3)
    assert reference.relative_error(found, reference.group_scan(operands, problem.reverse, True)) < 1e-12


def test_a_mixer_with_our_kernels_is_the_mixer(tiny_model, tiny):
    mixer = tiny_model.backbone.layers[0].mixer
    x = torch.randn(2, tiny.config.tokens, tiny.config.dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        fused = FusedMixer(mixer, tiny.config, PlainKernels(), torch.float32)
        assert reference.relative_error(fused(x), mixer(x).double()) < 1e-6
        half = FusedMixer(mixer, tiny.config, PlainKernels(), torch.float16)(x)
        assert half.dtype == torch.float16
        assert reference.relative_error(half, mixer(x).double()) < 1e-2
