"""Transposes cancel around our operators, and products are written as the values lie.

    Transpose(f(Transpose(x)))                                            ->   f(x)
    Transpose(Reshape(MatMul(W, Reshape(Transpose(x)))))                  ->   MatMul(x, W^T)
    Transpose(Conv(Reshape(Transpose(x)), kernel=1, group=G))             ->   MatMul(x, W)     # x (B, G, L, E)

Each Transpose wants a value with its axes in another order, and what gives that value may be computed in that order
itself if its own inputs are: so the wish goes up the graph. It passes what only arranges values (Reshape, Transpose)
always, and what computes if nobody reads the result as it is. It ends at anything else, where it costs a Transpose
unless the value happens to lie as wanted. A connected set of wishes is granted if it moves fewer numbers than the graph
does.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from vimdeploy.graphs.passes.editor import (
    ELEMENTWISE,
    Dim,
    Editor,
    Place,
    UnknownShapeError,
    attribute,
    constant_of,
    dims,
    perm_of,
    rows_of,
    same,
    slice_steps,
)
from vimdeploy.graphs.passes.factors import common_parts, product

_Label = Hashable


@dataclass(frozen=True)
class _Order:
    """A value's axes as products of factors, and an order of the factors: what a wish is for."""

    axes: tuple[tuple[Dim, ...], ...]
    order: tuple[tuple[int, int], ...]
    """Axis and place in it of each factor."""

    @property
    def shape(self) -> tuple[Dim, ...]:
        """Of the value in that order: one dimension per factor."""
        return tuple(self.axes[axis][i] for axis, i in self.order)

    @property
    def is_natural(self) -> bool:
        return list(self.order) == sorted(self.order)

    def of_axes(self, but: int = -1) -> _Order:
        """The nearest order of whole axes, each standing where its first factor does; one may keep its factors."""
        axes = [dims if i == but or not dims else (product(dims),) for i, dims in enumerate(self.axes)]
        order = dict.fromkeys((axis, i if axis == but else 0) for axis, i in self.order)
        whole = _Order(tuple(axes), tuple(order))
        return _Wish(tuple(_labels(whole)), whole.order, _sizes(whole)).order_of_factors()


@dataclass(frozen=True)
class _Wish:
    """An order of a value in which factors may be named and may be 1."""

    axes: tuple[tuple[_Label, ...], ...]
    order: tuple[_Label, ...]
    sizes: Mapping[_Label, Dim] = field(compare=False)

    @property
    def shape(self) -> list[Dim]:
        return [self.sizes[label] for label in self.order]

    def order_of_factors(self) -> _Order:
        """The same with as few factors as there can be."""
        order = [label for label in self.order if not same(self.sizes[label], 1)]
        follows = {after: before for before, after in itertools.pairwise(order)}
        axes: list[tuple[Dim, ...]] = []
        place_of: dict[_Label, tuple[int, int]] = {}
        for axis, labels in enumerate(self.axes):
            factors: list[list[_Label]] = []
            for label in labels:
                if same(self.sizes[label], 1):
                    continue
                if factors and follows.get(label) == factors[-1][-1]:
                    factors[-1].append(label)
                else:
                    place_of[label] = (axis, len(factors))
                    factors.append([label])
            axes.append(tuple(product(self.sizes[label] for label in factor) for factor in factors))
        return _Order(tuple(axes), tuple(place_of[label] for label in order if label in place_of))


@dataclass(frozen=True)
class _Push:
    """How a node gives its outputs in the wanted orders: what it wants of its inputs, and what it makes of them."""

    wishes: dict[int, _Wish]
    build: Callable[[Place, dict[int, ir.Value]], Sequence[ir.Value]]
    """(place, inputs in the shapes of the wishes) -> outputs, of any shapes that have the wanted order."""
    gives: list[tuple[ir.Value, _Order]] = field(default_factory=list)
    """The node's outputs, and the order of each that is made."""


