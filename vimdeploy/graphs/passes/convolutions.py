"""Causal depthwise convolutions of the standard -> CausalConv1d.

Conv(x, pads=[W-1, W-1], group=E)[:, :, :L]   ->   Transpose, CausalConv1d, Transpose     # x (B, E, L)

CausalConv1d, then u * Sigmoid(u)             ->   CausalConv1d with silu=1
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from vimdeploy.graphs.passes.editor import Editor, attribute, constant_of, dims, only_reader, same
from vimdeploy.ops.contract import CAUSAL_CONV1D, DOMAIN


def convolutions_to_operator(edit: Editor) -> None:
    """Let CausalConv1d compute the causal convolutions of a graph that has operators of ours.

    It is faster than Conv, and can run last to first.
    """
    if not any(node.domain == DOMAIN for node in edit.graph):
        return
    for cut in list(edit.graph):
        conv = cut.inputs[0].producer() if cut.op_type == "Slice" and cut.inputs[0] is not None else None
        if conv is None or conv.op_type != "Conv" or only_reader(conv.outputs[0]) is not cut:
            continue
        x, weights = conv.inputs[0], _taps_and_bias(conv)
        if x is None or weights is None or not _is_causal(conv, cut, width=weights[0].shape[2]):
            continue
        batch, channels, length = dims(x)
        place = edit.before(cut, like=conv)
        inputs = (place.transposed(x, (0, 2, 1)), *map(edit.constant, weights))
        shape = (1, batch, length, channels)
        u = place.operator(CAUSAL_CONV1D.name, inputs, {"reverse": [0], "silu": 0}, shape)
        u = place.node("Squeeze", [u, edit.integers(0)], shape=shape[1:])
        edit.replace(cut.outputs[0], place.transposed(u, (0, 2, 1)))


def _taps_and_bias(conv: ir.Node) -> tuple[np.ndarray, np.ndarray] | None:
    """Constant weights (1, E, W) and bias (1, E) of a depthwise Conv of one axis."""
    taps = constant_of(conv.inputs[1])
    if taps is None or taps.ndim != 3 or taps.shape[1] != 1 or len(taps) != attribute(conv, "group", 1):
        return None
    bias = taps[:, 0, 0] * 0 if len(conv.inputs) < 3 or conv.inputs[2] is None else constant_of(conv.inputs[2])
    return None if bias is None else (taps.transpose(1, 0, 2), bias[None])


def _is_causal(conv: ir.Node, cut: ir.Node, width: int) -> bool:
    """Whether a Conv, but for what is cut off its end, reads the current token and those before it."""
    x, y = conv.inputs[0], cut.outputs[0]
    steps = {*attribute(conv, "strides", (1,)), *attribute(conv, "dilations", (1,))}
    padded = attribute(conv, "auto_pad", "NOTSET") == "NOTSET" and attribute(conv, "pads", (0, 0))[0] == width - 1
    if x is None or x.shape is None or y.shape is None or not padded or steps != {1}:
        return False
    return all(same(*pair) for pair in zip(dims(x), dims(y), strict=True)) and _starts_at_first_token(cut)


def _starts_at_first_token(cut: ir.Node) -> bool:
    [start, _, axis, step] = [constant_of(value) for value in (*cut.inputs[1:], None)[:4]]
    return bool(start == 0 and axis is not None and axis.item() in (2, -1) and (step is None or step == 1))


def silu_into_operator(edit: Editor) -> None:
    """Let a CausalConv1d compute the SiLU of what it gives."""
    for node in list(edit.graph):
        if (node.domain, node.op_type) != (DOMAIN, CAUSAL_CONV1D.name) or attribute(node, "silu"):
            continue
        value = node.outputs[0]
        while (reader := only_reader(value)) is not None and reader.op_type in ("Reshape", "Squeeze", "Transpose"):
            value = reader.outputs[0]
        product = silu_of(value)
        if product is not None and all(reader in _with_gate(product) for reader, _ in value.uses()):
            node.attributes["silu"] = ir.AttrInt64("silu", 1)
            edit.replace(product, value)


def silu_of(value: ir.Value) -> ir.Value | None:
    """value * Sigmoid(value), if the graph has it."""
    for gate in (reader for reader, _ in value.uses() if reader.op_type == "Sigmoid"):
        product = only_reader(gate.outputs[0])
        if product is not None and product.op_type == "Mul" and set(product.inputs) == {value, gate.outputs[0]}:
            return product.outputs[0]
    return None


def _with_gate(product: ir.Value) -> set[ir.Node | None]:
    """The nodes that compute a SiLU."""
    node = product.producer()
    assert node is not None
    return {node, *(value.producer() for value in node.inputs if value is not None)}
