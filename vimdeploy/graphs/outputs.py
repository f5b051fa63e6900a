"""The inner values of an ONNX graph as outputs, to be looked at."""

from __future__ import annotations

from collections.abc import Sequence

import onnx


def with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """A copy of a model that gives inner values too.

    Args:
        model: its own outputs stay, first and in their order.
        names: of values that nodes give; behind the own outputs, in this order. Nodes and what they give are named
            after the modules of the PyTorch model: ``layers.3.mixer.in_proj.MatMul``.

    Raises:
        KeyError: for a value that no node gives.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    types = {value.name: value for value in copy.graph.value_info}
    own = {value.name for value in copy.graph.output}
    given = {name for node in copy.graph.node for name in node.output}
    for name in dict.fromkeys(names):
        if name not in given:
            raise KeyError(name)
        if name not in own:
            copy.graph.output.append(types.get(name) or onnx.ValueInfoProto(name=name))
    return copy
