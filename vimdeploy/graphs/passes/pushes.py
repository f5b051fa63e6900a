"""How each operator passes on the wish for its output in another order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from vimdeploy.graphs.passes.editor import (
    ELEMENTWISE,
    Dim,
    Place,
    attribute,
    constant_of,
    dims,
    perm_of,
    rows_of,
    same,
    slice_steps,
)
from vimdeploy.graphs.passes.factors import common_parts, product
from vimdeploy.graphs.passes.orders import Label, Order, Wish, labels_of, sizes_of
from vimdeploy.graphs.passes.products import product_of


@dataclass(frozen=True)
class Push:
    """How a node gives its outputs in the wanted orders: what it wants of its inputs, and what it makes of them."""

    wishes: dict[int, Wish]
    build: Callable[[Place, dict[int, ir.Value]], Sequence[ir.Value]]
    """(place, inputs in the shapes of the wishes) -> outputs, of any shapes that have the wanted order."""
    gives: list[tuple[ir.Value, Order]] = field(default_factory=list)
    """The node's outputs, and the order of each that is made."""


def _given(place: Place, inputs: dict[int, ir.Value]) -> Sequence[ir.Value]:
    return [inputs[0]]


def _through_transpose(node: ir.Node, order: Order) -> Push | None:
    labels, perm = labels_of(order), list(perm_of(node))
    axes = tuple(labels[perm.index(axis)] for axis in range(len(perm)))
    return Push({0: Wish(axes, order.order, sizes_of(order))}, _given)


def _through_reshape(node: ir.Node, order: Order) -> Push | None:
    """Split the factors until the input's axes are products of them."""
    [source, *_] = node.inputs
    assert source is not None
    before = [label for labels in labels_of(order) for label in labels]
    sizes = sizes_of(order)
    parts = common_parts(dims(source), [sizes[label] for label in before])
    if parts is None:
        return None
    axes: list[tuple[Label, ...]] = [() for _ in dims(source)]
    split: dict[Label, list[Label]] = defaultdict(list)
    for i, part in enumerate(parts):
        axes[part.first] += (i,)
        split[before[part.second]].append(i)
    wanted = tuple(label for whole in order.order for label in split[whole])
    return Push({0: Wish(tuple(axes), wanted, {i: part.dim for i, part in enumerate(parts)})}, _given)


def _elementwise(node: ir.Node, orders: Sequence[Order | None]) -> Push | None:
    [order], [output] = orders, node.outputs
    assert order is not None
    labels, sizes, shape = labels_of(order), sizes_of(order), dims(output)
    wishes, constants = {}, {}
    for i, value in enumerate(node.inputs):
        if value is None:
            continue
        own = (*(1 for _ in range(len(shape) - len(dims(value)))), *dims(value))
        if any(not same(dim, 1) and not same(dim, wanted) for dim, wanted in zip(own, shape, strict=True)):
            return None
        held = {label for dim, axis in zip(own, labels, strict=True) if not same(dim, 1) for label in axis}
        own_sizes = {label: dim if label in held else 1 for label, dim in sizes.items()}
        if (constant := constant_of(value)) is not None:
            constants[i] = _constant_in(constant, [own_sizes[label] for axis in labels for label in axis], order)
        else:
            axes = tuple(labels[len(shape) - len(dims(value)) :])
            dropped = [label for axis in labels[: len(shape) - len(dims(value))] for label in axis]
            kept = tuple(label for label in order.order if label not in dropped)
            wishes[i] = Wish(axes, kept, own_sizes)
    if not wishes:
        return None

    def build(place: Place, inputs: dict[int, ir.Value]) -> Sequence[ir.Value]:
        operands: list[ir.Value | None] = []
        for i, value in enumerate(node.inputs):
            if i in constants:
                operands.append(place.edit.constant(constants[i]))
            elif i in inputs:
                operands.append(_with_ones(place, inputs[i], wishes[i], order))
            else:
                operands.append(value)
        return [place.node(node.op_type, operands, _attributes(node), shape=order.shape, dtype=output.dtype)]

    return Push(wishes, build)


