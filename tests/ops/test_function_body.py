"""The function bodies, run by ONNX Runtime and others without our library, against the loop in PyTorch."""

import json
from functools import cache
from math import ceil, prod

import numpy as np
import onnx.checker
import onnx.inliner
import onnxruntime
import pytest
import torch
from helpers import oracle
from helpers.one_node import OPSET, model_of
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

from vimdeploy.exporters.tensorrt_network import parsed_network
from vimdeploy.flavors import collecting_logger
from vimdeploy.ops.contract import (
    BIDIRECTIONAL_CONV1D,
    BIDIRECTIONAL_SCAN,
    CAUSAL_CONV1D,
    DOMAIN,
    LOW_RANK_SCAN,
    OPERATORS,
    SELECTIVE_SCAN,
)
from vimdeploy.ops.function_body import CHUNKS, CONV1D_ROWS, function_protos
from vimdeploy.ops.torch_ops import (
    bidirectional_conv1d,
    bidirectional_selective_scan,
    causal_conv1d,
    plain_loops,
    selective_scan,
)

REFERENCE = {
    BIDIRECTIONAL_CONV1D: bidirectional_conv1d,
    BIDIRECTIONAL_SCAN: bidirectional_selective_scan,
    CAUSAL_CONV1D: causal_conv1d,
    SELECTIVE_SCAN: selective_scan,
    LOW_RANK_SCAN: selective_scan,
}
TYPES = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.BFLOAT16: torch.bfloat16,
}

EACH = pytest.mark.parametrize("op", OPERATORS, ids=lambda op: op.name)
SIZES = (1, 10), (1, 60), (2, 200)
"""The least, the usual and the largest batch and length of an engine."""
NEWEST_OPSET = 26
"""The newest opset of ONNX Runtime 1.31."""


@cache
def session_of(op, type_=TensorProto.FLOAT, opset=OPSET, **attributes):
    model = model_of(op, type_, opset=opset, **attributes)
    return onnxruntime.InferenceSession(model.SerializeToString(), _options(), providers=["CPUExecutionProvider"])


def _options():
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return options


def arrays_of(op, *, B=1, L=5, K=2, E=13, N=16, R=3, W=4, type_=torch.float32, seed=0):
    """Inputs in the range of a trained model's, as torch tensors: dt between 1e-3 and a few, A = -1 ... -N."""
    generator = torch.Generator().manual_seed(seed)
    sizes = {"B": B, "L": L, "K": K, "G": K, "E": E, "N": N, "R": R, "W": W, "X": E + 3}
    sizes |= {"2E": 2 * E, "R+2N": R + 2 * N}

    def values(value):
        x = torch.randn([sizes[size] for size in value.dims], generator=generator)
        x = x - 3 if value.name in ("dt_bias", "delta_bias") else x
        x = -torch.arange(1.0, N + 1) * (0.1 * x).exp() if value.name == "A" else x
        return x.to(type_) if value.type == "T" else x

    return {value.name: values(value) for value in op.inputs}


def expected(op, arrays, reverse=(0, 1), **attributes):
    values = {"scale": 0.5, "silu": 1, "delta_softplus": 1} | attributes
    flags = {a.name: values[a.name] for a in op.attributes if a.name in values}
    with plain_loops():
        return REFERENCE[op](**arrays, reverse=reverse, **flags)


def run(session, arrays):
    """The session's output; through OrtValues, for numpy has no bfloat16."""
    element = {torch_type: onnx_type for onnx_type, torch_type in TYPES.items()}
    binding = session.io_binding()
    for name, x in arrays.items():
        x = x.contiguous()
        binding.bind_input(name, "cpu", 0, element[x.dtype], list(x.shape), x.data_ptr())
    [output] = session.get_outputs()
    binding.bind_output(output.name, "cpu")
    session.run_with_iobinding(binding)
    value = binding.get_outputs()[0]
    if value.data_type() == "tensor(bfloat16)":
        import ctypes

        raw = (ctypes.c_int16 * prod(value.shape())).from_address(value.data_ptr())
        return torch.frombuffer(bytearray(raw), dtype=torch.bfloat16).reshape(value.shape())
    return torch.from_numpy(value.numpy())


