import itertools

import numpy as np
import pytest
import torch
from helpers import oracle

from vimdeploy.ops.torch_ops import bidirectional_conv1d, bidirectional_selective_scan

REVERSE = [(0,), (1,), (0, 1), (1, 0), (1, 1), (0, 1, 1)]


def conv1d_inputs(directions=2, batch=2, length=7, channels=5, width=4, seed=0):
    rng = np.random.default_rng(seed)
    shapes = (batch, length, 2 * channels), (directions, channels, width), (directions, channels)
    return [rng.standard_normal(shape) for shape in shapes]


def scan_inputs(directions=2, batch=2, length=7, channels=5, states=3, rank=2, seed=0):
    rng = np.random.default_rng(seed)
    u, xz, dt_bc, dt_weight, dt_bias, A, D = (
        rng.standard_normal(shape)
        for shape in (
            (directions, batch, length, channels),
            (batch, length, 2 * channels),
            (directions, batch, length, rank + 2 * states),
            (directions, channels, rank),
            (directions, channels),
            (directions, channels, states),
            (directions, channels),
        )
    )
    return [u, xz, dt_bc, dt_weight, dt_bias, -np.exp(A), D]


def torched(arrays, dtype=torch.float32):
    return [torch.from_numpy(array).to(dtype) for array in arrays]


def assert_near(found, wanted, bound=1e-5):
    torch.testing.assert_close(found.double(), torch.from_numpy(wanted), rtol=bound, atol=bound)


class TestConv1d:
    @pytest.mark.parametrize("reverse", REVERSE)
    def test_directions(self, reverse):
        inputs = conv1d_inputs(len(reverse))
        assert_near(bidirectional_conv1d(*torched(inputs), reverse), oracle.bidirectional_conv1d(*inputs, reverse))

    @pytest.mark.parametrize(("length", "width", "channels"), [*itertools.product([1, 2, 9], [1, 2, 4, 5], [1, 13])])
    def test_sizes(self, length, width, channels):
        inputs = conv1d_inputs(length=length, width=width, channels=channels)
        assert_near(bidirectional_conv1d(*torched(inputs), (0, 1)), oracle.bidirectional_conv1d(*inputs, (0, 1)))

    def test_by_hand(self):
        """x = 1, 2, 3 and taps 10, 1: forward 1, 12, 23; reversed 21, 32, 3."""
        xz = torch.tensor([[1.0, 0], [2, 0], [3, 0]])[None]
        weight = torch.tensor([[10.0, 1.0]]).expand(2, 1, 2)
        u = bidirectional_conv1d(xz, weight, torch.zeros(2, 1), (0, 1))
        wanted = torch.tensor([[1.0, 12.0, 23.0], [21.0, 32.0, 3.0]])
        torch.testing.assert_close(u[:, 0, :, 0], wanted * torch.sigmoid(wanted))

    def test_z_is_not_read(self):
        xz, weight, bias = torched(conv1d_inputs())
        other = torch.cat([xz[..., :5], torch.full_like(xz[..., 5:], torch.nan)], dim=-1)
        assert torch.equal(
            bidirectional_conv1d(xz, weight, bias, (0, 1)), bidirectional_conv1d(other, weight, bias, (0, 1))
        )

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_types_round_the_result_alone(self, dtype):
        halves = torched(conv1d_inputs(), dtype)
        wanted = bidirectional_conv1d(*(tensor.float() for tensor in halves), (0, 1))
        assert torch.equal(bidirectional_conv1d(*halves, (0, 1)), wanted.to(dtype))