def cancel_transposes(edit: Editor) -> None:
    """Grant the wishes of the graph's Transposes that make it cheaper."""
    plan = _Plan(edit.graph)
    built = _Built(plan)
    for node in list(edit.graph):
        place = edit.before(node)
        with contextlib.suppress(UnknownShapeError):  # then the Transposes behind it stay
            for output, order in plan.given_by(node):
                built.value(place, output, order)
            if (wish := plan.wish_of(node)) is not None and (source := node.inputs[0]) is not None:
                value = built.value(place, source, wish)
                edit.replace(node.outputs[0], place.reshaped(value, dims(node.outputs[0])))


class _Plan:
    """Which wishes each value is read with, and which nodes pass them on."""

    def __init__(self, graph: ir.Graph) -> None:
        self._wishes: dict[ir.Value, dict[_Order, None]] = defaultdict(dict)  # in the order in which they are found
        self._turned: Counter[ir.Value] = Counter()
        """How many reads of a value are in other orders only."""
        self.pushes: dict[tuple[ir.Value, _Order], _Push] = {}
        """How a wish is passed on by the node that gives the value."""
        self.whole: dict[tuple[ir.Value, _Order], _Order] = {}
        """The order that a value is computed in if another one is wanted beyond that."""
        self._given: dict[ir.Value, list[_Order]] = defaultdict(list)
        self._starts: dict[ir.Node, _Order] = {}
        self._group: dict[ir.Value, ir.Value] = {}
        self._saved: Counter[ir.Value] = Counter()
        for node in reversed(list(graph)):
            self._consider(node)
        for value in graph.inputs:
            self._end(value)

        saved: Counter[ir.Value] = Counter()
        for value, numbers in self._saved.items():
            saved[self._group_of(value)] += numbers
        self._granted = {group for group, numbers in saved.items() if numbers > 0}

    def given_by(self, node: ir.Node) -> list[tuple[ir.Value, _Order]]:
        """What a node gives in other orders, of the wishes that are granted."""
        granted = [output for output in node.outputs if self._group_of(output) in self._granted]
        return [(output, order) for output in granted for order in self._given[output]]

    def wish_of(self, node: ir.Node) -> _Order | None:
        """What a Transpose whose output is read as it is wants of its input, if that is granted."""
        return self._starts.get(node) if self._group_of(node.outputs[0]) in self._granted else None

    def _consider(self, node: ir.Node) -> None:
        """Take in a node whose readers have all been considered."""
        known = all(value is None or value.shape is not None for value in (*node.inputs, *node.outputs))
        if known and not node.domain and node.op_type in _ARRANGING:
            self._consider_arranging(node, _ARRANGING[node.op_type])
        elif not (known and not node.domain and node.op_type in _COMPUTING and self._push(node)):
            for output in node.outputs:
                self._end(output)

    def _consider_arranging(self, node: ir.Node, through: Callable[[ir.Node, _Order], _Push | None]) -> None:
        [output], source = node.outputs, node.inputs[0]
        assert source is not None
        pushes = {order: through(node, order) for order in self._wishes[output]}
        passed = {order: push for order, push in pushes.items() if push is not None}
        for order, push in passed.items():
            self._give(push, output, order)
        wanted = [push.wishes[0].order_of_factors() for push in passed.values()]
        stays = len(passed) < len(pushes) or self._is_read_as_it_is(output)
        if len(passed) < len(pushes):
            self._end(output)
        if node.op_type == "Transpose":
            self._saved[output] += _size(dims(output))
            if stays:
                self._starts[node] = _wish_of_transpose(node).order_of_factors()
                wanted.append(self._starts[node])
                stays = False
        self._want(source, wanted, output, stays)

    def _push(self, node: ir.Node) -> bool:
        """Let a node pass on what is wanted of it; False if it cannot.

        It computes whole axes in one order. What is wanted beyond that costs a Transpose of its output.
        """
        read = [output for output in node.outputs if list(output.uses()) or output.is_graph_output()]
        split = _axis_of_groups(node)
        whole = {output: {order.of_axes(split) for order in self._wishes[output]} for output in read}
        if not read or any(len(orders) != 1 for orders in whole.values()) or any(map(self._is_read_as_it_is, read)):
            return False
        orders = [next(iter(whole[output])) if output in whole else None for output in node.outputs]
        if all(order is None or order.is_natural for order in orders):
            return False
        push = _COMPUTING[node.op_type](node, orders)
        if push is None:
            return False
        for output, order in zip(node.outputs, orders, strict=True):
            if order is not None:
                self._join(output, read[0])
                self._give(push, output, order)
                beyond = [other for other in self._wishes[output] if other != order]
                self.whole |= {(output, other): order for other in beyond}
                self._saved[output] -= len(beyond) * _size(dims(output))
        for i, wish in push.wishes.items():
            source = node.inputs[i]
            assert source is not None
            self._want(source, [wish.order_of_factors()], read[0])
        return True

    def _give(self, push: _Push, output: ir.Value, order: _Order) -> None:
        push.gives.append((output, order))
        self.pushes[output, order] = push
        self._given[output].append(order)

    def _want(self, value: ir.Value, orders: Sequence[_Order], by: ir.Value, as_it_is: bool = False) -> None:
        """Note one reader's wishes."""
        self._wishes[value] |= dict.fromkeys(orders)
        if orders:
            self._join(value, by)
        if not as_it_is:
            self._turned[value] += 1

    def _end(self, value: ir.Value) -> None:
        """Wishes go no further than this value: each costs a Transpose."""
        turned = [order for order in self._wishes[value] if not order.is_natural]
        if turned:
            self._saved[value] -= len(turned) * _size(dims(value))

    def _is_read_as_it_is(self, value: ir.Value) -> bool:
        return value.is_graph_output() or self._turned[value] < len(list(value.uses()))

    def _join(self, value: ir.Value, other: ir.Value) -> None:
        self._group[self._group_of(value)] = self._group_of(other)

    def _group_of(self, value: ir.Value) -> ir.Value:
        """What stands for all values whose wishes hang together with this one's."""
        while (above := self._group.get(value, value)) is not value:
            value = self._group[value] = self._group.get(above, above)
        return value