def assert_close(actual, wanted, length):
    """Equal up to the float32 arithmetic's roundings and the storage of the result.

    A state sums up to L terms and passes a few roundings a token, all damped and of either sign: they grow like the
    square root of L, 2^-24 of the largest value each. Both sides then round once to T: one unit of T apart.
    """
    assert actual.dtype == wanted.dtype
    assert actual.shape == wanted.shape
    unit_of_type = 0.0 if wanted.dtype == torch.float32 else torch.finfo(wanted.dtype).eps
    actual, wanted = actual.float(), wanted.float()
    tolerance = 2.0**-24 * (8 + length**0.5) * wanted.abs().max() + unit_of_type * wanted.abs()
    excess = (actual - wanted).abs() - tolerance
    worst = np.unravel_index(int(excess.argmax()), wanted.shape)
    assert excess.max() <= 0, f"worst at {worst}: {actual[worst]:.8g}, wanted {wanted[worst]:.8g}"


# -- what it computes


@EACH
@pytest.mark.parametrize("type_", TYPES, ids=lambda t: str(TYPES[t]))
@pytest.mark.parametrize("length", [1, 2, CHUNKS - 1, CHUNKS, CHUNKS + 1, 15, 16, 17, CONV1D_ROWS + 1, 197])
def test_every_length_and_type(op, type_, length):
    arrays = arrays_of(op, B=2, L=length, type_=TYPES[type_])
    assert_close(run(session_of(op, type_), arrays), expected(op, arrays), length)


@EACH
@pytest.mark.parametrize(
    "sizes",
    [
        {"E": 1, "N": 1, "R": 1, "W": 1},
        {"E": 1, "N": 16, "R": 12, "W": 2},
        {"E": 13, "N": 1, "R": 1, "W": 3},
        {"E": 384, "N": 16, "R": 12, "W": 4},
        {"E": 5, "N": 64, "R": 7, "W": 9},
    ],
    ids=str,
)
@pytest.mark.parametrize("batch", [1, 3])
def test_every_size_by_one_model(op, sizes, batch):
    arrays = arrays_of(op, B=batch, L=37, **sizes)
    assert_close(run(session_of(op), arrays), expected(op, arrays), 37)


@EACH
@pytest.mark.parametrize("reverse", [(0,), (1,), (1, 0), (1, 1), (0, 1, 1), (1, 0, 1)])
def test_every_pattern_of_directions(op, reverse):
    arrays = arrays_of(op, B=2, L=29, K=len(reverse))
    actual = run(session_of(op, reverse=reverse), arrays)
    assert_close(actual, expected(op, arrays, reverse), 29)
    turned = expected(op, arrays, [1 - r for r in reverse])
    assert (actual - turned).abs().max() > 0.1


@pytest.mark.parametrize("op", [SELECTIVE_SCAN, LOW_RANK_SCAN], ids=lambda op: op.name)
@pytest.mark.parametrize("type_", TYPES, ids=lambda t: str(TYPES[t]))
@pytest.mark.parametrize("delta_softplus", [0, 1])
@pytest.mark.parametrize(("L", "N"), [(1, 16), (1, 1), (2, 8), (13, 3), (13, 64), (500, 1), (500, 16)])
def test_scans_of_groups_are_the_oracle_s(op, type_, delta_softplus, L, N):
    flags = {"reverse": (0, 1, 1, 0), "delta_softplus": delta_softplus}
    arrays = arrays_of(op, B=1, L=L, K=4, E=6, N=N, type_=TYPES[type_])
    if not delta_softplus:
        arrays |= {name: x.abs() for name, x in arrays.items() if name.startswith("delta")}
    y, _ = oracle.selective_scan(**{name: x.double().numpy() for name, x in arrays.items()}, **flags)
    assert_close(run(session_of(op, type_, **flags), arrays), torch.from_numpy(y).to(TYPES[type_]), L)


@pytest.mark.parametrize("type_", TYPES, ids=lambda t: str(TYPES[t]))
@pytest.mark.parametrize("silu", [0, 1])
def test_a_convolution_with_and_without_silu_is_the_oracle_s(type_, silu):
    arrays = arrays_of(CAUSAL_CONV1D, B=2, L=50, K=3, type_=TYPES[type_])
    flags = {"reverse": (0, 1, 0), "silu": silu}
    u = oracle.causal_conv1d(*(x.double().numpy() for x in arrays.values()), **flags)
    assert_close(run(session_of(CAUSAL_CONV1D, type_, **flags), arrays), torch.from_numpy(u).to(TYPES[type_]), 50)


def test_scale_is_read_from_the_node():
    arrays = arrays_of(BIDIRECTIONAL_SCAN)
    options, providers = _options(), ["CPUExecutionProvider"]
    model = model_of(BIDIRECTIONAL_SCAN, scale=3.0).SerializeToString()
    actual = run(onnxruntime.InferenceSession(model, options, providers=providers), arrays)
    assert_close(actual, expected(BIDIRECTIONAL_SCAN, arrays, scale=3.0), 5)


