"""A mixer of Vision Mamba in foreign code -> our two fused operators.

    x, z = Split(xz)                                     per direction (one, or two of which one is reversed):
    u = CausalConv1d(x)                                  u = BidirectionalConv1d(xz)             # (K, B, L, E)
    low, B, C = Split(MatMul(u, W))               ->     dt_bc = MatMul(u, W)                    # one for all
    y = LowRankSelectiveScan(u, low, A, B, C, ...)       y = BidirectionalSelectiveScan(u, xz, dt_bc, ..., scale)
    (y * SiLU(z) + that of the other direction) * 0.5

Both directions are then computed at once, and neither the gate, nor the sum, nor the pieces of the products are
written.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from vimdeploy.graphs.passes.editor import (
    Editor,
    UnknownShapeError,
    attribute,
    constant_of,
    dims,
    only_reader,
    rows_of,
    slice_steps,
)
from vimdeploy.ops.contract import BIDIRECTIONAL_CONV1D, BIDIRECTIONAL_SCAN, CAUSAL_CONV1D, LOW_RANK_SCAN


@dataclass(frozen=True)
class _Piece:
    """A part of a value along its last axis."""

    whole: ir.Value
    start: int
    stop: int


@dataclass(frozen=True)
class _Direction:
    """A scan, what leads to it, and the gate behind it."""

    conv: ir.Node
    scan: ir.Node
    xz: ir.Value
    reverse: int
    weights: dict[str, np.ndarray]


class _OtherError(Exception):
    """It is no mixer."""


def mixers_to_operators(edit: Editor) -> None:
    """Let the two fused operators compute the mixers, of two directions first."""
    for gated_scans in (_sum_of_gated, _gated_sum, _gated_one):
        for node in list(edit.graph):
            if node.domain or node.op_type not in ("Add", "Mul") or not _is_of_one_shape(node):
                continue
            try:
                directions = [_direction(y, z) for y, z in gated_scans(node)]
                _fuse(edit, node, directions)
            except (_OtherError, UnknownShapeError):
                continue


def _is_of_one_shape(node: ir.Node) -> bool:
    """Whether a sum or a product broadcasts nothing."""
    shapes = [value.shape for value in (*node.inputs, *node.outputs) if value is not None]
    return len(shapes) == 3 and None not in shapes and shapes[0] == shapes[1] == shapes[2]


def _sum_of_gated(node: ir.Node) -> list[tuple[ir.Value, ir.Value]]:
    """The scans and gates of y0 * SiLU(z) + y1 * SiLU(z)."""
    _require(node.op_type == "Add")
    return [_gated(_producer(value, "Mul")) for value in node.inputs]


def _gated_sum(node: ir.Node) -> list[tuple[ir.Value, ir.Value]]:
    """The scans and gates of (y0 + y1) * SiLU(z)."""
    [(y, z)] = _gated_one(node)
    return [(value, z) for value in _values(_producer(y, "Add"))]


def _gated_one(node: ir.Node) -> list[tuple[ir.Value, ir.Value]]:
    """The scan and the gate of y * SiLU(z)."""
    _require(node.op_type == "Mul")
    return [_gated(node)]


def _gated(product: ir.Node) -> tuple[ir.Value, ir.Value]:
    """y and z of y * SiLU(z)."""
    for y, silu in (_values(product), _values(product)[::-1]):
        try:
            z, gate = _values(_producer(silu, "Mul"))
        except _OtherError:
            continue
        for value, sigmoid in ((z, gate), (gate, z)):
            node = sigmoid.producer()
            if node is not None and node.op_type == "Sigmoid" and node.inputs[0] is value:
                return y, value
    raise _OtherError


def _values(node: ir.Node) -> list[ir.Value]:
    return [value for value in node.inputs if value is not None]


def _producer(value: ir.Value | None, operator: str) -> ir.Node:
    """The node of this operator that gives a value, maybe in another shape."""
    node = rows_of(value).producer() if value is not None else None
    if node is None or node.op_type != operator:
        raise _OtherError
    return node


def _require(condition: object) -> None:
    if not condition:
        raise _OtherError


def _constant(value: ir.Value | None) -> np.ndarray:
    constant = constant_of(value)
    if constant is None:
        raise _OtherError
    return constant


def _direction(y: ir.Value, z: ir.Value) -> _Direction:
    scan = _producer(y, LOW_RANK_SCAN.name)
    u, low_rank, a, b, c, d, delta_bias, delta_weight = _values(scan)
    conv = _producer(u, CAUSAL_CONV1D.name)
    x, taps, bias = conv.inputs
    reverse = attribute(scan, "reverse")
    _require(len(reverse) == 1 and reverse == attribute(conv, "reverse"))
    _require(attribute(conv, "silu") and attribute(scan, "delta_softplus"))
    _require(len(list(scan.outputs[0].uses())) == 1)

    channels, rank, states = (array.shape[-1] for array in map(_constant, (d, delta_weight, a)))
    xz = _piece(x).whole
    _require(_piece(x).start == 0 and dims(xz)[-1] == 2 * channels)
    _require(_piece(z) == _Piece(xz, channels, 2 * channels))
    dt_bc, ends = _piece(low_rank).whole, np.cumsum([0, rank, states, states]).tolist()
    wanted = [_Piece(dt_bc, start, stop) for start, stop in itertools.pairwise(ends)]
    _require([_piece(low_rank), _piece(b), _piece(c)] == wanted and dims(dt_bc)[-1] == ends[-1])
    weights = {
        "taps": _constant(taps),
        "bias": _constant(bias),
        "x_proj": _product_with(dt_bc, conv.outputs[0])[None],
        "dt_weight": _constant(delta_weight),
        "dt_bias": _constant(delta_bias),
        "A": _constant(a),
        "D": _constant(d),
    }
    return _Direction(conv, scan, xz, reverse[0], weights)


def _piece(value: ir.Value | None) -> _Piece:
    """What a value is a piece of, all of itself if of nothing else."""
    if value is None or value.shape is None:
        raise _OtherError
    value = rows_of(value)
    length, node = dims(value)[-1], value.producer()
    if not isinstance(length, int):
        raise _OtherError
    start = _start_of_piece(value, node)
    if start is None or node is None or node.inputs[0] is None:
        return _Piece(value, 0, length)
    return _Piece(rows_of(node.inputs[0]), start, start + length)


def _start_of_piece(value: ir.Value, node: ir.Node | None) -> int | None:
    """Where a piece along the last axis begins; None if the value is none."""
    if node is None or node.domain:
        return None
    last = len(dims(value)) - 1
    if node.op_type == "Split" and attribute(node, "axis", 0) % (last + 1) == last:
        lengths = [dims(output)[last] for output in node.outputs[: list(node.outputs).index(value)]]
        return sum(length for length in lengths if isinstance(length, int))
    axis, start, _, step = slice_steps(node) or (-1, 0, 0, 0)
    whole = dims(node.inputs[0])[last] if axis == last and node.inputs[0] is not None else None
    return range(whole)[start:].start if isinstance(whole, int) and step == 1 else None


def _product_with(value: ir.Value, factor: ir.Value) -> np.ndarray:
    """The constant (E, M) with which a value is multiplied, without a bias, to give another."""
    node = rows_of(value).producer()
    _require(node is not None and node.op_type in ("MatMul", "Gemm"))
    assert node is not None
    x, weight, *rest = _values(node)
    _require(rows_of(x) is rows_of(factor) and not rest and attribute(node, "alpha", 1.0) == 1)
    _require(not attribute(node, "transA", 0) and _constant(weight).ndim == 2)
    return _constant(weight).T if attribute(node, "transB", 0) else _constant(weight)


def _fuse(edit: Editor, node: ir.Node, directions: Sequence[_Direction]) -> None:
    [first, *rest] = directions
    for other in rest:
        _require(other.xz is first.xz)
        _require(all(other.weights[name].shape == array.shape for name, array in first.weights.items()))
    weights = {
        name: edit.constant(np.concatenate([direction.weights[name] for direction in directions]))
        for name in first.weights
        if name != "x_proj"
    }
    products = np.stack([direction.weights["x_proj"] for direction in directions])  # (K, 1, E, R + 2N)
    count, (*_, channels, columns) = len(directions), products.shape
    batch, _, length, _ = dims(first.scan.outputs[0])
    reverse = [direction.reverse for direction in directions]

    place = edit.before(node, like=first.scan)
    xz = place.reshaped(first.xz, [batch, length, 2 * channels])
    shape = (count, batch, length, channels)
    u = place.like(first.conv).operator(
        BIDIRECTIONAL_CONV1D.name, (xz, weights["taps"], weights["bias"]), {"reverse": reverse}, shape
    )
    factor = edit.constant(products if rest else products[0, 0])  # int8 wants one of two axes
    dt_bc = place.node("MatMul", [u, factor], shape=[*shape[:3], columns])
    result, scale = _scaled(node.outputs[0])
    inputs = (u, xz, dt_bc, *(weights[name] for name in ("dt_weight", "dt_bias", "A", "D")))
    y = place.operator(BIDIRECTIONAL_SCAN.name, inputs, {"reverse": reverse, "scale": scale}, shape[1:])
    edit.replace(result, place.reshaped(y, dims(result)))


def _scaled(value: ir.Value) -> tuple[ir.Value, float]:
    """A value times a constant, if that is all that is read of it, and the constant; else the value, and 1."""
    node = only_reader(value)
    if node is not None and node.op_type in ("Mul", "Div") and not node.domain:
        constants = [constant for other in node.inputs if (constant := constant_of(other)) is not None]
        if len(constants) == 1 and constants[0].size == 1 and (node.op_type == "Mul" or node.inputs[0] is value):
            factor = float(constants[0].item())
            return node.outputs[0], factor if node.op_type == "Mul" else 1 / factor
    return value, 1.0