def _constant_in(constant: np.ndarray, factors: Sequence[Dim], order: Order) -> np.ndarray:
    """A constant in another order; a scalar stays one."""
    if constant.size == 1:
        return constant.reshape(())
    names = [(axis, i) for axis, own in enumerate(order.axes) for i in range(len(own))]
    split = constant.reshape([dim for dim in factors if isinstance(dim, int)])
    return split.transpose([names.index(name) for name in order.order])


def _with_ones(place: Place, value: ir.Value, wish: Wish, order: Order) -> ir.Value:
    """An operand of fewer axes, in a shape that is broadcast as before."""
    return place.reshaped(value, [wish.sizes[label] if label in wish.order else 1 for label in order.order])


def _attributes(node: ir.Node) -> dict[str, object]:
    return {name: attribute_.value for name, attribute_ in node.attributes.items()}


def _concat(node: ir.Node, orders: Sequence[Order | None]) -> Push | None:
    [order] = orders
    assert order is not None
    axis = attribute(node, "axis") % len(order.axes)
    if len(order.axes[axis]) != 1 or any(value is None or constant_of(value) is not None for value in node.inputs):
        return None
    [along], labels, sizes = labels_of(order)[axis], tuple(labels_of(order)), sizes_of(order)
    values = [value for value in node.inputs if value is not None]
    wishes = {i: Wish(labels, order.order, sizes | {along: dims(value)[axis]}) for i, value in enumerate(values)}
    place_of = order.order.index(along)

    def build(place: Place, inputs: dict[int, ir.Value]) -> Sequence[ir.Value]:
        return [place.node("Concat", [inputs[i] for i in wishes], {"axis": place_of}, shape=order.shape)]

    return Push(wishes, build)


def _wish_along(source: ir.Value, axis: int, order: Order, axes: Sequence[int]) -> tuple[Wish, Label] | None:
    """What a piece of a value, cut along an axis, wants of the value, and the name of what is cut.

    Args:
        source: the value.
        axis: of the value.
        order: wanted of the piece.
        axes: per axis of the value the piece's, -1 if it has none.
    """
    labels, sizes = labels_of(order), sizes_of(order)
    own = labels[axes[axis]] if axes[axis] >= 0 else ()
    if len(own) > 1:
        return None
    along = own[0] if own else "cut"
    wanted: list[Label] = list(order.order)
    if not own:  # behind the axis before it
        ahead = [label for i in range(axis) if axes[i] >= 0 for label in labels[axes[i]]]
        wanted.insert(wanted.index(ahead[-1]) + 1 if ahead else 0, along)
    of_axes = tuple((along,) if i == axis else labels[own_axis] for i, own_axis in enumerate(axes))
    return Wish(of_axes, tuple(wanted), sizes | {along: dims(source)[axis]}), along


def _without(wish: Wish, along: Label) -> Order:
    """The order of all but what is cut."""
    return replace(wish, sizes={**wish.sizes, along: 1}).order_of_factors()


def _split(node: ir.Node, orders: Sequence[Order | None]) -> Push | None:
    source = node.inputs[0]
    assert source is not None
    axis = attribute(node, "axis", 0) % len(dims(source))
    same_axes = range(len(dims(source)))
    wishes = [_wish_along(source, axis, order, same_axes) for order in orders if order is not None]
    if not wishes or any(wish is None for wish in wishes):
        return None
    [first, *rest] = sorted((wish for wish in wishes if wish is not None), key=lambda wish: wish[1] == "cut")
    wish, along = first
    if any(_without(other, cut) != _without(wish, along) for other, cut in rest):
        return None
    position = wish.order.index(along)
    shapes = [
        [dims(output)[axis] if i == position else dim for i, dim in enumerate(wish.shape)] for output in node.outputs
    ]

    def build(place: Place, inputs: dict[int, ir.Value]) -> Sequence[ir.Value]:
        attributes = _attributes(node) | {"axis": position}
        return place.nodes("Split", [inputs[0], *node.inputs[1:]], attributes, shapes=shapes)

    return Push({0: wish}, build)


