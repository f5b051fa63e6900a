"""Float16 and bfloat16 as a property of the graph: weights of that type, and explicit Casts.

Matrix products, convolutions and our operators, which take nearly all of the time and of the bytes, are in type T;
everything between them stays in float32: norms, the residual, the position embedding. The contract says which inputs of
our operators are of T; A, D and dt_bias never are. A block reads: norm, Cast to T, in_proj, convolution, x_proj, scan,
out_proj, Cast to float32, sum. The model's input is float32, and so is the product that gives its output: different
logits may be equal once they are rounded to bfloat16. Single nodes can be kept in float32, with their inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import numpy as np
import onnx.defs

from vimdeploy.errors import ConfigError, require
from vimdeploy.model_info import PRECISIONS
from vimdeploy.ops.contract import OPERATORS

if TYPE_CHECKING:
    import onnx_ir as ir

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""The operators of ONNX that take T."""


def lower_precision(model: ir.Model, precision: str, kept: Collection[str] = ()) -> None:
    """Bring a float32 graph to another precision, in place.

    A product that the model's opset does not define for T stays in float32: Conv takes bfloat16 from opset 22 on.

    Args:
        model: its values typed and named. A Cast is named after what it gives: ``images.float16``.
        precision: one of ``PRECISIONS``; with ``fp32`` nothing is done.
        kept: names of nodes that stay in float32.

    Raises:
        ConfigError: for a weight beyond the largest number of T whose node is not kept.
    """
    if precision != "fp32":
        _Lowering(model, precision, kept).run()


def nodes_by_value_in_t(model: ir.Model, precision: str) -> dict[str, list[str]]:
    """What ``lower_precision`` would store in T: each value, weights too, with the nodes that make or take it in T.

    If all of those nodes are kept in float32, so is the value.
    """
    inputs_in_t = _rule(model, precision)
    nodes: dict[str, list[str]] = {}
    for node in model.graph:
        taken = [node.inputs[i] for i in inputs_in_t(node) if i < len(node.inputs)]
        for value in dict.fromkeys((*taken, *node.outputs)) if taken else ():
            if value is not None:
                nodes.setdefault(str(value.name), []).append(str(node.name))
    return nodes


def _rule(model: ir.Model, precision: str, kept: Collection[str] = ()) -> Callable[[ir.Node], Collection[int]]:
    """A function that tells which inputs a node takes in T; its output is in T if there are any."""
    opset = model.graph.opset_imports[""]
    inputs_in_t = {op.name: [i for i, value in enumerate(op.inputs) if value.type == "T"] for op in OPERATORS}
    inputs_in_t |= {op: [0, 1, 2] for op in PRODUCTS if _is_defined(op, opset, PRECISIONS[precision])}

    def inputs_of(node: ir.Node) -> Collection[int]:
        if node.name in kept or node.outputs[0].is_graph_output():
            return ()
        return inputs_in_t.get(node.op_type, ())

    return inputs_of


def _is_defined(operator: str, opset: int, type_name: str) -> bool:
    """Whether an operator of ONNX takes a type at an opset."""
    schema = onnx.defs.get_schema(operator, opset)
    return any(f"tensor({type_name})" in constraint.allowed_type_strs for constraint in schema.type_constraints)


class _Lowering:
    """A graph on its way to T, node by node; the type of a value says whether its node is done."""

    def __init__(self, model: ir.Model, precision: str, kept: Collection[str]) -> None:
        self._ir = require("onnx_ir", "export")
        self._graph = model.graph
        self._t, self._float32 = self._ir.DataType[PRECISIONS[precision].upper()], self._ir.DataType.FLOAT
        self._inputs_in_t = _rule(model, precision, kept)
        self._casts: dict[str, ir.Node] = {}

    def run(self) -> None:
        for node in list(self._graph):
            for i, value in enumerate(node.inputs):
                wanted = self._t if i in self._inputs_in_t(node) else self._float32
                if value is None or value.dtype == wanted or value.dtype not in (self._t, self._float32):
                    continue
                if value.is_initializer() and all(i in self._inputs_in_t(reader) for reader, i in value.uses()):
                    self._round(value, node)
                else:
                    node.replace_input_with(i, self._cast(value, wanted, node))
            if self._inputs_in_t(node):
                node.outputs[0].type = self._ir.TensorType(self._t)

    def _round(self, weight: ir.Value, reader: ir.Node) -> None:
        tensor = weight.const_value
        assert tensor is not None  # an initializer has one
        values = tensor.numpy()
        with np.errstate(over="ignore"):
            rounded = values.astype(self._t.numpy())
        if np.isinf(rounded).any():
            raise ConfigError(
                f"{weight.name} has a value of {np.abs(values).max():.3g}, too large for {rounded.dtype}; "
                f"keep {reader.name} in float32."
            )
        weight.const_value = self._ir.tensor(rounded, self._t, name=weight.name)
        weight.type = self._ir.TensorType(self._t)

    def _cast(self, value: ir.Value, to: ir.DataType, reader: ir.Node) -> ir.Value:
        """The value in another type, cast once, before its first reader."""
        name = f"{value.name}.{to.numpy()}"
        if name not in self._casts:
            self._casts[name] = self._ir.node("Cast", [value], {"to": to}, name=name)
            [output] = self._casts[name].outputs
            output.name, output.type, output.shape = name, self._ir.TensorType(to), value.shape
            self._graph.insert_before(reader, self._casts[name])
        return self._casts[name].outputs[0]
