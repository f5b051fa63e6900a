"""Slices written in place -> Concat.

    y = x.new_empty(B, 4, C, L)            ScatterElements, ScatterND         Concat(axis=1)
    y[:, 0], y[:, 1] = a, b          ->    between Transposes, each     ->    a, b and flip(Concat(a, b))
    y[:, 2:4] = y[:, :2].flip(-1)          over the one before

    y[..., 0::2, 0::2] = a                                                    a, b -> every second column
    y[..., 0::2, 1::2] = b  ...                                               c, d -> every second column
    y[..., 1::2, 1::2] = d                                                    both -> every second row (Concat, Reshape)

Only what is written as a whole, by whole values, is rewritten: then what stood there before does not matter.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from vimdeploy.graphs.passes.editor import (
    Editor,
    Place,
    attribute,
    constant_of,
    dims,
    number_of,
    perm_of,
    same,
    slice_steps,
)

_END = 1 << 62
"""What a slice up to the end ends at, or beyond it."""


@dataclass(frozen=True)
class _Whole:
    """A value, its axes in another order."""

    value: ir.Value
    perm: tuple[int, ...]


@dataclass(frozen=True)
class _Blocks:
    """Parts that follow each other along an axis, with their lengths."""

    axis: int
    parts: tuple[tuple[_Parts, int], ...]


@dataclass(frozen=True)
class _Strides:
    """Parts that take turns along an axis: the first has places 0, s, 2s, ... if there are s."""

    axis: int
    parts: tuple[_Parts, ...]


_Parts = _Whole | _Blocks | _Strides | None
"""What a value was put together from; None is what was there before the first write."""


@dataclass(frozen=True)
class _Range:
    """Places along an axis: start, start + step, ...; ``length`` is the axis's and ``count`` theirs, if known."""

    axis: int
    start: int
    step: int
    count: int | None
    length: int | None

    @property
    def everything(self) -> bool:
        return self.start == 0 and self.step == 1 and self.count == self.length


class _NotUnderstoodError(Exception):
    """A node that is left as it is."""


def scatters_to_concats(edit: Editor) -> None:
    """Let every reader of a value that was written slice by slice read the slices put together."""
    parts: dict[ir.Value, _Parts] = {}
    together: dict[ir.Value, ir.Value] = {}
    for node in list(edit.graph):
        try:
            parts[node.outputs[0]] = _parts_of(node, parts)
        except _NotUnderstoodError:
            for i, value in enumerate(node.inputs):
                if value is not None and _is_complete(parts.get(value)):
                    node.replace_input_with(i, _together(edit, value, parts, together))
    for value in list(edit.graph.outputs):
        if _is_complete(parts.get(value)):
            edit.replace(value, _together(edit, value, parts, together))


def _parts_of(node: ir.Node, parts: dict[ir.Value, _Parts]) -> _Parts:
    """What the output of a node is put together from, if something was written into it."""
    if node.domain or any(value is None or value.shape is None for value in (*node.inputs[:1], *node.outputs)):
        raise _NotUnderstoodError
    if node.op_type in ("ScatterElements", "ScatterND"):
        return _written(node, parts)
    if node.inputs and node.inputs[0] in parts:
        before = parts[node.inputs[0]]
        if node.op_type == "Transpose":
            return _transposed(before, perm_of(node))
        if node.op_type == "Slice" and before is not None:
            return _read(before, _range_of_slice(node))
    raise _NotUnderstoodError


def _written(node: ir.Node, parts: dict[ir.Value, _Parts]) -> _Parts:
    data, indices, updates = _required(*node.inputs)
    if attribute(node, "reduction", "none") != "none" or updates.shape is None:
        raise _NotUnderstoodError
    by_line = node.op_type == "ScatterND"
    places = _range_of_lines(indices, dims(data)[0]) if by_line else _range_of_elements(node)
    if places.count is None and not same(dims(updates)[0] * places.step, dims(data)[0]):
        raise _NotUnderstoodError
    return _write(parts.get(data), places, _parts_of_value(updates, parts))


def _required(*values: ir.Value | None) -> list[ir.Value]:
    if any(value is None for value in values):
        raise _NotUnderstoodError
    return [value for value in values if value is not None]


def _parts_of_value(value: ir.Value, parts: dict[ir.Value, _Parts]) -> _Parts:
    if value in parts:
        return parts[value]
    producer = value.producer()
    if producer is not None and producer.op_type == "Transpose" and producer.inputs[0] is not None:
        return _transposed(_parts_of_value(producer.inputs[0], parts), perm_of(producer))
    return _Whole(value, tuple(range(len(dims(value)))))