def _slice(node: ir.Node, orders: Sequence[Order | None]) -> Push | None:
    [order], source = orders, node.inputs[0]
    steps = slice_steps(node)
    if order is None or source is None or steps is None:
        return None
    axis = steps[0]
    found = _wish_along(source, axis, order, range(len(dims(source))))
    if found is None:
        return None
    wish, along = found
    position = wish.order.index(along)
    shape = [dims(node.outputs[0])[axis] if i == position else dim for i, dim in enumerate(wish.shape)]

    def build(place: Place, inputs: dict[int, ir.Value]) -> Sequence[ir.Value]:
        numbers = [*node.inputs[1:3], place.edit.integers(position), *node.inputs[4:]]
        return [place.node("Slice", [inputs[0], *numbers], shape=shape)]

    return Push({0: wish}, build)


def _gather(node: ir.Node, orders: Sequence[Order | None]) -> Push | None:
    [order], (source, index) = orders, node.inputs
    index_ = constant_of(index)
    if order is None or source is None or index_ is None or index_.ndim:
        return None
    axis = attribute(node, "axis", 0) % len(dims(source))
    axes = [i if i < axis else i - 1 for i in range(len(dims(source)))]
    axes[axis] = -1
    found = _wish_along(source, axis, order, axes)
    if found is None:
        return None
    wish, along = found
    position = wish.order.index(along)
    shape = [dim for i, dim in enumerate(wish.shape) if i != position]

    def build(place: Place, inputs: dict[int, ir.Value]) -> Sequence[ir.Value]:
        return [place.node("Gather", [inputs[0], index], {"axis": position}, shape=shape)]

    return Push({0: wish}, build)


def _product(node: ir.Node, orders: Sequence[Order | None]) -> Push | None:
    """The output's new axis must be wanted last; what is summed over is then wanted last of the input."""
    [order], found = orders, product_of(node)
    if order is None or found is None:
        return None
    labels, sizes = labels_of(order), sizes_of(order)
    new, group = labels[found.new], None
    if found.weight.ndim == 3:
        group, *rest = new if found.group == found.new else labels[found.group]
        new = tuple(rest) if found.group == found.new else new
        if sizes[group] != len(found.weight) or (rest and found.group != found.new):
            return None
    others = order.order[: len(order.order) - len(new)]
    if not others or (*others, *new) != order.order:
        return None
    own = (group, "summed") if group is not None and found.group == found.new else ("summed",)
    axes = tuple(labels[axis] if axis >= 0 else own for axis in found.axes)
    wish = Wish(axes, (*others, "summed"), sizes | {"summed": found.weight.shape[-2]})

    def build(place: Place, inputs: dict[int, ir.Value]) -> Sequence[ir.Value]:
        shape = [sizes[label] for label in others]
        if group is not None:  # (..., G, the tokens, K) @ (G, K, O)
            i = others.index(group) + 1
            shape = [*shape[:i], product(shape[i:])]
        x = place.reshaped(inputs[found.source], [*shape, found.weight.shape[-2]])
        if group is None:
            x = rows_of(x)
            shape = list(dims(x))[:-1]
        shape.append(found.weight.shape[-1])
        y = place.node("MatMul", [x, found.weight_value or place.edit.constant(found.weight)], shape=shape)
        return [y if found.bias is None else place.node("Add", [y, place.edit.constant(found.bias)], shape=shape)]

    return Push({found.source: wish}, build)


ARRANGING: dict[str, Callable[[ir.Node, Order], Push | None]] = {
    **dict.fromkeys(("Reshape", "Squeeze", "Unsqueeze"), _through_reshape),
    "Transpose": _through_transpose,
}
COMPUTING: dict[str, Callable[[ir.Node, Sequence[Order | None]], Push | None]] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(("Conv", "Einsum", "Gemm", "MatMul"), _product),
    "Concat": _concat,
    "Gather": _gather,
    "Slice": _slice,
    "Split": _split,
}
