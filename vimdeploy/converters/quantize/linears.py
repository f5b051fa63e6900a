"""The Linear layers of a graph: which of them can be int8, and why the others are not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

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


def with_products(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a model in which each Gemm with a constant matrix is a MatMul, under its name, and an Add.

    A Gemm that gives an output of the model stays: it is a head, where int8 costs most.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    constants = {tensor.name: tensor for tensor in copy.graph.initializer}
    types = {value.name: value for value in copy.graph.value_info}
    outputs = {value.name for value in copy.graph.output}
    nodes = []
    for node in copy.graph.node:
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        plain = all(attributes.get(name, usual) == usual for name, usual in (("transA", 0), ("alpha", 1), ("beta", 1)))
        if node.op_type != "Gemm" or not plain or node.output[0] in outputs or node.input[1] not in constants:
            nodes.append(node)
            continue
        weight, product = numpy_helper.to_array(constants[node.input[1]]), f"{node.name}.product"
        turned = np.ascontiguousarray(weight.T) if attributes.get("transB", 0) else weight
        copy.graph.initializer.append(numpy_helper.from_array(turned, f"{node.name}.weight"))
        given = [product] if len(node.input) > 2 else [node.output[0]]
        nodes.append(helper.make_node("MatMul", [node.input[0], f"{node.name}.weight"], given, node.name))
        if len(node.input) > 2:
            nodes.append(helper.make_node("Add", [product, node.input[2]], [node.output[0]], f"{node.name}.sum"))
            copy.graph.value_info.add().CopyFrom(types[node.output[0]])
            copy.graph.value_info[-1].name = product
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    read = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in copy.graph.initializer if tensor.name in read]
    del copy.graph.initializer[:]
    copy.graph.initializer.extend(kept)
    return copy


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