def _size(shape: Iterable[Dim]) -> int:
    """How many numbers a value has, but for its free dimensions, which the values of a group have in common."""
    return math.prod(dim for dim in shape if isinstance(dim, int))


class _Built:
    """Values in the orders that are wanted of them, each made once."""

    def __init__(self, plan: _Plan) -> None:
        self._plan = plan
        self._values: dict[tuple[ir.Value, _Order], ir.Value] = {}

    def value(self, place: Place, value: ir.Value, order: _Order) -> ir.Value:
        """A value with one dimension per factor, in the wanted order."""
        if (value, order) not in self._values:
            push, whole, node = (
                self._plan.pushes.get((value, order)),
                self._plan.whole.get((value, order)),
                value.producer(),
            )
            own = place if node is None else place.like(node)
            if whole is not None:
                self._values[value, order] = _turned_on(own, self.value(place, value, whole), whole, order)
            elif push is None or node is None:
                self._values[value, order] = _turned(own, value, order)
            else:
                self._build(own, node, push)
        return self._values[value, order]

    def _build(self, place: Place, node: ir.Node, push: _Push) -> None:
        inputs = {}
        for i, wish in push.wishes.items():
            source = node.inputs[i]
            assert source is not None
            inputs[i] = place.reshaped(self.value(place, source, wish.order_of_factors()), wish.shape)
        made = dict(zip(node.outputs, push.build(place, inputs), strict=True))
        for output, order in push.gives:
            self._values[output, order] = place.reshaped(made[output], order.shape)


def _turned_on(place: Place, value: ir.Value, whole: _Order, order: _Order) -> ir.Value:
    """A value whose axes are in an order of whole axes, in an order of their factors."""
    axes = [axis for axis, _ in whole.order]
    factors = [(axis, i) for axis in axes for i in range(len(order.axes[axis]))]
    split = place.reshaped(value, [order.axes[axis][i] for axis, i in factors])
    return place.transposed(split, [factors.index(factor) for factor in order.order])


