"""The Linear layers of a graph: which of them can be int8, and why the others are not."""

from __future__ import annotations

from dataclasses import dataclass

import onnx
from onnx import numpy_helper

from vimdeploy.preprocess import FloatArray

BATCHED = "batched over the two directions; ONNX Runtime has no int8 batched MatMul with per-column scales"
OUTPUT = "gives an output of the model"


@dataclass(frozen=True)
class Linear:
    """A product of a value with a constant matrix."""

    name: str
    """The node's."""
    input: str
    """The value (..., in)."""
    weight: FloatArray
    """(in, out)."""


def linear_layers(model: onnx.ModelProto) -> list[Linear]:
    """The layers that can be int8: products with a constant matrix, in the order of the graph."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    return [
        Linear(node.name, node.input[0], numpy_helper.to_array(constants[node.input[1]]))
        for node in model.graph.node
        if node.op_type == "MatMul" and node.input[1] in constants and len(constants[node.input[1]].dims) == 2
    ]


def other_products(model: onnx.ModelProto) -> dict[str, str]:
    """The products with constants that stay in float32 in every file, and why.

    With one scale for the whole weight ONNX Runtime has an int8 x_proj. It makes Vim-Ti 5 % faster on one core, and
    alone changes the logits by 1.5 % of their standard deviation, when all other layers together change them by 2.4 %
    (samples/fashion).
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    reasons = {}
    for node in model.graph.node:
        if node.op_type == "Gemm":
            reasons[node.name] = OUTPUT
        elif node.op_type == "MatMul" and node.input[1] in constants and len(constants[node.input[1]].dims) != 2:
            reasons[node.name] = BATCHED
    return reasons
