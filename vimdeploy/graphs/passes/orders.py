"""The axes of values as products of factors, and the orders of these that readers wish for."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from vimdeploy.graphs.passes.editor import Dim, dims, perm_of, same
from vimdeploy.graphs.passes.factors import product

Label = Hashable


@dataclass(frozen=True)
class Order:
    """A value's axes as products of factors, and an order of the factors: what a wish is for."""

    axes: tuple[tuple[Dim, ...], ...]
    order: tuple[tuple[int, int], ...]
    """Axis and place in it of each factor."""

    @property
    def shape(self) -> tuple[Dim, ...]:
        """The value's in that order: one dimension per factor."""
        return tuple(self.axes[axis][i] for axis, i in self.order)

    @property
    def is_natural(self) -> bool:
        """Whether the value lies so as it is."""
        return list(self.order) == sorted(self.order)

    def of_axes(self, but: int = -1) -> Order:
        """The nearest order of whole axes, each standing where its first factor does; one may keep its factors."""
        axes = [dims if i == but or not dims else (product(dims),) for i, dims in enumerate(self.axes)]
        order = dict.fromkeys((axis, i if axis == but else 0) for axis, i in self.order)
        whole = Order(tuple(axes), tuple(order))
        return Wish(tuple(labels_of(whole)), whole.order, sizes_of(whole)).order_of_factors()


@dataclass(frozen=True)
class Wish:
    """An order of a value in which factors may be named and may be 1."""

    axes: tuple[tuple[Label, ...], ...]
    order: tuple[Label, ...]
    sizes: Mapping[Label, Dim] = field(compare=False)

    @property
    def shape(self) -> list[Dim]:
        """One dimension per factor, in that order."""
        return [self.sizes[label] for label in self.order]

    def order_of_factors(self) -> Order:
        """The same with as few factors as there can be."""
        order = [label for label in self.order if not same(self.sizes[label], 1)]
        follows = {after: before for before, after in itertools.pairwise(order)}
        axes: list[tuple[Dim, ...]] = []
        place_of: dict[Label, tuple[int, int]] = {}
        for axis, labels in enumerate(self.axes):
            factors: list[list[Label]] = []
            for label in labels:
                if same(self.sizes[label], 1):
                    continue
                if factors and follows.get(label) == factors[-1][-1]:
                    factors[-1].append(label)
                else:
                    place_of[label] = (axis, len(factors))
                    factors.append([label])
            axes.append(tuple(product(self.sizes[label] for label in factor) for factor in factors))
        return Order(tuple(axes), tuple(place_of[label] for label in order if label in place_of))


def wish_of_transpose(node: ir.Node) -> Wish:
    """What a Transpose wants if its output is wanted as it is."""
    [source] = node.inputs
    assert source is not None
    axes = tuple((axis,) for axis in range(len(dims(source))))
    return Wish(axes, tuple(perm_of(node)), dict(enumerate(dims(source))))


def sizes_of(order: Order) -> dict[Label, Dim]:
    """The sizes of the factors by name."""
    return {(axis, i): dim for axis, factors in enumerate(order.axes) for i, dim in enumerate(factors)}


def labels_of(order: Order) -> list[tuple[Label, ...]]:
    """The factors of each axis by name."""
    return [tuple((axis, i) for i in range(len(factors))) for axis, factors in enumerate(order.axes)]