def _turned(place: Place, value: ir.Value, order: _Order) -> ir.Value:
    """A value as it is, then in another order."""
    factors = [(axis, i) for axis, dims_ in enumerate(order.axes) for i in range(len(dims_))]
    split = place.reshaped(value, [order.axes[axis][i] for axis, i in factors])
    return place.transposed(split, [factors.index(factor) for factor in order.order])


def _wish_of_transpose(node: ir.Node) -> _Wish:
    """What a Transpose wants if its output is wanted as it is."""
    [source] = node.inputs
    assert source is not None
    axes = tuple((axis,) for axis in range(len(dims(source))))
    return _Wish(axes, tuple(perm_of(node)), dict(enumerate(dims(source))))


def _sizes(order: _Order) -> dict[_Label, Dim]:
    return {(axis, i): dim for axis, factors in enumerate(order.axes) for i, dim in enumerate(factors)}


def _labels(order: _Order) -> list[tuple[_Label, ...]]:
    """The factors of each axis by name."""
    return [tuple((axis, i) for i in range(len(factors))) for axis, factors in enumerate(order.axes)]


def _given(place: Place, inputs: dict[int, ir.Value]) -> Sequence[ir.Value]:
    return [inputs[0]]


def _through_transpose(node: ir.Node, order: _Order) -> _Push | None:
    labels, perm = _labels(order), list(perm_of(node))
    axes = tuple(labels[perm.index(axis)] for axis in range(len(perm)))
    return _Push({0: _Wish(axes, order.order, _sizes(order))}, _given)


def _through_reshape(node: ir.Node, order: _Order) -> _Push | None:
    """Split the factors until the input's axes are products of them."""
    [source, *_] = node.inputs
    assert source is not None
    before = [label for labels in _labels(order) for label in labels]
    sizes = _sizes(order)
    parts = common_parts(dims(source), [sizes[label] for label in before])
    if parts is None:
        return None
    axes: list[tuple[_Label, ...]] = [() for _ in dims(source)]
    split: dict[_Label, list[_Label]] = defaultdict(list)
    for i, part in enumerate(parts):
        axes[part.first] += (i,)
        split[before[part.second]].append(i)
    wanted = tuple(label for whole in order.order for label in split[whole])
    return _Push({0: _Wish(tuple(axes), wanted, {i: part.dim for i, part in enumerate(parts)})}, _given)


def _elementwise(node: ir.Node, orders: Sequence[_Order | None]) -> _Push | None:
    [order], [output] = orders, node.outputs
    assert order is not None
    labels, sizes, shape = _labels(order), _sizes(order), dims(output)
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
            wishes[i] = _Wish(axes, kept, own_sizes)
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

    return _Push(wishes, build)


def _constant_in(constant: np.ndarray, factors: Sequence[Dim], order: _Order) -> np.ndarray:
    """A constant in another order; a scalar stays one."""
    if constant.size == 1:
        return constant.reshape(())
    names = [(axis, i) for axis, own in enumerate(order.axes) for i in range(len(own))]
    split = constant.reshape([dim for dim in factors if isinstance(dim, int)])
    return split.transpose([names.index(name) for name in order.order])


def _with_ones(place: Place, value: ir.Value, wish: _Wish, order: _Order) -> ir.Value:
    """An operand of fewer axes, in a shape that is broadcast as before."""
    return place.reshaped(value, [wish.sizes[label] if label in wish.order else 1 for label in order.order])


def _attributes(node: ir.Node) -> dict[str, object]:
    return {name: attribute_.value for name, attribute_ in node.attributes.items()}


def _concat(node: ir.Node, orders: Sequence[_Order | None]) -> _Push | None:
    [order] = orders
    assert order is not None
    axis = attribute(node, "axis") % len(order.axes)
    if len(order.axes[axis]) != 1 or any(value is None or constant_of(value) is not None for value in node.inputs):
        return None
    [along], labels, sizes = _labels(order)[axis], tuple(_labels(order)), _sizes(order)
    values = [value for value in node.inputs if value is not None]
    wishes = {i: _Wish(labels, order.order, sizes | {along: dims(value)[axis]}) for i, value in enumerate(values)}
    place_of = order.order.index(along)

    def build(place: Place, inputs: dict[int, ir.Value]) -> Sequence[ir.Value]:
        return [place.node("Concat", [inputs[i] for i in wishes], {"axis": place_of}, shape=order.shape)]

    return _Push(wishes, build)