def _range_of_elements(node: ir.Node) -> _Range:
    """The place that a ScatterElements writes: its indices are one number, as large as a whole slice."""
    data, indices, updates = _required(*node.inputs)
    axis = attribute(node, "axis", 0) % len(dims(data))
    index, expand = constant_of(indices), indices.producer()
    if index is None and expand is not None and expand.op_type == "Expand":
        shape = expand.inputs[1].producer() if expand.inputs[1] is not None else None
        if shape is not None and shape.op_type == "Shape" and shape.inputs[0] is updates:
            index = constant_of(expand.inputs[0])
    length, pairs = dims(data)[axis], zip(dims(data), dims(updates), strict=True)
    whole = all(same(*pair) for i, pair in enumerate(pairs) if i != axis) and dims(updates)[axis] == 1
    if index is None or index.size == 0 or np.ptp(index) or not whole or not isinstance(length, int):
        raise _NotUnderstoodError
    return _Range(axis, int(index.flat[0]) % length, 1, 1, length)


def _range_of_lines(indices: ir.Value, length: ir.SymbolicDim | int) -> _Range:
    """The places that a ScatterND writes along the first axis."""
    known = constant_of(indices)
    if known is not None:
        if known.ndim != 2 or known.shape[1] != 1 or not isinstance(length, int):
            raise _NotUnderstoodError
        return _range_of_places(0, known[:, 0].tolist(), length)
    unsqueeze = indices.producer()
    if unsqueeze is None or unsqueeze.op_type != "Unsqueeze" or number_of(unsqueeze.inputs[1]) not in (-1, 1):
        raise _NotUnderstoodError
    places, steps = unsqueeze.inputs[0], None
    if places is not None and (node := places.producer()) is not None and node.op_type == "Slice":
        places, steps = node.inputs[0], slice_steps(node)
        if steps is None:
            raise _NotUnderstoodError
    numbers = places.producer() if places is not None else None
    if numbers is None or numbers.op_type != "Range" or not _counts_all(numbers, length):
        raise _NotUnderstoodError
    _, start, stop, step = steps or (0, 0, _END, 1)
    return _range(0, start, stop, step, length)


def _counts_all(numbers: ir.Node, length: ir.SymbolicDim | int) -> bool:
    """Whether a Range goes over all places of an axis of this length: its end is asked of a shape."""
    start, end, step = numbers.inputs
    gather = end.producer() if end is not None else None
    if number_of(start) != 0 or number_of(step) != 1 or gather is None or gather.op_type != "Gather":
        return False
    shape = gather.inputs[0].producer() if gather.inputs[0] is not None else None
    axis = number_of(gather.inputs[1])
    if shape is None or shape.op_type != "Shape" or attribute(shape, "start", 0) or axis is None:
        return False
    asked = shape.inputs[0]
    return asked is not None and asked.shape is not None and same(dims(asked)[axis], length)


def _range_of_slice(node: ir.Node) -> _Range:
    [data], steps = _required(node.inputs[0]), slice_steps(node)
    if steps is None:
        raise _NotUnderstoodError
    axis, start, stop, step = steps
    return _range(axis, start, stop, step, dims(data)[axis])


def _range(axis: int, start: int, stop: int, step: int, length: ir.SymbolicDim | int) -> _Range:
    if isinstance(length, int):
        return _range_of_places(axis, list(range(length))[start:stop:step], length)
    if not 0 <= start < step or stop < _END:
        raise _NotUnderstoodError
    return _Range(axis, start, step, None, None)