class TestSelectiveScan:
    @pytest.mark.parametrize("reverse", REVERSE)
    def test_directions(self, reverse):
        inputs = scan_inputs(len(reverse))
        found = bidirectional_selective_scan(*torched(inputs), reverse, 0.5)
        assert_near(found, oracle.bidirectional_selective_scan(*inputs, reverse, 0.5))

    @pytest.mark.parametrize(
        ("length", "channels", "states", "rank"), [(1, 1, 1, 1), (1, 13, 8, 3), (11, 13, 1, 2), (30, 4, 16, 1)]
    )
    def test_sizes(self, length, channels, states, rank):
        inputs = scan_inputs(length=length, channels=channels, states=states, rank=rank)
        found = bidirectional_selective_scan(*torched(inputs), (0, 1), 0.5)
        assert_near(found, oracle.bidirectional_selective_scan(*inputs, (0, 1), 0.5))

    @pytest.mark.parametrize("scale", [0.5, 1.0, -2.0])
    def test_scale(self, scale):
        inputs = scan_inputs()
        found = bidirectional_selective_scan(*torched(inputs), (0, 1), scale)
        assert_near(found, oracle.bidirectional_selective_scan(*inputs, (0, 1), scale))

    @pytest.mark.parametrize("shift", [-100.0, -20.0, 19.0, 20.0, 21.0, 90.0])
    def test_step_sizes_around_the_threshold_and_beyond(self, shift):
        u, xz, dt_bc, dt_weight, dt_bias, A, D = scan_inputs()
        inputs = u, xz, dt_bc, dt_weight, dt_bias + shift, A, D
        found = bidirectional_selective_scan(*torched(inputs), (0, 1), 0.5)
        wanted = oracle.bidirectional_selective_scan(*inputs, (0, 1), 0.5)
        assert_near(found / max(1.0, abs(shift)), wanted / max(1.0, abs(shift)))

    def test_by_hand(self):
        """One channel, one state, step size 30 (above the threshold, so exactly 30 = log 2 / 0.0231), z open."""
        decay = 0.5
        A = torch.log(torch.tensor([[[decay]]])) / 30
        u = torch.tensor([1.0, 2.0, 4.0]).reshape(1, 1, 3, 1)
        xz = torch.tensor([0.0, 40.0]).expand(1, 3, 2)  # silu(40) is 40
        dt_bc = torch.tensor([0.0, 1.0, 1.0]).expand(1, 1, 3, 3)  # low rank 0, B 1, C 1
        y = bidirectional_selective_scan(
            u, xz, dt_bc, torch.ones(1, 1, 1), torch.full((1, 1), 30.0), A, torch.full((1, 1), 7.0), (0,), 1.0
        )
        states = torch.tensor([30.0, 0.5 * 30 + 60, 0.5 * 75 + 120])
        torch.testing.assert_close(y[0, :, 0], 40 * (states + 7 * u.flatten()))

    def test_x_is_not_read(self):
        u, xz, *rest = torched(scan_inputs())
        other = torch.cat([torch.full_like(xz[..., :5], torch.nan), xz[..., 5:]], dim=-1)
        first, second = (bidirectional_selective_scan(u, t, *rest, (0, 1), 0.5) for t in (xz, other))
        assert torch.equal(first, second)

    def test_the_sum_of_two_directions_is_the_sum_of_each_alone(self):
        u, xz, *rest = torched(scan_inputs())
        both = bidirectional_selective_scan(u, xz, *rest, (0, 1), 0.5)
        alone = [
            bidirectional_selective_scan(u[k : k + 1], xz, *(t[k : k + 1] for t in rest), (k,), 0.5) for k in (0, 1)
        ]
        torch.testing.assert_close(both, alone[0] + alone[1], rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_types_round_the_result_alone(self, dtype):
        u, xz, dt_bc, dt_weight, *floats = torched(scan_inputs())
        halves = [tensor.to(dtype) for tensor in (u, xz, dt_bc, dt_weight)]
        wanted = bidirectional_selective_scan(*(tensor.float() for tensor in halves), *floats, (0, 1), 0.5)
        assert torch.equal(bidirectional_selective_scan(*halves, *floats, (0, 1), 0.5), wanted.to(dtype))

    def test_a_reversed_direction_is_a_forward_one_over_the_flipped_tokens(self):
        u, xz, dt_bc, *rest = torched(scan_inputs(directions=1))
        wanted = bidirectional_selective_scan(u.flip(2), xz.flip(1), dt_bc.flip(2), *rest, (0,), 0.5).flip(1)
        assert torch.equal(bidirectional_selective_scan(u, xz, dt_bc, *rest, (1,), 0.5), wanted)


class TestGradients:
    """Small models are trained with these operators."""

    def test_of_the_convolution_against_differences(self):
        inputs = [tensor.requires_grad_() for tensor in torched(conv1d_inputs(batch=1, length=4, channels=2))]
        check_gradients(lambda *values: bidirectional_conv1d(*values, (0, 1)), inputs)

    def test_of_the_scan_against_differences(self):
        inputs = [tensor.requires_grad_() for tensor in torched(scan_inputs(batch=1, length=4, channels=2))]
        check_gradients(lambda *values: bidirectional_selective_scan(*values, (0, 1), 0.5), inputs)


def check_gradients(function, inputs):
    """Along a random direction, the gradient is the slope."""
    generator = torch.Generator().manual_seed(2)
    towards = [torch.randn(tensor.shape, generator=generator) for tensor in inputs]
    gradients = torch.autograd.grad(function(*inputs).sum(), inputs)
    slope = sum((g * t).sum() for g, t in zip(gradients, towards, strict=True))
    step = 1e-2
    with torch.no_grad():
        ends = [function(*(i + s * t for i, t in zip(inputs, towards, strict=True))).sum() for s in (step, -step)]
    torch.testing.assert_close(slope, (ends[0] - ends[1]) / (2 * step), rtol=2e-2, atol=1e-2)
