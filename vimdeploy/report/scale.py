"""Positions of values along an axis."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

TOP, BOTTOM = 22.0, 200.0
"""The ends of every vertical axis, in pixels from the top of the plot."""
_MOST_DECADES = 12
"""Longer axes are cut off at the low end."""


@dataclass(frozen=True)
class Tick:
    """A label beside an axis. ``at`` is in percent from the left or in pixels from the top."""

    at: float
    label: str


def down(part: float) -> float:
    """Pixels from the top for a part of the axis: 0 is its low end, 1 its high end."""
    return BOTTOM - (BOTTOM - TOP) * part


@dataclass(frozen=True)
class LogScale:
    """A logarithmic axis from 10^low to 10^high."""

    low: int
    high: int

    @classmethod
    def around(cls, values: Iterable[float]) -> LogScale:
        """The whole decades that hold the values, except zeros, NaN, infinities and values far below the largest."""
        good = [math.log10(value) for value in values if value > 0 and math.isfinite(value)]
        if not good:
            return cls(-1, 0)
        high = math.ceil(max(good))
        low = max(math.floor(min(good)), high - _MOST_DECADES)
        return cls(low, max(high, low + 1))

    def part(self, value: float) -> float:
        """0 at the low end to 1 at the high end. Values beyond an end are put on it, NaN on the high end."""
        if math.isnan(value) or value == math.inf:
            return 1.0
        if value <= 0:
            return 0.0
        return min(max((math.log10(value) - self.low) / (self.high - self.low), 0.0), 1.0)

    def ticks(self, most: int) -> list[int]:
        """At most ``most`` exponents at equal distances, from the high end downwards."""
        step = max(1, math.ceil((self.high - self.low) / (most - 1)))
        return list(range(self.high, self.low - 1, -step))


def thinned(count: int, most: int) -> int:
    """The step n with which every n-th of ``count`` labels makes at most ``most`` labels."""
    steps = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 25, 50)
    return next((step for step in steps if count <= step * most), math.ceil(count / most))
