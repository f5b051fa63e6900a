"""ONNX functions written as formulas: arithmetic on a Value adds a node. The language of function_body.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from onnx import AttributeProto, FunctionProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from vimdeploy.ops.contract import DOMAIN, Operator

Operand: TypeAlias = "Value | int | float"
Results: TypeAlias = "tuple[Sequence[Value], Sequence[Value]]"
"""The states after a step of a Scan, and the outputs of the step."""


class Value:
    """A tensor of the function. A size, such as L, is an int64 tensor of one element."""

    def __init__(self, function: FunctionBuilder, name: str) -> None:
        self._function = function
        self.name = name

    def __add__(self, other: Operand) -> Value:
        return self._function.op("Add", self, other)

    def __sub__(self, other: Operand) -> Value:
        return self._function.op("Sub", self, other)

    def __mul__(self, other: Operand) -> Value:
        return self._function.op("Mul", self, other)

    def __truediv__(self, other: Operand) -> Value:
        return self._function.op("Div", self, other)

    def __floordiv__(self, other: Operand) -> Value:
        return self._function.op("Div", self, other)  # of integers: rounds towards zero; none here is negative

    def __mod__(self, other: Operand) -> Value:
        return self._function.op("Mod", self, other)

    def __matmul__(self, other: Value) -> Value:
        return self._function.op("MatMul", self, other)

    def __neg__(self) -> Value:
        return self._function.op("Neg", self)


class FunctionBuilder:
    """The function of one operator, while it is being written.

    Names of values start with the operator's name, those of the inputs too: TensorRT before 10.8 confuses equal names
    in different functions, and later ones warn of them.
    """

    def __init__(self, operator: Operator, sizes: Mapping[str, int] | None = None) -> None:
        """Begin a function.

        Args:
            operator: that it computes.
            sizes: None for any; else all of the operator's by the contract's letters, for a function without loops.
        """
        self.sizes = sizes
        self._operator = operator
        self._nodes: list[NodeProto] = []  # of the function, or of the Scan body that is being written
        self._constants: dict[str, Value] = {}  # as its nodes
        self._named = 0
        self.inputs = [Value(self, f"{operator.name}_{value.name}") for value in operator.inputs]

    def function(self, output: Value, opset: int) -> FunctionProto:
        """What was written, as a model-local function that returns output."""
        # FunctionProto.attribute holds the names without a default, attribute_proto the others.
        required = [a.name for a in self._operator.attributes if a.default is None]
        return helper.make_function(
            DOMAIN,
            self._operator.name,
            [value.name for value in self.inputs],
            [output.name],
            self._nodes,
            [helper.make_opsetid("", opset)],
            required,
            [helper.make_attribute(name, value) for name, value in self._operator.defaults.items()],
            doc_string=self._operator.doc,
        )

    def op(self, op_type: str, *inputs: Operand, **attributes: int | Sequence[int]) -> Value:
        """A node of the standard operators with one output."""
        return self._emit(op_type, inputs, 1, attributes)[0]

    def scan(
        self, step: Callable[..., Results], states: Sequence[Value], slices: Sequence[Value], steps: Value | int
    ) -> tuple[list[Value], list[Value]]:
        """A loop over the first axis of slices: a Scan, or its steps if their number is known.

        A step that is written out is given all with a first axis of size 1, and gives all so: it has to be of sums,
        products and functions of single values, which do not mind.

        Args:
            step: (*states, *slices without the first axis) → (states after the step, outputs of the step). All of them
                are made inside it, of nothing but what it is given: OpenVINO, for one, refuses a body that reads a
                value from outside.
            states: at least one, or TensorRT refuses the node.
            steps: how many; a number if the sizes are known.

        Returns:
            The last states, and the outputs of all steps, stacked on a new first axis.
        """
        if self.sizes is not None:
            assert isinstance(steps, int)
            return self._written_out(step, states, slices, steps)
        outside = self._nodes, self._constants
        self._nodes, self._constants = [], {}
        formals = [self._new_value("state") for _ in states] + [self._new_value("slice") for _ in slices]
        next_states, outputs = step(*formals)
        results = [*next_states, *outputs]
        body = helper.make_graph(self._nodes, self._new_value("step").name, _untyped(formals), _untyped(results))
        self._nodes, self._constants = outside
        attributes = {"num_scan_inputs": len(slices), "body": body}
        values = self._emit("Scan", [*states, *slices], len(results), attributes)
        return values[: len(states)], values[len(states) :]

    def _written_out(
        self, step: Callable[..., Results], states: Sequence[Value], slices: Sequence[Value], steps: int
    ) -> tuple[list[Value], list[Value]]:
        """The steps of ``scan``, one after the other."""
        states = [self.unsqueeze(x, 0) for x in states]
        parts = [self._emit("Split", [x], steps, {"axis": 0, "num_outputs": steps}) for x in slices]
        outputs = []
        for given in zip(*parts, strict=True):
            states, of_step = step(*states, *given)
            outputs.append(of_step)
        stacked = [self.op("Concat", *of_all, axis=0) for of_all in zip(*outputs, strict=True)]
        return [self.op("Squeeze", x, self._constant([0])) for x in states], stacked

    def attribute(self, name: str) -> Value:
        """An attribute of the operator's node: (n,) int64 for "ints", () int64 for "int", () float32 for "float"."""
        kind = next(a.type for a in self._operator.attributes if a.name == name)
        field = {"ints": AttributeProto.INTS, "int": AttributeProto.INT, "float": AttributeProto.FLOAT}[kind]
        value = self.op("Constant")
        self._nodes[-1].attribute.append(AttributeProto(name=f"value_{kind}", type=field, ref_attr_name=name))
        return value

    def flag(self, name: str) -> Value:
        """Whether an attribute of the operator's node is 1: bool, as large as the attribute."""
        return self.op("Equal", self.attribute(name), 1)

    # -- shapes

    def size(self, x: Value, axis: int) -> Value:
        """x.shape[axis]."""
        return self.op("Shape", x, start=axis, end=axis + 1)

    def shape(self, *sizes: Value | int) -> Value:
        """(len(sizes),) int64."""
        return self.op("Concat", *(self._constant([s]) if isinstance(s, int) else s for s in sizes), axis=0)

    def range(self, size: Value | int, axes_after: int = 0) -> Value:
        """0, 1, … size - 1, of shape (size, 1, … 1)."""
        counted = self.op("Range", 0, self.op("Squeeze", size) if isinstance(size, Value) else size, 1)
        return self.op("Reshape", counted, self._constant([-1] + [1] * axes_after)) if axes_after else counted

    def reshape(self, x: Value, *sizes: Value | int) -> Value:
        """x in these sizes; one of them may be -1."""
        return self.op("Reshape", x, self.shape(*sizes))

    def unsqueeze(self, x: Value, *axes: int) -> Value:
        """x with new axes of size 1, numbered as they are in the result."""
        return self.op("Unsqueeze", x, self._constant(list(axes)))

    def expand(self, x: Operand, *sizes: Value | int) -> Value:
        """x broadcast to these sizes."""
        return self.op("Expand", x, self.shape(*sizes))

    def split(self, x: Value, *sizes: Value) -> list[Value]:
        """Parts of these sizes along the last axis."""
        return self._emit("Split", [x, self.shape(*sizes)], len(sizes), {"axis": -1})

    def rows(self, x: Value, numbers: Value) -> Value:
        """Those rows of x, of the shape of numbers and then of a row."""
        return self.op("Gather", x, numbers, axis=0)

    def sum_of_rows(self, x: Value) -> Value:
        """Σ over the first axis, flat; as a product with ones it is three times as fast as ONNX Runtime's ReduceSum."""
        first = self.size(x, 0)
        return self.expand(1.0, first) @ self.reshape(x, first, -1)

    def float32(self, x: Value) -> Value:
        """x as float32."""
        return self.op("Cast", x, to=TensorProto.FLOAT)

    # -- names and nodes

    def _emit(
        self, op_type: str, inputs: Sequence[Operand], outputs: int, attributes: Mapping[str, Any]
    ) -> list[Value]:
        names = [x.name if isinstance(x, Value) else self._constant(x).name for x in inputs]
        values = [self._new_value(op_type) for _ in range(outputs)]
        node = helper.make_node(op_type, names, [value.name for value in values], name=values[0].name, **attributes)
        self._nodes.append(node)
        return values

    def _constant(self, number: int | float | list[int]) -> Value:
        """One node for each number."""
        key = repr(number)
        if key not in self._constants:
            value = self._constants[key] = self._new_value("Constant")
            # As a tensor: tools that clean graphs up read a value_float as float64.
            content = numpy_helper.from_array(np.array(number, np.float32 if isinstance(number, float) else np.int64))
            self._nodes.append(helper.make_node("Constant", [], [value.name], name=value.name, value=content))
        return self._constants[key]

    def _new_value(self, role: str) -> Value:
        self._named += 1
        return Value(self, f"{self._operator.name}_{role}_{self._named}")


def _untyped(values: Sequence[Value]) -> list[ValueInfoProto]:
    """Inputs or outputs of a Scan's body: their types follow from the Scan's."""
    return [ValueInfoProto(name=value.name) for value in values]
