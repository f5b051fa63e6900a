"""The convolutions that stand in for ``causal_conv1d``'s, by the signatures of all its releases."""

import pytest
import torch
from helpers import channel_major

from vimdeploy.compat.conv import (
    causal_conv1d_fn,
    causal_conv1d_fwd,
    causal_conv1d_fwd_function,
    causal_conv1d_fwd_into,
    causal_conv1d_update,
)
from vimdeploy.errors import ConfigError

BATCH, CHANNELS, LENGTH, WIDTH = 2, 3, 7, 4


@pytest.fixture
def operands():
    torch.manual_seed(3)
    return torch.randn(BATCH, CHANNELS, LENGTH), torch.randn(CHANNELS, WIDTH), torch.randn(CHANNELS)


def close(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


class TestFunction:
    @pytest.mark.parametrize("activation", [None, "silu", "swish"])
    @pytest.mark.parametrize("has_bias", [False, True])
    def test_answers(self, operands, activation, has_bias):
        x, weight, bias = operands
        bias = bias if has_bias else None
        close(
            causal_conv1d_fn(x, weight, bias, activation=activation),
            channel_major.causal_conv1d_fn(x, weight, bias, activation),
        )

    def test_the_activation_in_the_place_of_older_releases(self, operands):
        wanted = causal_conv1d_fn(*operands, activation="silu")
        assert torch.equal(causal_conv1d_fn(*operands, "silu"), wanted)  # 1.0
        assert torch.equal(causal_conv1d_fn(*operands, None, "silu"), wanted)  # 1.1

    def test_a_sequence_in_two_parts(self, operands):
        x, weight, bias = operands
        whole, last = causal_conv1d_fn(x, weight, bias, return_final_states=True, activation="silu")
        first, between = causal_conv1d_fn(x[..., :2], weight, bias, return_final_states=True)
        second = causal_conv1d_fn(x[..., 2:], weight, bias, initial_states=between, activation="silu")
        close(second, whole[..., 2:])
        assert torch.equal(last, x[..., 1 - WIDTH :])
        assert torch.equal(between[..., 0], torch.zeros(BATCH, CHANNELS))
        assert torch.equal(between[..., 1:], x[..., :2])
        assert first.shape == (BATCH, CHANNELS, 2)

    def test_final_states_are_written_where_wanted(self, operands):
        x, weight, bias = operands
        place = torch.empty(BATCH, WIDTH - 1, CHANNELS).transpose(1, 2)
        _, given = causal_conv1d_fn(x, weight, bias, return_final_states=True, final_states_out=place)
        assert given is place
        assert torch.equal(place, x[..., 1 - WIDTH :])

    def test_half_stays_half(self, operands):
        x, weight, bias = operands
        assert causal_conv1d_fn(x.half(), weight, bias, activation="silu").dtype == torch.float16

    def test_several_sequences_in_one_are_refused(self, operands):
        with pytest.raises(ConfigError) as caught:
            causal_conv1d_fn(*operands, torch.zeros(BATCH, LENGTH, dtype=torch.int32))
        assert str(caught.value) == (
            "The model packs several sequences into one (seq_idx), which vimdeploy's convolution cannot."
        )

    def test_other_activations_are_refused(self, operands):
        with pytest.raises(ConfigError, match="silu and swish, found 'gelu'"):
            causal_conv1d_fn(*operands, activation="gelu")


class TestExtension:
    @pytest.mark.parametrize("silu", [False, True])
    @pytest.mark.parametrize("nothing", [0, 1, 3])
    def test_four_five_and_seven_arguments(self, operands, silu, nothing):
        wanted = channel_major.causal_conv1d_fn(*operands, "silu" if silu else None)
        close(causal_conv1d_fwd(*operands, *[None] * nothing, silu), wanted)

    def test_seven_with_states(self, operands):
        x, weight, bias = operands
        before, after = torch.randn(BATCH, CHANNELS, WIDTH - 1), torch.empty(BATCH, CHANNELS, WIDTH - 1)
        found = causal_conv1d_fwd(x, weight, bias, None, before, after, True)
        wanted = channel_major.causal_conv1d_fn(torch.cat([before, x], -1), weight, bias, "silu")[..., WIDTH - 1 :]
        close(found, wanted)
        assert torch.equal(after, x[..., 1 - WIDTH :])
        close(causal_conv1d_fwd_function(x, weight, bias, None, before, None, True), wanted)

    def test_eight_write_the_result(self, operands):
        out = torch.empty_like(operands[0])
        assert causal_conv1d_fwd(*operands, None, None, out, None, True) is None
        close(out, channel_major.causal_conv1d_fn(*operands, "silu"))
        by_name = torch.empty_like(out)
        names = ("x", "weight", "bias", "seq_idx", "initial_states", "out", "final_states_out", "silu_activation")
        causal_conv1d_fwd_into(**dict(zip(names, (*operands, None, None, by_name, None, True), strict=True)))
        assert torch.equal(by_name, out)

    @pytest.mark.parametrize("rest", [(), (None, None, True), (None, None, None, None, True), (None,)])
    def test_any_other_number_is_refused(self, operands, rest):
        with pytest.raises(ConfigError, match=f"with {3 + len(rest)} arguments, the last one of type"):
            causal_conv1d_fwd(*operands, *rest)


class TestOneToken:
    @pytest.mark.parametrize("kept", [WIDTH - 1, WIDTH + 2])
    def test_token_by_token_is_the_convolution(self, operands, kept):
        x, weight, bias = operands
        wanted, state = channel_major.causal_conv1d_fn(x, weight, bias, "silu"), torch.zeros(BATCH, CHANNELS, kept)
        for token in range(LENGTH):
            close(causal_conv1d_update(x[..., token], state, weight, bias, "silu"), wanted[..., token])
        assert torch.equal(state, x[..., -kept:])

    def test_several_tokens(self, operands):
        x, weight, bias = operands
        state = torch.zeros(BATCH, CHANNELS, WIDTH - 1)
        close(causal_conv1d_update(x, state, weight, bias), channel_major.causal_conv1d_fn(x, weight, bias))

    def test_as_the_function_of_the_package(self, operands):
        """``causal_conv1d.cpp_functions.causal_conv1d_update_function``: a flag, and all arguments by position."""
        x, weight, bias = operands
        found = causal_conv1d_update(x, torch.zeros(BATCH, CHANNELS, WIDTH - 1), weight, bias, True, None, None)
        close(found, channel_major.causal_conv1d_fn(x, weight, bias, "silu"))

    def test_a_ring_of_states_is_refused(self, operands):
        x, weight, bias = operands
        with pytest.raises(ConfigError, match="cache_seqlens"):
            causal_conv1d_update(x, torch.zeros(BATCH, CHANNELS, 3), weight, bias, cache_seqlens=torch.zeros(BATCH))
