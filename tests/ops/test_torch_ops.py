import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx.checker
import pytest
import torch
from helpers import oracle
from helpers.scans import group_inputs, torched
from torch import nn

from vimdeploy.errors import ConfigError
from vimdeploy.ops.contract import CAUSAL_CONV1D, DOMAIN, LOW_RANK_SCAN, SELECTIVE_SCAN
from vimdeploy.ops.function_body import function_protos
from vimdeploy.ops.torch_ops import (
    bidirectional_conv1d,
    bidirectional_selective_scan,
    causal_conv1d,
    observed,
    plain_loops,
    selective_scan,
    selective_scan_with_state,
)

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


@pytest.fixture
def loops():
    with plain_loops():
        yield


@pytest.mark.usefixtures("loops")
class TestCausalConv1d:
    @pytest.mark.parametrize("silu", [True, False])
    @pytest.mark.parametrize("reverse", REVERSE)
    def test_of_the_first_channels(self, reverse, silu):
        x, weight, bias = conv1d_inputs(len(reverse))
        found = causal_conv1d(*torched([x, weight, bias]), reverse=reverse, silu=silu)
        assert_near(found, oracle.causal_conv1d(x, weight, bias, reverse, silu))

    def test_is_the_bidirectional_one_if_there_is_z(self):
        inputs = torched(conv1d_inputs())
        assert torch.equal(causal_conv1d(*inputs, reverse=(0, 1)), bidirectional_conv1d(*inputs, (0, 1)))

    def test_all_channels(self):
        x, weight, bias = conv1d_inputs(directions=1)
        x = x[..., :5]
        found = causal_conv1d(*torched([x, weight, bias]), silu=False)
        assert_near(found, oracle.causal_conv1d(x, weight, bias, (0,), silu=False))


@pytest.mark.usefixtures("loops")
class TestSelectiveScanOfGroups:
    @pytest.mark.parametrize("delta_softplus", [True, False])
    @pytest.mark.parametrize("rank", [0, 2])
    @pytest.mark.parametrize("reverse", [(0,), (1,), (0, 1, 0, 1), (1, 1, 0)])
    def test_groups(self, reverse, rank, delta_softplus):
        inputs = group_inputs(G=len(reverse), R=rank)
        flags = {"reverse": reverse, "delta_softplus": delta_softplus}
        y, state = selective_scan_with_state(**torched(inputs), **flags)
        wanted_y, wanted_state = oracle.selective_scan(**inputs, **flags)
        assert_near(y, wanted_y)
        assert_near(state, wanted_state)
        assert torch.equal(selective_scan(**torched(inputs), **flags), y)

    @pytest.mark.parametrize("L", [1, 2, 13, 500])
    @pytest.mark.parametrize("N", [1, 3, 8, 16, 64])
    def test_sizes(self, L, N):
        inputs = group_inputs(B=1, L=L, E=3, N=N)
        flags = {"reverse": (0, 1), "delta_softplus": True}
        assert_near(selective_scan(**torched(inputs), **flags), oracle.selective_scan(**inputs, **flags)[0])

    @pytest.mark.parametrize("shift", [-100.0, -20.0, 19.0, 20.0, 21.0, 90.0])
    def test_step_sizes_around_the_threshold_and_beyond(self, shift):
        inputs = group_inputs()
        inputs["delta_bias"] += shift
        flags = {"reverse": (0, 1), "delta_softplus": True}
        scale = max(1.0, abs(shift))
        found, (wanted, _) = selective_scan(**torched(inputs), **flags), oracle.selective_scan(**inputs, **flags)
        assert_near(found / scale, wanted / scale)

    def test_two_groups_gated_and_summed_are_the_fused_operator(self):
        u, xz, dt_bc, dt_weight, dt_bias, A, D = torched(scan_inputs())
        wanted = bidirectional_selective_scan(u, xz, dt_bc, dt_weight, dt_bias, A, D, (0, 1), 0.5)
        u, delta, B, C = (t.transpose(0, 1) for t in (u, *dt_bc.split([2, 3, 3], dim=-1)))
        y = selective_scan(u, delta, A, B, C, D, dt_bias, delta_weight=dt_weight, reverse=(0, 1))
        z = xz[..., 5:]
        torch.testing.assert_close(0.5 * nn.functional.silu(z) * y.sum(1), wanted)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_types_round_the_result_alone(self, dtype):
        inputs = torched(group_inputs(R=2), dtype)
        wanted = selective_scan(**{name: tensor.float() for name, tensor in inputs.items()}, reverse=(0, 1))
        assert torch.equal(selective_scan(**inputs, reverse=(0, 1)), wanted.to(dtype))

    def test_autocast_changes_nothing(self):
        inputs, (x, weight, bias) = torched(group_inputs(R=2)), torched(conv1d_inputs())
        y, u = selective_scan(**inputs, reverse=(0, 1)), causal_conv1d(x, weight, bias, reverse=(0, 1))
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(selective_scan(**inputs, reverse=(0, 1)), y)
            assert torch.equal(causal_conv1d(x, weight, bias, reverse=(0, 1)), u)


