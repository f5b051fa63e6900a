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
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

import onnx_ir as ir

from vimdeploy.graphs.passes.editor import Dim, Editor, Place, UnknownShapeError, dims
from vimdeploy.graphs.passes.orders import Order, wish_of_transpose
from vimdeploy.graphs.passes.products import axis_of_groups
from vimdeploy.graphs.passes.pushes import ARRANGING, COMPUTING, Push


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
        self._wishes: dict[ir.Value, dict[Order, None]] = defaultdict(dict)  # in the order in which they are found
        self._turned: Counter[ir.Value] = Counter()
        """How many reads of a value are in other orders only."""
        self.pushes: dict[tuple[ir.Value, Order], Push] = {}
        """How a wish is passed on by the node that gives the value."""
        self.whole: dict[tuple[ir.Value, Order], Order] = {}
        """The order that a value is computed in if another one is wanted beyond that."""
        self._given: dict[ir.Value, list[Order]] = defaultdict(list)
        self._starts: dict[ir.Node, Order] = {}
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

    def given_by(self, node: ir.Node) -> list[tuple[ir.Value, Order]]:
        """What a node gives in other orders, of the wishes that are granted."""
        granted = [output for output in node.outputs if self._group_of(output) in self._granted]
        return [(output, order) for output in granted for order in self._given[output]]

    def wish_of(self, node: ir.Node) -> Order | None:
        """What a Transpose whose output is read as it is wants of its input, if that is granted."""
        return self._starts.get(node) if self._group_of(node.outputs[0]) in self._granted else None

    def _consider(self, node: ir.Node) -> None:
        """Take in a node whose readers have all been considered."""
        known = all(value is None or value.shape is not None for value in (*node.inputs, *node.outputs))
        if known and not node.domain and node.op_type in ARRANGING:
            self._consider_arranging(node, ARRANGING[node.op_type])
        elif not (known and not node.domain and node.op_type in COMPUTING and self._push(node)):
            for output in node.outputs:
                self._end(output)

    def _consider_arranging(self, node: ir.Node, through: Callable[[ir.Node, Order], Push | None]) -> None:
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
                self._starts[node] = wish_of_transpose(node).order_of_factors()
                wanted.append(self._starts[node])
                stays = False
        self._want(source, wanted, output, stays)

    def _push(self, node: ir.Node) -> bool:
        """Let a node pass on what is wanted of it; False if it cannot.

        It computes whole axes in one order. What is wanted beyond that costs a Transpose of its output.
        """
        read = [output for output in node.outputs if list(output.uses()) or output.is_graph_output()]
        split = axis_of_groups(node)
        whole = {output: {order.of_axes(split) for order in self._wishes[output]} for output in read}
        if not read or any(len(orders) != 1 for orders in whole.values()) or any(map(self._is_read_as_it_is, read)):
            return False
        orders = [next(iter(whole[output])) if output in whole else None for output in node.outputs]
        if all(order is None or order.is_natural for order in orders):
            return False
        push = COMPUTING[node.op_type](node, orders)
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

    def _give(self, push: Push, output: ir.Value, order: Order) -> None:
        push.gives.append((output, order))
        self.pushes[output, order] = push
        self._given[output].append(order)

    def _want(self, value: ir.Value, orders: Sequence[Order], by: ir.Value, as_it_is: bool = False) -> None:
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
        self._values: dict[tuple[ir.Value, Order], ir.Value] = {}

    def value(self, place: Place, value: ir.Value, order: Order) -> ir.Value:
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

    def _build(self, place: Place, node: ir.Node, push: Push) -> None:
        inputs = {}
        for i, wish in push.wishes.items():
            source = node.inputs[i]
            assert source is not None
            inputs[i] = place.reshaped(self.value(place, source, wish.order_of_factors()), wish.shape)
        made = dict(zip(node.outputs, push.build(place, inputs), strict=True))
        for output, order in push.gives:
            self._values[output, order] = place.reshaped(made[output], order.shape)


def _turned_on(place: Place, value: ir.Value, whole: Order, order: Order) -> ir.Value:
    """A value whose axes are in an order of whole axes, in an order of their factors."""
    axes = [axis for axis, _ in whole.order]
    factors = [(axis, i) for axis in axes for i in range(len(order.axes[axis]))]
    split = place.reshaped(value, [order.axes[axis][i] for axis, i in factors])
    return place.transposed(split, [factors.index(factor) for factor in order.order])


def _turned(place: Place, value: ir.Value, order: Order) -> ir.Value:
    """A value as it is, then in another order."""
    factors = [(axis, i) for axis, dims_ in enumerate(order.axes) for i in range(len(dims_))]
    split = place.reshaped(value, [order.axes[axis][i] for axis, i in factors])
    return place.transposed(split, [factors.index(factor) for factor in order.order])
