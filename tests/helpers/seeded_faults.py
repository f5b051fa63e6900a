"""Faults planted in an exported file, each what a real mistake would do."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def _copy(model):
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _node(model, name):
    return next(node for node in model.graph.node if node.name == name)


def _replace_input(model, node, position, change):
    """Give a node its own changed copy of a weight, which blocks may share."""
    tensor = next(t for t in model.graph.initializer if t.name == node.input[position])
    values = numpy_helper.to_array(tensor).copy()
    node.input[position] = f"{node.name}.changed"
    model.graph.initializer.append(numpy_helper.from_array(change(values), node.input[position]))


def changed_constant(model, node, position):
    """The first element of what a node reads, through a Cast too, larger by a sixteenth."""

    def change(values):
        values.flat[0] += values.dtype.type(0.0625)
        return values

    copy = _copy(model)
    reader = _node(copy, node)
    casts = {cast.name for cast in copy.graph.node if cast.op_type == "Cast"}
    if reader.input[position] in casts:
        reader, position = _node(copy, reader.input[position]), 0
    _replace_input(copy, reader, position, change)
    return copy


def changed_weight(model, block, index=(5, 7), factor=1.01):
    """One element of in_proj's weight a hundredth larger."""

    def change(values):
        values[index] *= values.dtype.type(factor)
        return values

    copy = _copy(model)
    _replace_input(copy, _node(copy, f"layers.{block}.mixer.in_proj.MatMul"), 1, change)
    return copy


def flipped_reverse(model, block, operator="BidirectionalSelectiveScan"):
    """The directions of one node swapped."""
    copy = _copy(model)
    node = _node(copy, f"layers.{block}.mixer.{operator}")
    next(attribute for attribute in node.attribute if attribute.name == "reverse").ints[:] = [1, 0]
    return copy


def dropped_d(model, block):
    """D of one scan all zeros."""
    copy = _copy(model)
    _replace_input(copy, _node(copy, f"layers.{block}.mixer.BidirectionalSelectiveScan"), 6, np.zeros_like)
    return copy


def float16_softplus(model):
    """The step sizes of the scan's function body cast to float16 and back: all blocks share the body."""
    copy = _copy(model)
    body = next(function for function in copy.functions if function.name == "BidirectionalSelectiveScan")
    nodes = list(body.node)
    relu = next(node for node in nodes if node.op_type == "Relu")
    at = next(i for i, n in enumerate(nodes) if n.op_type == "Add" and relu.output[0] in n.input)
    name = nodes[at].output[0]
    nodes[at].output[0] = f"{name}_exact"
    nodes[at + 1 : at + 1] = [
        helper.make_node("Cast", [f"{name}_exact"], [f"{name}_half"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT),
    ]
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del body.node[:]
    body.node.extend(nodes)
    return copy
