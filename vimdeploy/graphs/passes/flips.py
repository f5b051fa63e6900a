"""Flips around a scan or a causal convolution -> reverse.

    u, delta, B, C = flip(a), flip(b), ...                        y = SelectiveScan(a, b, ..., reverse=[1])
    y = flip(SelectiveScan(u, delta, ..., reverse=[0]))     ->

    xs = Concat(x, flip(x))       # groups x, flipped x           xs = Concat(x, x)
    y = SelectiveScan(xs, f(xs), ..., reverse=[0, 0])       ->    y = SelectiveScan(xs, f(xs), ..., reverse=[0, 1])
    y[:, :1] + flip(y[:, 1:])                                     y[:, :1] + y[:, 1:]

A flip commutes with all that treats tokens alike. So each value behind a flip is followed with what is reversed in it:
which factors of which axes (the tokens), and in which groups, if a Concat has put groups side by side. A scan takes
that into ``reverse``; a second flip ends it. A flip that reaches anything else, or the graph's output, stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from vimdeploy.graphs.passes.editor import (
    ELEMENTWISE,
    Dim,
    Editor,
    attribute,
    constant_of,
    dims,
    perm_of,
    same,
    slice_steps,
)
from vimdeploy.graphs.passes.factors import common_parts, product
from vimdeploy.ops.contract import CAUSAL_CONV1D, DOMAIN, LOW_RANK_SCAN, SELECTIVE_SCAN

_FAR = -(1 << 31)
"""What a slice that runs down to the first place ends at, or before it."""


@dataclass(frozen=True)
class _Part:
    """A factor of an axis."""

    dim: Dim
    role: str = ""
    """``"tokens"``: it is reversed; ``"groups"``: which of its places hold reversed tokens is told by ``groups``."""


_Axis = tuple[_Part, ...]


@dataclass(frozen=True)
class _Reversed:
    """What is reversed in a value."""

    axes: tuple[_Axis, ...]
    groups: tuple[bool, ...] | None
    """Per group whether its tokens are reversed; None if all of the value is."""
    flips: frozenset[ir.Value]
    """The flips that it comes from."""

    def has(self, axis: int, *roles: str) -> bool:
        """Whether an axis has a factor of these roles, of any if none is named."""
        return any(part.role and (not roles or part.role in roles) for part in self.axes[axis])

    def is_tokens(self, axis: int) -> bool:
        """Whether an axis is all that is reversed."""
        tokens = [part for parts in self.axes for part in parts if part.role == "tokens"]
        return list(self.axes[axis]) == tokens

    def same_as(self, other: _Reversed) -> bool:
        return (self.axes, self.groups) == (other.axes, other.groups)


class _StoppedError(Exception):
    """Flips have reached a node that they cannot pass."""


def flips_to_reverse(edit: Editor) -> None:
    """Take every flip out of the graph that a ``reverse`` and a second flip stand in for."""
    staying: set[ir.Value] = set()
    while stopped := (walk := _Walk(edit.graph, staying)).run():
        staying |= stopped
    for node, groups in walk.turned:
        reverse = [int(old != new) for old, new in zip(attribute(node, "reverse"), groups, strict=True)]
        node.attributes["reverse"] = ir.AttrInt64s("reverse", reverse)
    for flip in (*walk.begun, *walk.ended):
        [source, *_] = flip.inputs
        assert source is not None
        edit.replace(flip.outputs[0], source)


class _Walk:
    """One pass over the graph, in which all flips but some are taken to vanish."""

    def __init__(self, graph: ir.Graph, staying: set[ir.Value]) -> None:
        self._graph, self._staying = graph, staying
        self._states: dict[ir.Value, _Reversed] = {}
        self.begun: list[ir.Node] = []
        self.ended: list[ir.Node] = []
        self.turned: list[tuple[ir.Node, tuple[bool, ...]]] = []

    def run(self) -> frozenset[ir.Value]:
        """Follow the flips; give those that could not pass a node, none if all vanish."""
        for node in self._graph:
            given = [self._states.get(value) if value is not None else None for value in node.inputs]
            flips = frozenset[ir.Value]().union(*(state.flips for state in given if state))
            try:
                states = self._pass(node, given) if flips else self._begin(node)
                if any(self._leaves(value) for value in states):
                    return flips or frozenset(states)
            except _StoppedError:
                return flips
            self._states |= {value: replace(state, flips=flips or state.flips) for value, state in states.items()}
        return frozenset()

    def _leaves(self, value: ir.Value) -> bool:
        return value.is_graph_output() or any(use.node.graph is not self._graph for use in value.uses())

    def _begin(self, node: ir.Node) -> dict[ir.Value, _Reversed]:
        axis = _flipped_axis(node)
        if axis is None or node.outputs[0] in self._staying:
            return {}
        [output] = node.outputs
        axes = tuple((_Part(dim, "tokens" if i == axis else ""),) for i, dim in enumerate(dims(output)))
        self.begun.append(node)
        return {output: _Reversed(axes, None, frozenset([output]))}

    def _pass(self, node: ir.Node, given: Sequence[_Reversed | None]) -> dict[ir.Value, _Reversed]:
        """What is reversed in the outputs of a node that is given reversed values."""
        if any(output.shape is None for output in node.outputs):
            raise _StoppedError
        if node.domain == DOMAIN:
            state = _of_operator(node, given)
            self.turned.append((node, state.groups or (True,) * len(attribute(node, "reverse"))))
            return {node.outputs[0]: state}
        first = given[0] if given else None
        axis = _flipped_axis(node)
        if axis is not None and first and first.is_tokens(axis):
            if first.groups is not None:
                raise _StoppedError
            self.ended.append(node)
            return {}
        rule = _RULES.get(node.op_type) if not node.domain else None
        if rule is None:
            raise _StoppedError
        states = rule(node, given)
        return {output: state for output, state in zip(node.outputs, states, strict=True) if state is not None}


def _flipped_axis(node: ir.Node) -> int | None:
    """The axis that a Slice reverses as a whole."""
    axis, start, stop, step = slice_steps(node) or (0, 0, 0, 0)
    return axis if (start, step) == (-1, -1) and stop <= _FAR else None


def _stop_unless(condition: object) -> None:
    if not condition:
        raise _StoppedError


def _only(given: Sequence[_Reversed | None], *places: int) -> _Reversed:
    """What is reversed in the inputs at these places, all of them alike, and in no other."""
    states = [given[i] for i in places]
    others = [state for i, state in enumerate(given) if i not in places]
    first = states[0]
    _stop_unless(not any(others))
    if first is None or not all(state and state.same_as(first) for state in states):
        raise _StoppedError
    return first


def _of_operator(node: ir.Node, given: Sequence[_Reversed | None]) -> _Reversed:
    shape = dims(node.outputs[0])
    if node.op_type == CAUSAL_CONV1D.name:
        state = _only(given, 0)
        _stop_unless(state.is_tokens(1) and state.groups is None)
        return replace(state, axes=((_Part(shape[0]),), *state.axes[:2], (_Part(shape[3]),)))
    _stop_unless(node.op_type in (SELECTIVE_SCAN.name, LOW_RANK_SCAN.name))
    [u, delta, _, b, c, *_] = given
    if u is None or delta is None or b is None or c is None:
        raise _StoppedError
    _stop_unless(not any(state for i, state in enumerate(given) if i not in (0, 1, 3, 4)))
    for state in (u, delta, b, c):
        _stop_unless(state.groups == u.groups and state.is_tokens(2) and len(state.axes[1]) <= 1)
        _stop_unless(state.groups is None or state.has(1, "groups"))
    return u


def _elementwise(node: ir.Node, given: Sequence[_Reversed | None]) -> list[_Reversed | None]:
    state = _only(given, *(i for i, found in enumerate(given) if found))
    shape = dims(node.outputs[0])
    _stop_unless(len(shape) == len(state.axes))
    _stop_unless(all(same(product(p.dim for p in parts), dim) for parts, dim in zip(state.axes, shape, strict=True)))
    for value, found in zip(node.inputs, given, strict=True):
        _stop_unless(found or value is None or _is_even(value, state.axes))
    return [state]


def _is_even(value: ir.Value, axes: Sequence[_Axis]) -> bool:
    """Whether a value that is broadcast to these axes is the same for all tokens."""
    if value.shape is None:
        return False
    pairs = zip(reversed(dims(value)), reversed(axes), strict=False)
    return all(same(dim, 1) or not any(part.role == "tokens" for part in parts) for dim, parts in pairs)


def _transpose(node: ir.Node, given: Sequence[_Reversed | None]) -> list[_Reversed | None]:
    state = _only(given, 0)
    return [replace(state, axes=tuple(state.axes[axis] for axis in perm_of(node)))]


def _reshape(node: ir.Node, given: Sequence[_Reversed | None]) -> list[_Reversed | None]:
    """Split and merge axes; tokens may be split, groups may not."""
    state = _only(given, 0)
    before = [part for axis in state.axes for part in axis]
    shape = dims(node.outputs[0])
    parts = common_parts([part.dim for part in before], shape)
    if parts is None:
        raise _StoppedError
    axes: list[_Axis] = [() for _ in shape]
    for part in parts:
        role = before[part.first].role
        _stop_unless(role != "groups" or same(part.dim, before[part.first].dim))
        axes[part.second] += (_Part(part.dim, role),)
    return [replace(state, axes=tuple(axes))]


def _concat(node: ir.Node, given: Sequence[_Reversed | None]) -> list[_Reversed | None]:
    """Values side by side: if only some are reversed, they become groups."""
    shape = dims(node.outputs[0])
    axis = attribute(node, "axis") % len(shape)
    states = [state for state in given if state]
    first = states[0]
    rest = first.axes[:axis] + first.axes[axis + 1 :]
    _stop_unless(all(state.axes[:axis] + state.axes[axis + 1 :] == rest for state in states))
    _stop_unless(not any(state.has(axis, "tokens") for state in states))
    if len(states) == len(given) and all(state.groups == first.groups and not state.has(axis) for state in states):
        return [replace(first, axes=(*first.axes[:axis], (_Part(shape[axis]),), *first.axes[axis + 1 :]))]
    groups: list[bool] = []
    for value, state in zip(node.inputs, given, strict=True):
        length = dims(value)[axis] if value is not None and value.shape is not None else None
        if not isinstance(length, int):
            raise _StoppedError
        if state is None or state.groups is None:
            groups += [state is not None] * length
        else:
            _stop_unless(state.has(axis, "groups") and len(state.axes[axis]) == 1)
            groups += state.groups
    return [_grouped(first, axis, groups)]


def _grouped(state: _Reversed, axis: int, groups: Sequence[bool]) -> _Reversed:
    """The value with these groups along an axis, if they are groups at all."""
    mixed = not all(groups)
    parts = (_Part(len(groups), "groups" if mixed else ""),)
    return replace(
        state, axes=(*state.axes[:axis], parts, *state.axes[axis + 1 :]), groups=tuple(groups) if mixed else None
    )


def _taken(state: _Reversed, axis: int, length: Dim, places: Sequence[int] | None) -> _Reversed | None:
    """What is reversed in a piece of a value, cut along an axis; None if nothing is."""
    _stop_unless(not state.has(axis, "tokens"))
    if not state.has(axis, "groups"):
        return replace(state, axes=(*state.axes[:axis], (_Part(length),), *state.axes[axis + 1 :]))
    [first, *inner] = state.axes[axis]
    size = product(part.dim for part in inner)
    if places is None or first.role != "groups" or state.groups is None or not isinstance(size, int):
        raise _StoppedError
    groups = [state.groups[place // size] for place in places]
    _stop_unless(len(inner) == 0 or len(set(groups)) == 1)
    return _grouped(state, axis, groups) if any(groups) else None


def _slice(node: ir.Node, given: Sequence[_Reversed | None]) -> list[_Reversed | None]:
    state = _only(given, 0)
    steps = slice_steps(node)
    if steps is None:
        raise _StoppedError
    axis, start, stop, step = steps
    size = product(part.dim for part in state.axes[axis])
    places = range(size)[start:stop:step] if isinstance(size, int) else None
    return [_taken(state, axis, dims(node.outputs[0])[axis], places)]


def _split(node: ir.Node, given: Sequence[_Reversed | None]) -> list[_Reversed | None]:
    state = _only(given, 0)
    axis = attribute(node, "axis", 0) % len(state.axes)
    taken, start = [], 0
    for output in node.outputs:
        length = dims(output)[axis]
        if not isinstance(length, int):
            raise _StoppedError
        taken.append(_taken(state, axis, length, range(start, start + length)))
        start += length
    return taken


def _gather(node: ir.Node, given: Sequence[_Reversed | None]) -> list[_Reversed | None]:
    state = _only(given, 0)
    axis = attribute(node, "axis", 0) % len(state.axes)
    indices, size = constant_of(node.inputs[1]), product(part.dim for part in state.axes[axis])
    if indices is None or indices.ndim > 1 or not isinstance(size, int):
        raise _StoppedError
    taken = _taken(state, axis, indices.size, [int(place) % size for place in indices.flat])
    if taken is None or indices.ndim:
        return [taken]
    return [replace(taken, axes=(*taken.axes[:axis], *taken.axes[axis + 1 :]))]


def _matmul(node: ir.Node, given: Sequence[_Reversed | None]) -> list[_Reversed | None]:
    place = 0 if given[0] else 1
    state, other = _only(given, place), node.inputs[1 - place]
    shape = dims(node.outputs[0])
    if other is None or other.shape is None or len(state.axes) < 2 or len(dims(other)) < 2:
        raise _StoppedError
    *batch, rows, columns = state.axes
    _stop_unless(not state.has(-1 if place == 0 else -2))
    kept, new = (rows, (_Part(shape[-1]),)) if place == 0 else (columns, (_Part(shape[-2]),))
    outer: list[_Axis] = [(_Part(dim),) for dim in shape[:-2]]
    for i in range(1, len(batch) + 1):
        if any(part.role for part in batch[-i]):
            outer[-i] = batch[-i]
    ends = (kept, new) if place == 0 else (new, kept)
    axes = (*outer, *ends)
    _stop_unless(_is_even(other, [*outer, (), ()]))
    return [replace(state, axes=axes)]


def _gemm(node: ir.Node, given: Sequence[_Reversed | None]) -> list[_Reversed | None]:
    state = _only(given, 0)
    _stop_unless(not attribute(node, "transA", 0) and not state.has(1))
    axes = (state.axes[0], (_Part(dims(node.outputs[0])[1]),))
    _stop_unless(all(value is None or _is_even(value, axes) for value in node.inputs[2:]))
    return [replace(state, axes=axes)]


def _conv(node: ir.Node, given: Sequence[_Reversed | None]) -> list[_Reversed | None]:
    """A convolution of single places, whose groups are the scan's groups or divide them."""
    state = _only(given, 0)
    weight, shape = node.inputs[1], dims(node.outputs[0])
    if weight is None or weight.shape is None or not all(same(dim, 1) for dim in dims(weight)[2:]):
        raise _StoppedError
    _stop_unless(not any(attribute(node, "pads", ())) and set(attribute(node, "strides", (1,))) == {1})
    _stop_unless(not state.has(1, "tokens"))
    channels: _Axis = (_Part(shape[1]),)
    if state.has(1, "groups"):
        [first, *_], count = state.axes[1], len(state.groups or ())
        size = shape[1]
        _stop_unless(first.role == "groups" and attribute(node, "group", 1) % count == 0)
        if not isinstance(size, int):
            raise _StoppedError
        channels = (first, _Part(size // count)) if size > count else (first,)
    return [replace(state, axes=(state.axes[0], channels, *state.axes[2:]))]


def _einsum(node: ir.Node, given: Sequence[_Reversed | None]) -> list[_Reversed | None]:
    place = 0 if given[0] else 1
    state = _only(given, place)
    equation = str(attribute(node, "equation")).replace(" ", "")
    terms, arrow, result = equation.partition("->")
    letters = terms.split(",")
    _stop_unless(arrow and "." not in equation and len(letters) == len(given) == 2)
    _stop_unless(all(len(set(term)) == len(term) for term in (*letters, result)))
    own, others = letters[place], letters[1 - place]
    axes = {letter: state.axes[i] for i, letter in enumerate(own)}
    for i, letter in enumerate(own):
        _stop_unless(letter in result or not state.has(i))
        _stop_unless(letter not in others or not state.has(i, "tokens"))
    shape = dims(node.outputs[0])
    return [replace(state, axes=tuple(axes.get(letter, (_Part(shape[i]),)) for i, letter in enumerate(result)))]


def _over_axes(axes_of: Callable[[ir.Node, int], Iterable[int]]) -> Callable[..., list[_Reversed | None]]:
    """The rule of an operator that mixes the values along some axes, each of its other places alike."""

    def rule(node: ir.Node, given: Sequence[_Reversed | None]) -> list[_Reversed | None]:
        state = _only(given, 0)
        shape, axes = dims(node.outputs[0]), set(axes_of(node, len(state.axes)))
        _stop_unless(len(shape) == len(state.axes) and not any(state.has(axis) for axis in axes))
        kept = (((_Part(shape[i]),) if i in axes else parts) for i, parts in enumerate(state.axes))
        return [replace(state, axes=tuple(kept)), *(None for _ in node.outputs[1:])]

    return rule


def _last_axes(node: ir.Node, rank: int) -> Iterable[int]:
    return range(attribute(node, "axis", -1) % rank, rank)


def _one_axis(node: ir.Node, rank: int) -> Iterable[int]:
    return (attribute(node, "axis", -1) % rank,)


def _reduced_axes(node: ir.Node, rank: int) -> Iterable[int]:
    axes = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
    if axes is None or not attribute(node, "keepdims", 1):
        raise _StoppedError
    return (int(axis) % rank for axis in axes.flat)


def _shape(node: ir.Node, given: Sequence[_Reversed | None]) -> list[_Reversed | None]:
    return [None]


_RULES: dict[str, Callable[[ir.Node, Sequence[_Reversed | None]], list[_Reversed | None]]] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(("Reshape", "Unsqueeze", "Squeeze"), _reshape),
    **dict.fromkeys(("ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"), _over_axes(_reduced_axes)),
    "LayerNormalization": _over_axes(_last_axes),
    "Softmax": _over_axes(_one_axis),
    "Concat": _concat,
    "Conv": _conv,
    "Einsum": _einsum,
    "Gather": _gather,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Shape": _shape,
    "Slice": _slice,
    "Split": _split,
    "Transpose": _transpose,
}
