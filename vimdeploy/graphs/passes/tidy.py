"""What is left over when values have moved.

Reshape(Unsqueeze(Reshape(x)))    ->   Reshape(x), or x if its shape is the same
x[:, 0:4] if there are only 4     ->   x
Concat(a, Concat(b, c))           ->   Concat(a, b, c)
"""

from __future__ import annotations

import contextlib

import onnx_ir as ir

from vimdeploy.graphs.passes.editor import RESHAPES, Dim, Editor, UnknownShapeError, attribute, dims, slice_steps


def drop_identities(edit: Editor) -> None:
    """Read what an Identity reads, unless it gives an output of the graph."""
    for node in list(edit.graph):
        source, output = node.inputs[0] if node.inputs else None, node.outputs[0]
        if node.op_type == "Identity" and not node.domain and source is not None and not output.is_graph_output():
            edit.replace(output, source)


def tidy_up(edit: Editor) -> None:
    """Let one Reshape do what several in a row do, and one Concat; take out what does nothing."""
    made: dict[tuple[ir.Value, tuple[Dim, ...]], ir.Value] = {}
    for node in list(edit.graph):
        if node.domain or node.outputs[0].shape is None:
            continue
        if node.op_type in RESHAPES:
            _reshape_at_once(edit, node, made)
        elif node.op_type == "Concat":
            _concat_at_once(node)
        elif _is_whole_slice(node):
            assert node.inputs[0] is not None
            edit.replace(node.outputs[0], node.inputs[0])


def _reshape_at_once(edit: Editor, node: ir.Node, made: dict[tuple[ir.Value, tuple[Dim, ...]], ir.Value]) -> None:
    """Read what the first of several Reshapes reads, and read what another one has made of it already."""
    source, output = node.inputs[0], node.outputs[0]
    while source is not None and (before := source.producer()) is not None and before.op_type in RESHAPES:
        source = before.inputs[0]
    if source is None or source.shape is None:
        return
    shape = dims(output)
    if not all(isinstance(dim, int) or dim.value is not None for dim in (*dims(source), *shape)):
        return
    if (source, shape) in made:
        edit.replace(output, made[source, shape])
        return
    made[source, shape] = output
    if source is not node.inputs[0] or list(dims(source)) == list(shape):
        with contextlib.suppress(UnknownShapeError):
            made[source, shape] = edit.before(node).reshaped(source, shape)
            edit.replace(output, made[source, shape])


def _is_whole_slice(node: ir.Node) -> bool:
    steps, output = slice_steps(node), node.outputs[0]
    if steps is None or node.inputs[0] is None:
        return False
    axis, _, _, step = steps
    return step == 1 and isinstance(dims(output)[axis], int) and dims(output)[axis] == dims(node.inputs[0])[axis]


def _concat_at_once(node: ir.Node) -> None:
    inputs: list[ir.Value | None] = []
    for value in node.inputs:
        inner = value.producer() if value is not None else None
        if inner is not None and inner.op_type == "Concat" and _axis(inner) == _axis(node) is not None:
            inputs += inner.inputs
        else:
            inputs.append(value)
    if len(inputs) > len(node.inputs):
        node.resize_inputs(len(inputs))
        for i, value in enumerate(inputs):
            node.replace_input_with(i, value)


def _axis(node: ir.Node) -> int | None:
    output = node.outputs[0]
    return None if output.shape is None else attribute(node, "axis") % len(dims(output))
