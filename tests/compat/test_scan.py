"""The scans that stand in for ``mamba_ssm``'s and the extensions': shapes, types and answers as theirs."""

import pytest
import torch
from helpers import channel_major

from vimdeploy.compat.scan import (
    fwd,
    fwd_core,
    fwd_oflex,
    selective_scan_fn,
    selective_scan_without_gate,
    selective_state_update,
)
from vimdeploy.errors import ConfigError

BATCH, CHANNELS, STATES, LENGTH = 2, 6, 3, 5


def inputs(groups_of_b=None, groups_of_c=None, delta_channels=CHANNELS, dtype=torch.float32, length=LENGTH):
    """u, delta, A, B, C, D, z, delta_bias; B and C without groups as (B, N, L), constant ones of 0 groups."""
    torch.manual_seed(1)

    def b_or_c(groups):
        if groups == 0:
            return torch.randn(CHANNELS, STATES)
        shape = (BATCH, STATES, length) if groups is None else (BATCH, groups, STATES, length)
        return torch.randn(shape).to(dtype)

    u, z = (torch.randn(BATCH, CHANNELS, length).to(dtype) for _ in range(2))
    delta = torch.randn(BATCH, delta_channels, length).to(dtype)
    A, D, bias = -torch.rand(CHANNELS, STATES), torch.randn(CHANNELS), torch.randn(delta_channels)
    return u, delta, A, b_or_c(groups_of_b), b_or_c(groups_of_c), D, z, bias


class TestFunction:
    @pytest.mark.parametrize("groups", [(None, None), (1, 1), (3, 3), (2, 6), (None, 3), (0, None), (3, 0), (0, 0)])
    @pytest.mark.parametrize("softplus", [False, True])
    def test_every_shape_of_b_and_c(self, groups, softplus):
        u, delta, A, B, C, D, z, bias = inputs(*groups)
        found = selective_scan_fn(u, delta, A, B, C, D, z, bias, softplus, return_last_state=True)
        wanted = channel_major.selective_scan_fn(u, delta, A, B, C, D, z, bias, softplus, return_last_state=True)
        torch.testing.assert_close(found[0], wanted[0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found[1].double(), wanted[1], rtol=1e-5, atol=1e-5)

    def test_without_all_that_may_be_left_out(self):
        u, delta, A, B, C, *_ = inputs()
        found, wanted = selective_scan_fn(u, delta, A, B, C), channel_major.selective_scan_fn(u, delta, A, B, C)
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_the_type_is_that_of_u(self, dtype):
        u, delta, A, B, C, D, z, bias = inputs(dtype=dtype)
        found = selective_scan_fn(u, delta, A, B, C, D, z, bias, True)
        wanted = channel_major.selective_scan_fn(u, delta, A, B, C, D, z, bias, True)
        assert found.dtype == dtype
        few_digits = 4 * torch.finfo(dtype).eps  # y and the gated y are rounded to the type
        torch.testing.assert_close(found, wanted, rtol=few_digits, atol=few_digits)

    def test_types_may_differ(self):
        u, delta, A, B, C, D, _, bias = inputs()
        found = selective_scan_fn(u.half(), delta, A.half(), B, C.half(), D.half(), None, bias.half(), True)
        wanted = channel_major.selective_scan_fn(
            u.half(), delta, A.half(), B, C.half(), D.half(), None, bias.half(), True
        )
        assert found.dtype == torch.float16
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)

    def test_the_older_package_has_no_gate(self):
        u, delta, A, B, C, D, _, bias = inputs(2, 2)
        found = selective_scan_without_gate(u, delta, A, B, C, D, bias, True, nrows=1)
        wanted = channel_major.selective_scan_fn(u, delta, A, B, C, D, None, bias, True)
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)

    def test_views_of_any_strides(self):
        u, delta, A, B, C, D, z, bias = inputs(3, 3)
        strided = [t.transpose(1, 2).contiguous().transpose(1, 2) for t in (u, delta, z)]
        found = selective_scan_fn(strided[0], strided[1], A, B, C, D, strided[2], bias, True)
        torch.testing.assert_close(found, selective_scan_fn(u, delta, A, B, C, D, z, bias, True))
        assert found.is_contiguous()

    def test_complex_numbers_are_refused(self):
        u, delta, A, B, C, *_ = inputs()
        with pytest.raises(ConfigError) as caught:
            selective_scan_fn(u, delta, A.to(torch.complex64), B, C)
        assert str(caught.value) == (
            "The model's A is complex, and vimdeploy's selective scan is real: train it with a real A."
        )