def _wish_along(source: ir.Value, axis: int, order: _Order, axes: Sequence[int]) -> tuple[_Wish, _Label] | None:
    """What a piece of a value, cut along an axis, wants of the value, and the name of what is cut.

    Args:
        source: the value.
        axis: of the value.
        order: wanted of the piece.
        axes: per axis of the value the piece's, -1 if it has none.
    """
    labels, sizes = _labels(order), _sizes(order)
    own = labels[axes[axis]] if axes[axis] >= 0 else ()
    if len(own) > 1:
        return None
    along = own[0] if own else "cut"
    wanted: list[_Label] = list(order.order)
    if not own:  # behind the axis before it
        ahead = [label for i in range(axis) if axes[i] >= 0 for label in labels[axes[i]]]
        wanted.insert(wanted.index(ahead[-1]) + 1 if ahead else 0, along)
    of_axes = tuple((along,) if i == axis else labels[own_axis] for i, own_axis in enumerate(axes))
    return _Wish(of_axes, tuple(wanted), sizes | {along: dims(source)[axis]}), along


def _without(wish: _Wish, along: _Label) -> _Order:
    """The order of all but what is cut."""
    return replace(wish, sizes={**wish.sizes, along: 1}).order_of_factors()


def _split(node: ir.Node, orders: Sequence[_Order | None]) -> _Push | None:
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

    return _Push({0: wish}, build)


def _slice(node: ir.Node, orders: Sequence[_Order | None]) -> _Push | None:
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

    return _Push({0: wish}, build)


def _gather(node: ir.Node, orders: Sequence[_Order | None]) -> _Push | None:
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

    return _Push({0: wish}, build)


@dataclass(frozen=True)
class _Product:
    """A product with a constant along one axis of a value."""

    source: int
    """Which input the value is."""
    axes: tuple[int, ...]
    """Per axis of the value the output's, -1 for the axis that is summed over."""
    new: int
    """The output's axis of the products."""
    weight: np.ndarray
    """(K, O), or (G, K, O) with groups."""
    group: int = -1
    """The output's axis of the groups; if it is ``new``, they are the first factor of that."""
    bias: np.ndarray | None = None
    """(O,), or (G, 1, O)."""
    weight_value: ir.Value | None = None
    """The weight if the graph has it as it is."""


def _product(node: ir.Node, orders: Sequence[_Order | None]) -> _Push | None:
    """The output's new axis must be wanted last; what is summed over is then wanted last of the input."""
    [order], found = orders, _product_of(node)
    if order is None or found is None:
        return None
    labels, sizes = _labels(order), _sizes(order)
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
    wish = _Wish(axes, (*others, "summed"), sizes | {"summed": found.weight.shape[-2]})

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

    return _Push({found.source: wish}, build)


def _product_of(node: ir.Node) -> _Product | None:
    """What a node multiplies, if it is a product with a constant."""
    weights = [constant_of(value) for value in node.inputs]
    rank = len(dims(node.outputs[0]))
    if node.op_type == "MatMul" and [weight is None for weight in weights] in ([True, False], [False, True]):
        source = 0 if weights[0] is None else 1
        return _matmul_product(node, source, weights[1 - source], rank)
    if node.op_type == "Gemm":
        return _gemm_product(node, weights)
    if node.op_type == "Conv" and rank == 3:
        return _conv_product(node, weights)
    if node.op_type == "Einsum" and len(weights) == 2:
        return _einsum_product(node, weights)
    return None


def _axis_of_groups(node: ir.Node) -> int:
    """The axis whose factors a grouped convolution needs apart; -1 for any other node."""
    return 1 if node.op_type == "Conv" and attribute(node, "group", 1) > 1 else -1


