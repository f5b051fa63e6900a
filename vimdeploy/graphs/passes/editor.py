"""What every pass does to a graph: ask for constants and shapes, put in nodes, put a value in the place of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx_ir as ir

from vimdeploy.ops.contract import DOMAIN, OPERATORS, VERSION

Dim = int | ir.SymbolicDim

_DEFAULTS = {op.name: op.defaults for op in OPERATORS}


ELEMENTWISE = (
    *("Abs", "Add", "Cast", "Clip", "Div", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Log"),
    *("Max", "Min", "Mul", "Neg", "Pow", "Reciprocal", "Relu", "Sigmoid", "Softplus", "Sqrt", "Sub", "Tanh"),
)
"""Operators that treat every number alike, whatever axis it is on."""


RESHAPES = ("Reshape", "Squeeze", "Unsqueeze")
"""Operators that leave the numbers where they are."""


class UnknownShapeError(Exception):
    """A shape cannot be computed from the dimensions that are there."""


class Editor:
    """A graph that is being changed."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        values = (*graph.inputs, *graph.initializers.values(), *(value for node in graph for value in node.outputs))
        self._names = {value.name for value in values}
        self._count = 0

    def before(self, node: ir.Node, like: ir.Node | None = None) -> Place:
        """A place for new nodes, before a node; they belong to the module of ``like``, of that node if it is None."""
        return Place(self, node, like or node)

    def constant(self, values: Any) -> ir.Value:
        """A new constant of the graph."""
        name = self.name()
        tensor = ir.tensor(np.ascontiguousarray(values), name=name)
        shape = ir.Shape(tensor.numpy().shape)
        constant = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=shape, const_value=tensor)
        self.graph.register_initializer(constant)
        return constant

    def integers(self, *numbers: int) -> ir.Value:
        """A new constant of indices or of a shape."""
        return self.constant(np.array(numbers, dtype=np.int64))

    def replace(self, value: ir.Value, by: ir.Value) -> None:
        """Let all readers of a value read another; an output of the graph keeps its name."""
        if value.is_graph_output():
            node = value.producer()
            if node is not None and (by.producer() is None or by.is_graph_output()):
                by = self.before(node).node("Identity", [by], shape=dims(by))
            value.name, by.name = self.name(), value.name
        ir.convenience.replace_all_uses_with(value, by, replace_graph_outputs=True)

    def name(self) -> str:
        """A name that no value has yet."""
        while (name := f"simplified_{self._count}") in self._names:
            self._count += 1
        self._names.add(name)
        return name


@dataclass(frozen=True)
class Place:
    """Where new nodes are put: their outputs are named, typed and of known shape."""

    edit: Editor
    _before: ir.Node
    _model: ir.Node

    def like(self, node: ir.Node) -> Place:
        """The same place for nodes of another one's module."""
        return Place(self.edit, self._before, node)

    def node(
        self,
        operator: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        shape: Sequence[Dim],
        dtype: ir.DataType | None = None,
    ) -> ir.Value:
        """The output of a new node; its type is the first input's unless it is given."""
        [output] = self.nodes(operator, inputs, attributes, shapes=[shape], dtype=dtype)
        return output

    def nodes(
        self,
        operator: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        shapes: Sequence[Sequence[Dim]],
        dtype: ir.DataType | None = None,
        domain: str = "",
        version: int | None = None,
    ) -> Sequence[ir.Value]:
        """The outputs of a new node."""
        node = ir.node(operator, inputs, attributes, domain=domain, version=version, num_outputs=len(shapes))
        node.metadata_props.update(self._model.metadata_props)
        first = inputs[0]
        dtype = dtype or (first.dtype if first is not None else None)
        for output, shape in zip(node.outputs, shapes, strict=True):
            output.name = self.edit.name()
            output.type = ir.TensorType(dtype) if dtype is not None else None
            output.shape = ir.Shape(shape)
        self.edit.graph.insert_before(self._before, node)
        return node.outputs

    def operator(
        self, name: str, inputs: Sequence[ir.Value], attributes: Mapping[str, Any], shape: Sequence[Dim]
    ) -> ir.Value:
        """The output of a node of ours."""
        self.edit.graph.opset_imports[DOMAIN] = VERSION
        attributes = {**attributes, **_DEFAULTS[name]}
        [output] = self.nodes(name, inputs, attributes, shapes=[shape], domain=DOMAIN, version=VERSION)
        return output

    def transposed(self, value: ir.Value, perm: Sequence[int]) -> ir.Value:
        """The value with its axes in another order."""
        if list(perm) == sorted(perm):
            return value
        return self.node("Transpose", [value], {"perm": list(perm)}, shape=[dims(value)[axis] for axis in perm])

    def reshaped(self, value: ir.Value, shape: Sequence[Dim]) -> ir.Value:
        """The value in another shape of the same size.

        Raises:
            UnknownShapeError: if more than one free dimension is neither the value's nor an input's of the graph.
        """
        given = dims(value)
        if len(shape) == len(given) and all(same(*pair) for pair in zip(shape, given, strict=True)):
            return value
        numbers: list[int | tuple[ir.Value, int] | None] = []
        for i, dim in enumerate(shape):
            copied = i < len(given) and same(dim, given[i])
            numbers.append(dim if isinstance(dim, int) else 0 if copied else None)
        unknown = [i for i, number in enumerate(numbers) if number is None]
        found = {i: asked for i in unknown if (asked := self._asked(shape[i], value)) is not None}
        inferred = next((i for i in unknown if i not in found), unknown[0] if unknown else None)
        for i in unknown:
            numbers[i] = -1 if i == inferred else found.get(i)
            if numbers[i] is None:
                raise UnknownShapeError(f"{list(shape)} of {list(given)}")
        return self.node("Reshape", [value, self._vector(numbers)], shape=shape)

    def _asked(self, dim: Dim, value: ir.Value) -> tuple[ir.Value, int] | None:
        """A value and its axis that has a free dimension: an input of the graph before a value that may not stay."""
        for source in (*self.edit.graph.inputs, value):
            if source.shape is not None:
                for axis, own in enumerate(source.shape):
                    if same(dim, own):
                        return source, axis
        return None

    def _vector(self, numbers: Sequence[Any]) -> ir.Value:
        if all(isinstance(number, int) for number in numbers):
            return self.edit.integers(*numbers)
        parts = []
        for number in numbers:
            if isinstance(number, int):
                parts.append(self.edit.integers(number))
            else:
                source, axis = number
                ends = {"start": axis, "end": axis + 1}
                parts.append(self.node("Shape", [source], ends, shape=[1], dtype=ir.DataType.INT64))
        return self.node("Concat", parts, {"axis": 0}, shape=[len(numbers)], dtype=ir.DataType.INT64)