class TestExtensions:
    def test_the_gated_y_comes_third_if_there_is_a_gate(self):
        u, delta, A, B, C, D, z, bias = inputs(1, 1)
        y, _ = fwd(u, delta, A, B, C, D, None, bias, True)
        same, _, gated = fwd(u, delta, A, B, C, D, z, bias, True)
        assert torch.equal(y, same)
        wanted = channel_major.selective_scan_fn(u, delta, A, B, C, D, z, bias, True)
        torch.testing.assert_close(gated, wanted, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize(("length", "chunks"), [(1, 1), (2048, 1), (2049, 2)])
    def test_the_last_state_is_where_wrappers_read_it(self, length, chunks):
        u, delta, A, B, C, D, _, bias = inputs(2, 2, length=length)
        _, states = fwd_core(u, delta, A, B, C, D, bias, True, 1)
        assert states.shape == (BATCH, CHANNELS, chunks, 2 * STATES)
        assert states.dtype == torch.float32
        _, wanted = selective_scan_fn(u, delta, A, B, C, D, None, bias, True, return_last_state=True)
        assert torch.equal(states[:, :, -1, 1::2], wanted)
        assert states[:, :, -1, ::2].isnan().all()

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
    @pytest.mark.parametrize("out_float", [False, True])
    def test_oflex_gives_float32_if_asked(self, dtype, out_float):
        u, delta, A, B, C, D, _, bias = inputs(2, 2, dtype=dtype)
        y, _ = fwd_oflex(u, delta, A, B, C, D, bias, True, 1, out_float)
        assert y.dtype == (torch.float32 if out_float else dtype)
        wanted, _ = channel_major.scan(u, delta, A, B, C, D, None, bias, True)
        digits = 1e-5 if y.dtype == torch.float32 else 1e-3  # float32 was never rounded to half in between
        torch.testing.assert_close(y.double(), wanted, rtol=digits, atol=digits)

    def test_oflex_repeats_step_sizes_over_channels(self):
        u, delta, A, B, C, D, _, bias = inputs(2, 2, delta_channels=3)
        y, _ = fwd_oflex(u, delta, A, B, C, D, bias, True, 1, True)
        wanted, _ = channel_major.scan(u, delta, A, B, C, D, None, bias, True)
        torch.testing.assert_close(y.double(), wanted, rtol=1e-5, atol=1e-5)


class TestOneToken:
    @pytest.mark.parametrize("softplus", [False, True])
    def test_token_by_token_is_the_scan(self, softplus):
        u, delta, A, B, C, D, z, bias = inputs()
        wanted, last = channel_major.selective_scan_fn(u, delta, A, B, C, D, z, bias, softplus, return_last_state=True)
        state = torch.zeros(BATCH, CHANNELS, STATES)
        for token in range(LENGTH):
            at = (..., token)
            y = selective_state_update(state, u[at], delta[at], A, B[at], C[at], D, z[at], bias, softplus)
            torch.testing.assert_close(y, wanted[at], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(state.double(), last, rtol=1e-5, atol=1e-5)

    def test_heads_share_the_b_and_c_of_their_group(self):
        torch.manual_seed(2)
        heads, groups = 4, 2
        state, x = torch.randn(BATCH, heads, CHANNELS, STATES), torch.randn(BATCH, heads, CHANNELS)
        dt, A, D = (
            torch.rand(BATCH, heads, CHANNELS),
            -torch.rand(heads, CHANNELS, STATES),
            torch.randn(heads, CHANNELS),
        )
        B, C = (torch.randn(BATCH, groups, STATES) for _ in range(2))
        before = state.clone()
        y = selective_state_update(state, x, dt, A, B, C, D)
        for head in range(heads):
            one = before[:, head].clone()
            b, c = B[:, head // 2], C[:, head // 2]
            wanted = selective_state_update(one, x[:, head], dt[:, head], A[head], b, c, D[head])
            torch.testing.assert_close(y[:, head], wanted)
            torch.testing.assert_close(state[:, head], one)

    def test_states_of_some_are_refused(self):
        u, delta, A, B, C, *_ = inputs()
        with pytest.raises(ConfigError, match="state_batch_indices is not supported"):
            selective_state_update(
                torch.zeros(BATCH, CHANNELS, STATES),
                *(t[..., 0] for t in (u, delta)),
                A,
                B[..., 0],
                C[..., 0],
                state_batch_indices=torch.tensor([0, 1]),
            )