# -- numerics


def test_step_size_is_accurate_from_tiny_to_huge():
    x = torch.tensor([-87, -80, -50, -30, -20, -16, -9, -4, -1, -1e-3, 0, 1e-3, 1, 4, 9, 19.9, 20.1, 88, 1e4, 1e30])
    E = len(x)
    one = torch.ones(1, 1, 1, E)
    arrays = {
        "u": one,
        "xz": torch.full((1, 1, 2 * E), 100.0),  # silu(100) = 100
        "dt_bc": torch.tensor([0.0, 1.0, 1.0]).reshape(1, 1, 1, 3),
        "dt_weight": torch.zeros(1, E, 1),
        "dt_bias": x[None],
        "A": -torch.ones(1, E, 1),
        "D": torch.zeros(1, E),
    }
    dt = run(session_of(BIDIRECTIONAL_SCAN, reverse=(0,)), arrays).double().flatten() / (0.5 * 100)
    wanted = torch.logaddexp(x.double(), torch.zeros(E).double())
    assert ((dt - wanted) / wanted).abs().max() <= 8 * 2.0**-24  # six roundings, exp's own error twice


@pytest.mark.parametrize("dt_bias", [-60.0, -12.0, 10.0, 1e4])
@pytest.mark.parametrize("length", [17, 197])
def test_extreme_step_sizes(dt_bias, length):
    arrays = arrays_of(BIDIRECTIONAL_SCAN, L=length)
    arrays["dt_bias"] = torch.full_like(arrays["dt_bias"], dt_bias)
    arrays["D"] = torch.zeros_like(arrays["D"])
    actual = run(session_of(BIDIRECTIONAL_SCAN), arrays)
    assert actual.isfinite().all()
    assert_close(actual, expected(BIDIRECTIONAL_SCAN, arrays), length)


def test_step_sizes_that_jump_between_extremes():
    arrays = arrays_of(BIDIRECTIONAL_SCAN, L=197, R=1)
    arrays["dt_weight"] = torch.ones_like(arrays["dt_weight"])
    arrays["dt_bc"][..., 0] = torch.where(torch.arange(197) % 3 == 0, 50.0, -20.0)
    assert_close(run(session_of(BIDIRECTIONAL_SCAN), arrays), expected(BIDIRECTIONAL_SCAN, arrays), 197)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_wrong_number_reaches_only_what_depends_on_it(wrong):
    arrays = arrays_of(BIDIRECTIONAL_SCAN, B=2, L=40, K=1)
    clean = run(session_of(BIDIRECTIONAL_SCAN, reverse=(0,)), arrays)
    arrays["u"][0, 1, 25, 3] = wrong
    y = run(session_of(BIDIRECTIONAL_SCAN, reverse=(0,)), arrays)
    assert not y[1, 25:, 3].isfinite().any()
    y[1, 25:, 3] = clean[1, 25:, 3]
    assert torch.equal(y, clean)

    arrays = arrays_of(BIDIRECTIONAL_CONV1D, B=2, L=40, K=1)
    clean = run(session_of(BIDIRECTIONAL_CONV1D, reverse=(0,)), arrays)
    arrays["xz"][1, 25, 3] = wrong
    u = run(session_of(BIDIRECTIONAL_CONV1D, reverse=(0,)), arrays)
    assert torch.equal(u[0, 0], clean[0, 0])
    assert torch.equal(u[0, 1, :25], clean[0, 1, :25])
    assert torch.equal(u[0, 1, 29:], clean[0, 1, 29:])


# -- how it is written


@EACH
def test_function_takes_what_the_contract_says(op):
    [function] = [f for f in function_protos(OPSET) if f.name == op.name]
    assert function.domain == DOMAIN
    assert list(function.input) == [f"{op.name}_{value.name}" for value in op.inputs]
    assert len(function.output) == 1
    assert list(function.attribute) == [a.name for a in op.attributes if a.default is None]
    assert {a.name: a.s.decode() for a in function.attribute_proto} == {
        a.name: a.default for a in op.attributes if a.default is not None
    }


def test_names_are_unique_over_all_functions_and_their_scans():
    def made(nodes):
        for node in nodes:
            yield from node.output
            for attribute in node.attribute:
                yield from (value.name for value in attribute.g.input)
                yield from made(attribute.g.node)

    names = [name for f in function_protos(OPSET) for name in (*f.input, *made(f.node))]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("function", function_protos(OPSET), ids=lambda f: f.name)