def _range_of_places(axis: int, places: list[int], length: int) -> _Range:
    steps = {after - before for before, after in itertools.pairwise(places)} or {1}
    [step, *others] = steps
    if not places or others or step < 1 or not 0 <= places[0] < length:
        raise _NotUnderstoodError
    if step > 1 and not (places[0] < step and length % step == 0 and len(places) == length // step):
        raise _NotUnderstoodError
    return _Range(axis, places[0], step, len(places), length)


def _write(parts: _Parts, places: _Range, update: _Parts) -> _Parts:
    """The parts after a write."""
    axis, start = places.axis, places.start
    if places.everything:
        return update
    if places.step > 1:
        strides = parts or _Strides(axis, (None,) * places.step)
        if not isinstance(strides, _Strides) or (strides.axis, len(strides.parts)) != (axis, places.step):
            raise _NotUnderstoodError
        return _Strides(axis, (*strides.parts[:start], update, *strides.parts[start + 1 :]))
    if places.count is None or places.length is None:
        raise _NotUnderstoodError
    blocks = parts or _Blocks(axis, ((None, places.length),))
    if not isinstance(blocks, _Blocks) or blocks.axis != axis:
        raise _NotUnderstoodError
    stop = start + places.count
    before, behind = _cut(blocks.parts, 0, start), _cut(blocks.parts, stop, places.length)
    return _Blocks(axis, (*before, (update, places.count), *behind))


def _read(parts: _Parts, places: _Range) -> _Parts:
    """The parts of a slice."""
    axis = places.axis
    if parts is None or places.everything:
        return parts
    if isinstance(parts, _Whole):
        raise _NotUnderstoodError
    if isinstance(parts, _Strides):
        if parts.axis != axis:
            return _Strides(parts.axis, tuple(_read(part, places) for part in parts.parts))
        if places.step != len(parts.parts):
            raise _NotUnderstoodError
        return parts.parts[places.start]
    if parts.axis != axis:
        return _Blocks(parts.axis, tuple((_read(part, places), length) for part, length in parts.parts))
    if places.step != 1 or places.count is None:
        raise _NotUnderstoodError
    inside = _cut(parts.parts, places.start, places.start + places.count)
    return inside[0][0] if len(inside) == 1 else _Blocks(axis, inside)


def _cut(blocks: Sequence[tuple[_Parts, int]], start: int, stop: int) -> tuple[tuple[_Parts, int], ...]:
    """The blocks between two places; only what is not written yet can be divided."""
    inside, position = [], 0
    for part, length in blocks:
        overlap = min(stop, position + length) - max(start, position)
        if 0 < overlap < length and part is not None:
            raise _NotUnderstoodError
        if overlap > 0:
            inside.append((part, overlap))
        position += length
    return tuple(inside)


def _transposed(parts: _Parts, perm: Sequence[int]) -> _Parts:
    if isinstance(parts, _Whole):
        return _Whole(parts.value, tuple(parts.perm[axis] for axis in perm))
    if isinstance(parts, _Blocks):
        turned = tuple((_transposed(part, perm), length) for part, length in parts.parts)
        return _Blocks(list(perm).index(parts.axis), turned)
    if isinstance(parts, _Strides):
        return _Strides(list(perm).index(parts.axis), tuple(_transposed(part, perm) for part in parts.parts))
    return None


def _is_complete(parts: _Parts) -> bool:
    if isinstance(parts, _Blocks):
        return all(_is_complete(part) for part, _ in parts.parts)
    if isinstance(parts, _Strides):
        return all(_is_complete(part) for part in parts.parts)
    return parts is not None


def _together(
    edit: Editor, value: ir.Value, parts: dict[ir.Value, _Parts], together: dict[ir.Value, ir.Value]
) -> ir.Value:
    """The value put together from its parts, before the node that gives it."""
    if value not in together:
        node = value.producer()
        assert node is not None
        source, place = node.inputs[0], edit.before(node)
        if node.op_type == "Transpose" and source is not None and _turns(parts[source]) < _turns(parts[value]):
            untransposed = _together(edit, source, parts, together)
            together[value] = place.transposed(untransposed, perm_of(node))
        else:
            together[value] = _join(place, parts[value])
    return together[value]


def _turns(parts: _Parts) -> int:
    """How many Transposes it takes to put parts together."""
    if isinstance(parts, _Whole):
        return int(list(parts.perm) != sorted(parts.perm))
    if isinstance(parts, _Blocks):
        return sum(_turns(part) for part, _ in parts.parts)
    return sum(map(_turns, parts.parts)) if parts else 0


def _join(place: Place, parts: _Parts) -> ir.Value:
    assert parts is not None
    if isinstance(parts, _Whole):
        return place.transposed(parts.value, parts.perm)
    axis = parts.axis
    if isinstance(parts, _Strides):
        return _interleaved(place, [_join(place, part) for part in parts.parts], axis)
    values = [_join(place, part) for part, _ in parts.parts]
    shape = [*dims(values[0])[:axis], sum(length for _, length in parts.parts), *dims(values[0])[axis + 1 :]]
    return place.node("Concat", values, {"axis": axis}, shape=shape)


def _interleaved(place: Place, values: list[ir.Value], axis: int) -> ir.Value:
    """Values of one shape that take turns along an axis: side by side on the axis behind it, which then moves up."""
    shape, turns = dims(values[0]), len(values)
    before, length, behind = shape[:axis], shape[axis], shape[axis + 1 :]
    if not behind:
        axes = place.edit.integers(axis + 1)
        values = [place.node("Unsqueeze", [value, axes], shape=[*shape, 1]) for value in values]
    wide = (behind[0] * turns, *behind[1:]) if behind else (turns,)
    side_by_side = place.node("Concat", values, {"axis": axis + 1}, shape=[*before, length, *wide])
    ends = [dim for dim in behind if isinstance(dim, int)]
    if len(ends) == len(behind):
        target = place.edit.integers(*(0 for _ in before), -1, *ends)
    else:
        start = place.edit.integers(*(0 for _ in before), -1)
        end = place.node("Shape", values[:1], {"start": axis + 1}, shape=[len(behind)], dtype=ir.DataType.INT64)
        target = place.node("Concat", [start, end], {"axis": 0}, shape=[len(shape)])
    return place.node("Reshape", [side_by_side, target], shape=[*before, length * turns, *behind])