def _matmul_product(node: ir.Node, source: int, weight: np.ndarray | None, rank: int) -> _Product | None:
    x = node.inputs[source]
    if weight is None or x is None or weight.ndim < 2 or len(dims(x)) != rank:
        return None
    kept = weight
    while weight.ndim > 2 and len(weight) == 1:
        weight = weight[0]
    if weight.ndim > 3 or (weight.ndim == 3 and (rank < 3 or not same(dims(x)[-3], len(weight)))):
        return None
    outer, group = range(rank - 2), rank - 3 if weight.ndim == 3 else -1
    if source == 0:
        value = node.inputs[1] if weight is kept else None
        return _Product(0, (*outer, rank - 2, -1), rank - 1, weight, group, weight_value=value)
    return _Product(1, (*outer, -1, rank - 1), rank - 2, weight.swapaxes(-1, -2), group)


def _gemm_product(node: ir.Node, weights: Sequence[np.ndarray | None]) -> _Product | None:
    [x, weight, *rest] = weights
    bias = rest[0].reshape(-1) if rest and rest[0] is not None else None
    scaled = attribute(node, "alpha", 1.0) != 1 or (bias is not None and attribute(node, "beta", 1.0) != 1)
    if x is not None or weight is None or attribute(node, "transA", 0) or scaled:
        return None
    if len(node.inputs) > 2 and node.inputs[2] is not None and (bias is None or bias.size != dims(node.outputs[0])[1]):
        return None
    weight = weight.T if attribute(node, "transB", 0) else weight
    return _Product(0, (0, -1), 1, weight, bias=bias)


def _conv_product(node: ir.Node, weights: Sequence[np.ndarray | None]) -> _Product | None:
    """A convolution of single tokens, whose groups are the first factor of its channels."""
    [x, weight, *rest] = weights
    bias, groups = rest[0] if rest else None, attribute(node, "group", 1)
    plain = not any(attribute(node, "pads", ())) and set(attribute(node, "strides", (1,))) == {1}
    if x is not None or weight is None or weight.shape[2] != 1 or not plain:
        return None
    if len(node.inputs) > 2 and node.inputs[2] is not None and bias is None:
        return None
    if groups == 1:
        return _Product(0, (0, -1, 2), 1, weight[:, :, 0].T, bias=bias)
    by_group = weight.reshape(groups, -1, weight.shape[1]).swapaxes(1, 2)  # (G, K, O)
    return _Product(0, (0, -1, 2), 1, by_group, 1, None if bias is None else bias.reshape(groups, 1, -1))


def _einsum_product(node: ir.Node, weights: Sequence[np.ndarray | None]) -> _Product | None:
    terms, arrow, result = str(attribute(node, "equation")).replace(" ", "").partition("->")
    source = 0 if weights[0] is None else 1
    weight, letters = weights[1 - source], terms.split(",")
    if not arrow or "." in terms or weight is None or weights[source] is not None:
        return None
    own, others = letters[source], letters[1 - source]
    if any(len(set(term)) < len(term) for term in (own, others, result)):
        return None
    summed = [letter for letter in others if letter in own and letter not in result]
    groups = [letter for letter in others if letter in own and letter in result]
    new = [letter for letter in others if letter not in own and letter in result]
    lost = set(own) - set(result) - set(summed)
    if len(summed) != 1 or len(new) != 1 or len(groups) > 1 or len(others) != len(groups) + 2 or lost:
        return None
    weight = weight.transpose([others.index(letter) for letter in (*groups, *summed, *new)])
    axes = tuple(result.find(letter) for letter in own)
    return _Product(source, axes, result.index(new[0]), weight, result.find(groups[0]) if groups else -1)


_ARRANGING: dict[str, Callable[[ir.Node, _Order], _Push | None]] = {
    **dict.fromkeys(("Reshape", "Squeeze", "Unsqueeze"), _through_reshape),
    "Transpose": _through_transpose,
}
_COMPUTING: dict[str, Callable[[ir.Node, Sequence[_Order | None]], _Push | None]] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(("Conv", "Einsum", "Gemm", "MatMul"), _product),
    "Concat": _concat,
    "Gather": _gather,
    "Slice": _slice,
    "Split": _split,
}