class TestRefusals:
    """What contradicts itself is said, before a kernel reads behind the end of a tensor."""

    @pytest.mark.parametrize(
        ("name", "change", "message"),
        [
            ("u", torch.Tensor.double, r"SelectiveScan takes float32, float16, bfloat16, found u in float64"),
            ("delta", torch.Tensor.half, r"delta must be \(B, G, L, E\) in float32 on cpu, found float16 on cpu"),
            ("A", torch.Tensor.half, r"A must be \(G, E, N\) in float32 on cpu, found float16"),
            ("A", lambda t: t.to(torch.complex64), r"A must be .* found complex64"),
            ("C", lambda t: t.to("meta"), r"C must be .* on cpu, found float32 on meta"),
            ("B", lambda t: t[..., :2], r"B must be \(B, G, L, N\); N is 2 here and 3 by A"),
            ("delta", lambda t: t[:, :, 1:], r"delta must be \(B, G, L, E\); L is 6 here and 7 by u"),
            ("delta", lambda t: t[..., :0], r"delta must be \(B, G, L, E\); E is 0 here, it must be 1 or more"),
            ("D", lambda t: t[0], r"D must be \(G, E\), found 1 dimensions"),
            ("u", lambda t: t[:, :1], r"u must be \(B, G, L, E\); G is 1 here and 2 by reverse"),
        ],
    )
    def test_of_a_scan(self, name, change, message):
        inputs = torched(group_inputs())
        inputs[name] = change(inputs[name])
        with pytest.raises(ConfigError, match=message):
            selective_scan(**inputs, reverse=(0, 1))

    def test_of_another_rank_than_the_weight_s(self):
        inputs = torched(group_inputs(R=2))
        inputs["delta"] = inputs["delta"][..., :1]
        with pytest.raises(
            ConfigError, match=r"LowRankSelectiveScan: delta_weight must be .*; R is 2 here and 1 by delta"
        ):
            selective_scan(**inputs, reverse=(0, 1))

    def test_of_flags(self):
        with pytest.raises(ConfigError, match=r"reverse must be flags of 0 and 1, found \[0, 2\]"):
            selective_scan(**torched(group_inputs()), reverse=(0, 2))

    def test_of_too_few_channels(self):
        x, weight, bias = torched(conv1d_inputs())
        with pytest.raises(ConfigError, match="x must have E = 5 channels or more, found 4"):
            causal_conv1d(x[..., :4], weight, bias, reverse=(0, 1))


class Model(nn.Module):
    """One call of each kind."""

    def forward(self, x, weight, bias, **inputs):
        u = causal_conv1d(x, weight, bias, reverse=(0, 1), silu=False)  # (2, B, L, E)
        low_rank = inputs["delta"][..., :2]
        y = selective_scan(**inputs, reverse=(0, 1), delta_softplus=False)
        weight = inputs["A"][..., :2]
        y = selective_scan(**inputs | {"u": y, "delta": low_rank}, delta_weight=weight, reverse=(1, 0))
        return u.transpose(0, 1) + y