def constant_of(value: ir.Value | None) -> np.ndarray | None:
    """What a value always is; None if that is not known."""
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    return None if tensor is None else tensor.numpy()


def number_of(value: ir.Value | None) -> int | None:
    """The one integer that a value always is, of any shape; None if it is none."""
    constant = constant_of(value)
    return None if constant is None or constant.size != 1 or constant.dtype.kind != "i" else int(constant.item())


def perm_of(transpose: ir.Node) -> Sequence[int]:
    """The order in which a Transpose puts the axes."""
    rank = len(dims(transpose.outputs[0]))
    return attribute(transpose, "perm", range(rank)[::-1])


def slice_steps(node: ir.Node) -> tuple[int, int, int, int] | None:
    """Axis, start, stop and step of a Slice along one axis; None for any other node."""
    if node.op_type != "Slice" or node.domain or node.inputs[0] is None or node.inputs[0].shape is None:
        return None
    given = [number_of(value) for value in node.inputs[1:]]
    start, stop, axis, step = (*given, 0, 1)[:4] if len(given) == 2 else (*given, 1)[:4]
    if start is None or stop is None or axis is None or step is None:
        return None
    return axis % len(dims(node.inputs[0])), start, stop, step


def only_reader(value: ir.Value) -> ir.Node | None:
    """The node that reads a value, if it is one, once, and nobody else does."""
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def rows_of(value: ir.Value) -> ir.Value:
    """The first value of which this one is the rows, its last axis, in another shape."""
    while (node := value.producer()) is not None and node.op_type in RESHAPES and not node.domain:
        source = node.inputs[0]
        if source is None or source.shape is None or value.shape is None or not dims(source) or not dims(value):
            break
        if not same(dims(source)[-1], dims(value)[-1]):
            break
        value = source
    return value


def dims(value: ir.Value) -> tuple[Dim, ...]:
    """The shape of a value whose rank is known."""
    assert value.shape is not None
    return tuple(value.shape)


def same(first: Dim, second: Dim) -> bool:
    """Whether two dimensions are known to be equal."""
    if isinstance(first, int) or isinstance(second, int):
        return first == second
    return first.value is not None and (first.value == second.value or simple(first) == simple(second))


def simple(dim: ir.SymbolicDim) -> ir.SymbolicDim:
    """A free dimension in the form that equal ones have in common."""
    return dim if dim.value is None else _simple(dim.value)


@cache
def _simple(formula: str) -> ir.SymbolicDim:
    return ir.SymbolicDim(formula).simplify()


def attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    """An attribute of a node, or what it is without it."""
    found = node.attributes.get(name)
    return default if found is None else found.value