def test_scans_have_a_state_and_read_nothing_from_outside(function):
    scans = [node for node in function.node if node.op_type == "Scan"]
    assert scans
    for scan in scans:
        attributes = {a.name: a for a in scan.attribute}
        assert len(scan.input) > attributes["num_scan_inputs"].i, "no state: TensorRT's parser refuses it"
        body = attributes["body"].g
        made = {value.name for value in body.input} | {name for node in body.node for name in node.output}
        assert {name for node in body.node for name in node.input} <= made


def profile(op, arrays, path):
    """ONNX Runtime's account of one run: {"op_name": ..., "output_type_shape": ...} of each node that ran."""
    options = _options()
    options.enable_profiling = True
    options.profile_file_prefix = str(path)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    model = model_of(op).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    run(session, arrays)
    with open(session.end_profiling()) as file:  # noqa: PTH123
        events = json.load(file)
    return [event["args"] for event in events if event["name"].endswith("_kernel_time")]


def test_steps_are_far_fewer_than_tokens(tmp_path):
    L = 1200
    ran = profile(BIDIRECTIONAL_SCAN, arrays_of(BIDIRECTIONAL_SCAN, L=L), tmp_path / "scan")
    exponentials = sum(node["op_name"] == "Exp" for node in ran)  # one a step, and one for all step sizes
    assert exponentials == 2 * ceil(L / CHUNKS) + CHUNKS + 1
    ran = profile(BIDIRECTIONAL_CONV1D, arrays_of(BIDIRECTIONAL_CONV1D, L=L), tmp_path / "conv1d")
    assert sum(node["op_name"] == "Sigmoid" for node in ran) == ceil(L / CONV1D_ROWS)


def test_no_tensor_holds_the_states_of_all_tokens(tmp_path):
    B, K, L, E, N = 1, 2, 600, 32, 16
    ran = profile(BIDIRECTIONAL_SCAN, arrays_of(BIDIRECTIONAL_SCAN, B=B, L=L, K=K, E=E, N=N), tmp_path / "scan")
    largest = max(prod(shape) for node in ran for output in node["output_type_shape"] for shape in output.values())
    assert largest <= K * B * E * max(L + CHUNKS, N * CHUNKS)


# -- who runs it


@EACH
@pytest.mark.parametrize("opset", range(OPSET, NEWEST_OPSET + 1))
def test_every_opset(op, opset):
    arrays = arrays_of(op, L=29)
    onnx.checker.check_model(model_of(op, opset=opset), full_check=True)
    assert_close(run(session_of(op, opset=opset), arrays), expected(op, arrays), 29)


@EACH
@pytest.mark.parametrize("opset", [OPSET, NEWEST_OPSET])
def test_inlined_by_onnx(op, opset):
    inlined = onnx.inliner.inline_local_functions(model_of(op, opset=opset), convert_version=True)
    assert not inlined.functions
    assert {node.domain for node in inlined.graph.node} == {""}
    onnx.checker.check_model(inlined, full_check=True)
    session = onnxruntime.InferenceSession(inlined.SerializeToString(), providers=["CPUExecutionProvider"])
    arrays = arrays_of(op, B=2, L=29)
    assert_close(run(session, arrays), expected(op, arrays), 29)


@EACH
def test_onnx_reference_evaluator(op):
    arrays = arrays_of(op, B=2, L=14, E=3, N=2)
    feeds = {name: x.numpy() for name, x in arrays.items()}
    [actual] = ReferenceEvaluator(model_of(op)).run(None, feeds)
    assert_close(torch.from_numpy(actual), expected(op, arrays), 14)


@EACH
@pytest.mark.parametrize("type_", [TensorProto.FLOAT, TensorProto.FLOAT16], ids=lambda t: str(TYPES[t]))
def test_tensorrt_rtx_builds_it_for_any_batch_and_length(op, type_):
    trt = pytest.importorskip("tensorrt_rtx")
    letters = {"B": "B", "L": "L", "K": 2, "G": 2, "E": 24, "N": 8, "R": 3, "W": 4, "X": 32, "2E": 48, "R+2N": 19}
    logger = collecting_logger(trt)
    model = model_of(op, type_, sizes=letters, silu=0, delta_softplus=0)
    builder, network, _parser = parsed_network(trt, model, "rtx", logger, {})
    profile = builder.create_optimization_profile()
    for value in op.inputs:
        if "L" in value.dims:
            shapes = (
                [letters[d] if d not in ("B", "L") else {"B": b, "L": n}[d] for d in value.dims] for b, n in SIZES
            )
            profile.set_shape(value.name, *shapes)
    config = builder.create_builder_config()
    config.builder_optimization_level = 0
    config.add_optimization_profile(profile)
    assert builder.build_serialized_network(network, config), logger.reason()