class TestExport:
    def test_each_call_is_one_node(self):
        inputs, named = tuple(torched(conv1d_inputs())), torched(group_inputs())
        model = torch.onnx.export(Model().eval(), inputs, kwargs=named, dynamo=True, verbose=False).model_proto
        nodes = {node.op_type: node for node in model.graph.node if node.domain == DOMAIN}
        assert list(nodes) == [CAUSAL_CONV1D.name, SELECTIVE_SCAN.name, LOW_RANK_SCAN.name]
        flags = {
            op: {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute if "plugin" not in a.name}
            for op, node in nodes.items()
        }
        assert flags == {
            CAUSAL_CONV1D.name: {"reverse": [0, 1], "silu": 0},
            SELECTIVE_SCAN.name: {"reverse": [0, 1], "delta_softplus": 0},
            LOW_RANK_SCAN.name: {"reverse": [1, 0], "delta_softplus": 1},
        }
        [opset] = [entry.version for entry in model.opset_import if not entry.domain]
        model.functions.extend(f for f in function_protos(opset) if f.name in nodes)
        onnx.checker.check_model(model, full_check=True)

    def test_a_state_cannot_be_exported(self):
        class WithState(nn.Module):
            def forward(self, **inputs):
                return selective_scan_with_state(**inputs, reverse=(0, 1))[1]

        with pytest.raises(Exception, match="export it without return_last_state") as raised:
            torch.onnx.export(WithState().eval(), kwargs=torched(group_inputs()), dynamo=True, verbose=False)
        assert isinstance(raised.value.__cause__, ConfigError)


class TestObserved:
    def test_counts_the_calls_of_each_block_and_takes_what_it_is_given(self):
        scan, convolution = torched(group_inputs()), torched(conv1d_inputs())
        calls = []

        def zero_the_second(number, result):
            calls.append((number, tuple(result.shape)))
            return torch.zeros_like(result) if number == 1 else result

        for _ in range(2):
            with observed(zero_the_second):
                first = causal_conv1d(*convolution, reverse=(0, 1))
                second = selective_scan(**scan, reverse=(0, 1))
                third, state = selective_scan_with_state(**scan, reverse=(0, 1))
            assert [bool(t.any()) for t in (first, second, third, state)] == [True, False, True, True]
        assert calls == [(0, (2, 2, 7, 5)), (1, (2, 2, 7, 5)), (2, (2, 2, 7, 5))] * 2
        assert selective_scan(**scan, reverse=(0, 1)).any()

    def test_ends_with_its_block_though_that_fails(self):
        with pytest.raises(ZeroDivisionError), observed(lambda number, result: 1 / 0):
            selective_scan(**torched(group_inputs()), reverse=(0, 1))
        assert selective_scan(**torched(group_inputs()), reverse=(0, 1)).any()

    def test_other_threads_are_not_observed(self):
        inputs = torched(group_inputs())
        with ThreadPoolExecutor(1) as pool, observed(lambda number, result: None):
            assert pool.submit(selective_scan, **inputs, reverse=(0, 1)).result() is not None
            assert selective_scan(**inputs, reverse=(0, 1)) is None


class TestGradients:
    """Small models are trained with these operators."""

    def test_of_the_convolution_against_differences(self):
        inputs = [tensor.requires_grad_() for tensor in torched(conv1d_inputs(batch=1, length=4, channels=2))]
        check_gradients(lambda *values: bidirectional_conv1d(*values, (0, 1)), inputs)

    def test_of_the_scan_against_differences(self):
        inputs = [tensor.requires_grad_() for tensor in torched(scan_inputs(batch=1, length=4, channels=2))]
        check_gradients(lambda *values: bidirectional_selective_scan(*values, (0, 1), 0.5), inputs)

    @pytest.mark.parametrize("rank", [0, 2])
    def test_of_the_scan_of_groups_against_differences(self, rank):
        inputs = torched(group_inputs(B=1, L=4, E=2, R=rank))
        values = [tensor.requires_grad_() for tensor in inputs.values()]
        check_gradients(
            lambda *values: selective_scan(**dict(zip(inputs, values, strict=True)), reverse=(0, 1)), values
        )


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
