"""What rounding to float16 or bfloat16 does to a tensor, and whether the type can hold it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vimdeploy.errors import require
from vimdeploy.preprocess import FloatArray

MARGIN = 4
"""How many times larger than in sample images a value may be in others.

The largest of n values whose tails fall off exponentially grows as log n, and a gated output, the product of two such
values, as its square. One image brings some 10^5 values of a tensor; 10^10 of them, those of 100,000 images, reach
(10 / 5)^2 = 4 times as far.
"""


@dataclass(frozen=True)
class Range:
    """A tensor, and what rounding to a type does to it."""

    type: str
    """``float16`` or ``bfloat16``."""
    largest: float
    """Magnitude."""
    loss: float
    """Relative error of rounding: the root mean square of what it changes, divided by that of the values. Infinite if a
    value becomes infinite."""
    infinite: float
    """Part of the values that become infinite."""
    subnormal: float
    """Part of the values below the type's smallest normal number, where it has fewer digits; zeros do not count."""
    vanishing: float
    """Part of the values that become zero and were not."""
    margin: float = 1.0
    """How many times larger than this the tensor may still become: ``MARGIN`` for what depends on the image."""

    @property
    def fault(self) -> str | None:
        """Why the tensor should stay in float32; None if the type can hold it.

        Rounding changes a normal number by half a unit in the last place at most: a relative error of 2^-11 in float16
        and 2^-8 in bfloat16. A loss of more than that says that much of the tensor is subnormal.
        """
        limits = _limits(self.type)
        end, unit = float(limits.max), float(limits.eps) / 2
        if not self.largest * self.margin <= end:  # NaN is not
            wanted = f", and a margin of {self.margin:g} is wanted" if self.largest <= end else ""
            return f"reaches {self.largest:.3g}; {self.type} ends at {end:.6g}{wanted}"
        if not self.loss <= unit:
            return (
                f"loses {self.loss:.1e} of itself, more than {unit:.1e}: {self.subnormal:.0%} of its values lie below "
                f"{float(limits.smallest_normal):.1e}, where {self.type} has fewer digits"
            )
        return None


class RangeTally:
    """Sums over the values so far; memory does not grow with them."""

    def __init__(self, type_name: str, margin: float = 1.0) -> None:
        self._type, self._margin = type_name, margin
        self._limits = _limits(type_name)
        self._values = self._infinite = self._subnormal = self._vanishing = 0
        self._largest = self._squares = self._squared_error = 0.0

    def add(self, values: FloatArray) -> None:
        """Take in more values of the tensor, of any shape; perhaps none, as of a model that finds nothing."""
        if not values.size:
            return
        rounded = _rounded(values, self._limits.dtype)
        sizes = np.abs(values)
        with np.errstate(invalid="ignore"):  # inf - inf, where float32 itself gave up
            error = rounded - values
        self._values += values.size
        self._largest = float(np.maximum(self._largest, sizes.max()))  # hands on NaN
        self._squares += _sum_of_squares(values)
        self._squared_error += _sum_of_squares(error)
        self._infinite += int(np.isinf(rounded).sum())
        self._subnormal += int(((sizes > 0) & (sizes < float(self._limits.smallest_normal))).sum())
        self._vanishing += int(((sizes > 0) & (rounded == 0)).sum())

    def result(self) -> Range:
        """The range of all values so far; zeros if there were none."""
        values = max(self._values, 1)
        return Range(
            self._type,
            self._largest,
            loss=math.sqrt(self._squared_error / self._squares) if self._squares else 0.0,
            infinite=self._infinite / values,
            subnormal=self._subnormal / values,
            vanishing=self._vanishing / values,
            margin=self._margin,
        )


def _limits(type_name: str) -> Any:
    """As ``numpy.finfo``, which does not know bfloat16."""
    return require("ml_dtypes", "export").finfo(type_name)


def _rounded(values: FloatArray, type_: npt.DTypeLike) -> FloatArray:
    with np.errstate(over="ignore"):
        return values.astype(type_).astype(np.float32)


def _sum_of_squares(values: FloatArray) -> float:
    return float(np.square(values, dtype=np.float64).sum())
