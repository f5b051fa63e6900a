"""What every pass does to a graph: ask for constants and shapes, put in nodes, put a value in the place of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

Dim = int | ir.SymbolicDim


class Editor:
    """A graph that is being changed: new nodes have typed outputs of known shape and the notes of their module."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        values = (*graph.inputs, *graph.initializers.values(), *(value for node in graph for value in node.outputs))
        self._names = {value.name for value in values}
        self._count = 0

    def constant(self, values: Any) -> ir.Value:
        """A new constant of the graph."""
        name = self._name()
        tensor = ir.tensor(np.ascontiguousarray(values), name=name)
        constant = ir.Value(
            name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(tensor.numpy().shape), const_value=tensor
        )
        self.graph.register_initializer(constant)
        return constant

    def node(
        self,
        before: ir.Node,
        operator: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        shape: Sequence[Dim] | None,
        dtype: ir.DataType | None = None,
        domain: str = "",
        like: ir.Node | None = None,
    ) -> ir.Value:
        """The output of a new node.

        Args:
            before: the node that it stands before.
            operator: its operator.
            inputs: values or None.
            attributes: as ``onnx_ir.node`` takes them.
            shape: of the output.
            dtype: of the output; the first input's if it is None.
            domain: of the operator.
            like: the node whose module it belongs to; ``before`` if it is None.
        """
        node = ir.node(operator, inputs, attributes, domain=domain, version=1 if domain else None)
        node.metadata_props.update((like or before).metadata_props)
        [output] = node.outputs
        output.name = self._name()
        first = inputs[0]
        dtype = dtype or (first.dtype if first is not None else None)
        output.type = ir.TensorType(dtype) if dtype is not None else None
        output.shape = ir.Shape(shape) if shape is not None else None
        self.graph.insert_before(before, node)
        return output

    def transpose(self, before: ir.Node, value: ir.Value, perm: Sequence[int], like: ir.Node | None = None) -> ir.Value:
        """The value with its axes in another order."""
        if list(perm) == sorted(perm):
            return value
        shape = [dims(value)[axis] for axis in perm]
        return self.node(before, "Transpose", [value], {"perm": list(perm)}, shape=shape, like=like)

    def replace(self, value: ir.Value, by: ir.Value) -> None:
        """Let all readers of a value read another; an output of the graph keeps its name."""
        if value.is_graph_output():
            node = value.producer()
            if by.producer() is None or by.is_graph_output():
                assert node is not None  # a value that is replaced is some node's
                by = self.node(node, "Identity", [by], shape=dims(by))
            value.name, by.name = self._name(), value.name
        ir.convenience.replace_all_uses_with(value, by, replace_graph_outputs=True)

    def _name(self) -> str:
        while (name := f"simplified_{self._count}") in self._names:
            self._count += 1
        self._names.add(name)
        return name


def constant_of(value: ir.Value | None) -> np.ndarray | None:
    """What a value always is; None if that is not known."""
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    return None if tensor is None else tensor.numpy()


def number_of(value: ir.Value | None) -> int | None:
    """The one integer that a value always is, of any shape; None if it is none."""
    constant = constant_of(value)
    return None if constant is None or constant.size != 1 or constant.dtype.kind != "i" else int(constant.item())


def dims(value: ir.Value) -> tuple[Dim, ...]:
    """The shape of a value whose rank is known."""
    assert value.shape is not None
    return tuple(value.shape)


def same(first: Dim, second: Dim) -> bool:
    """Whether two dimensions are known to be equal."""
    if isinstance(first, int) or isinstance(second, int):
        return first == second
    return first.value is not None and first.value == second.value


def attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    """An attribute of a node, or what it is without it."""
    found = node.attributes.get(name)
    return default if found is None else found.value
