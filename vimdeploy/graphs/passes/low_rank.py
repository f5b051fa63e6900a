"""A linear map to the step sizes -> LowRankSelectiveScan.

    delta = MatMul(low, W)               # (B, G, L, R) @ (G, R, E), or (R, E) for all groups
    delta = MatMul(low, W) + b    ->     y = LowRankSelectiveScan(u, low, A, B, C, D, delta_bias + b, W^T)
    y = SelectiveScan(u, delta, A, B, C, D, delta_bias)

The step sizes, which are as large as u, are then never written. A bias that is added twice, here and as delta_bias,
counts twice.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from vimdeploy.graphs.passes.editor import (
    RESHAPES,
    Editor,
    UnknownShapeError,
    attribute,
    constant_of,
    dims,
    only_reader,
    same,
)
from vimdeploy.ops.contract import DOMAIN, LOW_RANK_SCAN, SELECTIVE_SCAN


def linear_into_scan(edit: Editor) -> None:
    """Let a scan compute its step sizes from their low rank."""
    for node in list(edit.graph):
        if (node.domain, node.op_type) != (DOMAIN, SELECTIVE_SCAN.name):
            continue
        u, delta, a, b, c, d, delta_bias = (value for value in node.inputs if value is not None)
        found, given = _linear(delta, node), constant_of(delta_bias)
        if found is None or given is None or not all(isinstance(dim, int) for dim in dims(u)[1::2]):
            continue
        low_rank, weight, bias = found
        groups, (rank, channels) = len(given), weight.shape[-2:]
        place = edit.before(node)
        if rank >= channels or weight.shape[:-2] not in ((), (1,), (groups,)):
            continue
        try:
            low_rank = place.reshaped(low_rank, [*dims(u)[:3], rank])
        except UnknownShapeError:
            continue
        weights = np.broadcast_to(weight.swapaxes(-1, -2), (groups, channels, rank))
        inputs = (u, low_rank, a, b, c, d, edit.constant(given + bias.astype(given.dtype)), edit.constant(weights))
        attributes = {name: attribute(node, name) for name in ("reverse", "delta_softplus")}
        edit.replace(node.outputs[0], place.operator(LOW_RANK_SCAN.name, inputs, attributes, dims(u)))


def _linear(delta: ir.Value, scan: ir.Node) -> tuple[ir.Value, np.ndarray, np.ndarray] | None:
    """What a linear map takes, its weight (..., R, E) and its bias (E,) or (G, E), if nobody else reads the result."""
    bias, reader = np.zeros(1), scan
    while (node := delta.producer()) is not None and only_reader(delta) is reader:
        reader = node
        added = [constant for value in node.inputs if (constant := constant_of(value)) is not None]
        given = [value for value in node.inputs if value is not None and constant_of(value) is None]
        if node.op_type in RESHAPES and same(dims(given[0])[-1], dims(delta)[-1]):
            delta = given[0]
        elif node.op_type == "Add" and len(added) == 1 and (own := _bias(added[0])) is not None:
            bias, delta = bias + own, given[0]
        elif node.op_type == "MatMul" and constant_of(node.inputs[1]) is not None and added[0].ndim in (2, 3):
            return given[0], added[0], bias
        elif node.op_type == "Gemm" and constant_of(node.inputs[1]) is not None and _is_plain(node, len(added)):
            weight = added[0].T if attribute(node, "transB", 0) else added[0]
            return given[0], weight, bias + (added[1].reshape(-1) if len(added) > 1 else 0)
        else:
            return None
    return None


def _bias(constant: np.ndarray) -> np.ndarray | None:
    """A constant that is added to (B, G, L, E) or (B, L, E) as (E,) or (G, E), if it is the same for all tokens."""
    if constant.ndim >= 3 and constant.shape[-2] == 1 and constant.size == constant.shape[-3] * constant.shape[-1]:
        return constant.reshape(-1, constant.shape[-1])
    return constant.reshape(-1) if constant.ndim and constant.size == constant.shape[-1] else None


def _is_plain(node: ir.Node, constants: int) -> bool:
    inputs = [value for value in node.inputs if value is not None]
    scales = (attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0))
    return scales == (1.0, 1.0) and not attribute(node, "transA", 0) and constants == len(inputs) - 1
