"""The fused functions with arguments that no miniature gives."""

import pytest
import torch
from helpers import channel_major

from vimdeploy.compat.inner import bimamba_inner_fn, mamba_inner_fn, mamba_inner_fn_no_out_proj
from vimdeploy.errors import ConfigError

BATCH, CHANNELS, LENGTH, STATES, RANK, WIDTH = 2, 4, 5, 3, 2, 3


@pytest.fixture
def operands():
    torch.manual_seed(5)
    projected = RANK + 2 * STATES
    return (
        torch.randn(BATCH, 2 * CHANNELS, LENGTH),
        torch.randn(CHANNELS, 1, WIDTH),
        torch.randn(CHANNELS),
        torch.randn(projected, CHANNELS),
        torch.randn(CHANNELS, RANK),
    )


@pytest.fixture
def A():  # noqa: N802
    return -torch.rand(CHANNELS, STATES)


def close(found, wanted):
    assert found.dtype == wanted.dtype
    torch.testing.assert_close(found, wanted, rtol=2e-5, atol=2e-5)


GIVEN = {
    "constant": (CHANNELS, STATES),
    "variable": (BATCH, STATES, LENGTH),
    "grouped": (BATCH, 2, STATES, LENGTH),
}


@pytest.mark.parametrize("b", [None, *GIVEN])
@pytest.mark.parametrize("c", [None, *GIVEN])
def test_given_b_and_c(operands, A, b, c):
    B, C = (None if name is None else torch.randn(GIVEN[name]) for name in (b, c))
    *rest, x_proj, dt_proj = operands
    x_proj = x_proj[: RANK + STATES * ((B is None) + (C is None))]
    arguments = (*rest, x_proj, dt_proj, A, B, C, torch.randn(CHANNELS), torch.randn(CHANNELS))
    close(mamba_inner_fn_no_out_proj(*arguments), channel_major.mamba_inner_fn_no_out_proj(*arguments))


def test_biases_and_norms_of_the_projections(operands, A):
    out = torch.randn(6, CHANNELS), torch.randn(6)
    D, bias = torch.randn(CHANNELS), torch.randn(CHANNELS)
    biases = {"B_proj_bias": torch.randn(STATES), "C_proj_bias": torch.randn(STATES)}
    norms = torch.randn(STATES), torch.randn(STATES), torch.randn(CHANNELS)
    names = ("b_rms_weight", "c_rms_weight", "dt_rms_weight")
    by_name = dict(zip(names, norms, strict=True))
    found = mamba_inner_fn(*operands, *out, A, None, None, D, bias, **biases, **by_name, b_c_dt_rms_eps=1e-3)
    wanted = channel_major.mamba_inner_fn(
        *operands, *out, A, None, None, D, bias, **biases, norm_weights=norms, eps=1e-3
    )
    close(found, wanted)


def test_nothing_but_what_must_be_given(operands, A):
    xz, taps, _, *projections = operands
    found = mamba_inner_fn_no_out_proj(xz, taps, None, *projections, A, delta_softplus=False)
    wanted = channel_major.mamba_inner_fn_no_out_proj(xz, taps, None, *projections, A, delta_softplus=False)
    close(found, wanted)
    assert found.is_contiguous()


def test_half(operands, A):
    half = [operand.half() for operand in operands]
    found = mamba_inner_fn_no_out_proj(*half, A)
    assert found.dtype == torch.float16
    wanted = channel_major.mamba_inner_fn_no_out_proj(*half, A)
    torch.testing.assert_close(found, wanted, rtol=0.02, atol=0.02)


def test_complex_numbers_are_refused(operands, A):
    with pytest.raises(ConfigError, match="A is complex"):
        mamba_inner_fn_no_out_proj(*operands, A.to(torch.complex64))


def test_autocast_leaves_the_type_of_xz(operands, A):
    with torch.autocast("cpu", torch.bfloat16):
        found = mamba_inner_fn_no_out_proj(*operands, A)
    assert found.dtype == torch.float32
    wanted = channel_major.mamba_inner_fn_no_out_proj(*operands, A)
    torch.testing.assert_close(found, wanted, rtol=0.05, atol=0.1)  # the projection rounds to eight digits of two


def test_two_directions_with_given_b_are_refused(operands, A):
    with pytest.raises(ConfigError, match="bimamba_inner_fn with a B or a C that is given is not supported"):
        bimamba_inner_fn(*operands, torch.randn(6, CHANNELS), None, A, A, torch.randn(CHANNELS, STATES))
