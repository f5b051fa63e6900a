"""Axes as products of factors: what a Reshape splits and merges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from vimdeploy.graphs.passes.editor import Dim, same


@dataclass(frozen=True)
class Part:
    """A factor that two shapes have in common, and which dimension of each it is in."""

    dim: Dim
    first: int
    second: int


def common_parts(first: Sequence[Dim], second: Sequence[Dim]) -> list[Part] | None:
    """The coarsest factors, in order, of which the dimensions of two shapes of one size are products.

    Dimensions of 1 have no factor. (2, 12, h*w) and (2, 4, 3, h, w) have 2, 4, 3, h and w.

    Returns:
        None if the factors cannot be told.
    """
    parts = []
    ahead, behind = _factors(first), _factors(second)
    (one, i), (other, j) = next(ahead, _END), next(behind, _END)
    while i >= 0 and j >= 0:
        if same(one, other):
            parts.append(Part(one, i, j))
            (one, i), (other, j) = next(ahead, _END), next(behind, _END)
        elif (rest := _quotient(other, one)) is not None:
            parts.append(Part(one, i, j))
            (one, i), other = next(ahead, _END), rest
        elif (rest := _quotient(one, other)) is not None:
            parts.append(Part(other, i, j))
            one, (other, j) = rest, next(behind, _END)
        else:
            return None
    return parts if i < 0 and j < 0 else None


_END: tuple[Dim, int] = (1, -1)


def _factors(shape: Sequence[Dim]) -> Iterator[tuple[Dim, int]]:
    return ((dim, i) for i, dim in enumerate(shape) if not same(dim, 1))


def _quotient(dim: Dim, by: Dim) -> Dim | None:
    """dim / by if it is known to be a whole number."""
    if isinstance(dim, int) and isinstance(by, int):
        return dim // by if dim % by == 0 else None
    if not all(isinstance(d, int) or d.value is not None for d in (dim, by)) or isinstance(dim, int):
        return None
    text = (quotient := (dim // by).simplify()).value
    if text is None or "floor" in text or text == "0":
        return None
    return int(text) if text.isdigit() else quotient


def product(dims: Iterable[Dim]) -> Dim:
    """The product of dimensions."""
    result: Dim = 1
    for dim in dims:
        if not isinstance(result, int):
            result = result * dim
        else:
            result = dim * result if not isinstance(dim, int) else result * dim
    return result.simplify() if isinstance(result, ir.SymbolicDim) else result
