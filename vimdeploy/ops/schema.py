"""The operators' ONNX schemas, made from the contract: onnx then checks our nodes and infers their outputs."""

from __future__ import annotations

import re
from collections import defaultdict

import onnx.defs
from onnx import TensorShapeProto, TypeProto, helper
from onnx.defs import OpSchema
from onnx.shape_inference import InferenceContext, InferenceError

from vimdeploy.ops.contract import AT_LEAST, DOMAIN, FLOAT_TYPES, OPERATORS, VERSION, Attribute, Operator, Value

Dimension = TensorShapeProto.Dimension

_TENSORS_OF_T = [f"tensor({name.replace('float32', 'float')})" for name in FLOAT_TYPES]
_TERM = re.compile(r"(\d*)([A-Z])")


def register_schemas() -> None:
    """Tell onnx of the operators; a second call does nothing."""
    for op in OPERATORS:
        if not onnx.defs.has(op.name, domain=DOMAIN):
            onnx.defs.register_schema(_schema(op))


def _schema(op: Operator) -> OpSchema:
    schema = OpSchema(
        op.name,
        DOMAIN,
        VERSION,
        op.doc,
        inputs=[_parameter(value) for value in op.inputs],
        outputs=[_parameter(op.output)],
        type_constraints=[("T", _TENSORS_OF_T, "one type throughout a node")],
        attributes=[_attribute(attribute) for attribute in op.attributes],
    )
    schema.set_type_and_shape_inference_function(lambda context: _infer(op, context))
    return schema


def _parameter(value: Value) -> OpSchema.FormalParameter:
    type_ = "T" if value.type == "T" else "tensor(float)"
    return OpSchema.FormalParameter(value.name, type_, f"({', '.join(value.dims)}) {value.doc}")


def _attribute(attribute: Attribute) -> OpSchema.Attribute:
    if attribute.default is not None:
        return OpSchema.Attribute(
            attribute.name, helper.make_attribute(attribute.name, attribute.default), attribute.doc
        )
    type_ = getattr(OpSchema.AttrType, attribute.type.upper())
    return OpSchema.Attribute(attribute.name, type_, attribute.doc)


def _infer(op: Operator, context: InferenceContext) -> None:
    """The output's type and shape from the inputs'; InferenceError if the inputs contradict each other."""
    first = context.get_input_type(0)  # of type T, as the output
    if first is None:
        return
    output = TypeProto()
    output.tensor_type.elem_type = first.tensor_type.elem_type
    shapes = _input_shapes(op, context)
    seen: dict[str, list[Dimension]] = defaultdict(list)
    reverse = context.get_attribute("reverse")
    if reverse is not None:
        seen[op.flagged].append(Dimension(dim_value=len(reverse.ints)))
    for value, shape in shapes:
        for size, dimension in zip(value.dims, shape, strict=True):
            seen[size].append(dimension)
    best = {size: max(dimensions, key=_definiteness) for size, dimensions in seen.items()}
    numbers = {size: dimension.dim_value for size, dimension in best.items() if dimension.HasField("dim_value")}
    for value, shape in shapes:
        _check_sizes(op, value, shape, numbers)
        _check_least(op, value, numbers)
    output.tensor_type.shape.dim.extend(best.get(size, Dimension()) for size in op.output.dims)
    context.set_output_type(0, output)


def _input_shapes(op: Operator, context: InferenceContext) -> list[tuple[Value, list[Dimension]]]:
    """The inputs whose number of dimensions is known, and found right."""
    shapes = []
    for index, value in enumerate(op.inputs):
        type_ = context.get_input_type(index)
        if type_ is not None and type_.tensor_type.HasField("shape"):
            shape = list(type_.tensor_type.shape.dim)
            if len(shape) != len(value.dims):
                raise InferenceError(f"{op.name}: {_wanted(value)}, it has {len(shape)} dimensions")
            shapes.append((value, shape))
    return shapes


def _check_sizes(op: Operator, value: Value, shape: list[Dimension], numbers: dict[str, int]) -> None:
    for axis, (size, dimension) in enumerate(zip(value.dims, shape, strict=True)):
        wanted = _evaluate(size, numbers)
        if wanted is not None and dimension.HasField("dim_value") and dimension.dim_value != wanted:
            found = f"{size} is {dimension.dim_value} here (axis {axis}) and {wanted} by the rest of the node"
            raise InferenceError(f"{op.name}: {_wanted(value)}; {found}")


def _check_least(op: Operator, value: Value, numbers: dict[str, int]) -> None:
    for size in set(value.dims) & AT_LEAST.keys() & numbers.keys():
        least = numbers.get(AT_LEAST[size], 0)
        if numbers[size] < least:
            found = f"{size} is {numbers[size]}, less than {AT_LEAST[size]}, which is {least} by the rest of the node"
            raise InferenceError(f"{op.name}: {_wanted(value)}; {found}")


def _wanted(value: Value) -> str:
    return f"{value.name} must be ({', '.join(value.dims)})"


def _definiteness(dimension: Dimension) -> int:
    """A number before a name before nothing."""
    return (None, "dim_param", "dim_value").index(dimension.WhichOneof("value"))


def _evaluate(size: str, numbers: dict[str, int]) -> int | None:
    """The value of a size as the contract writes it, such as ``R+2N``; None if a letter of it is not known."""
    terms = _TERM.findall(size)
    if not all(letter in numbers for _, letter in terms):
        return None
    return sum(int(factor or 1) * numbers[letter] for factor, letter in terms)
