"""Where values lie on an axis."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

TOP, BOTTOM = 22.0, 200.0
"""Of every plot's axis, in pixels from above."""
_MOST_DECADES = 12


@dataclass(frozen=True)
class Tick:
    """A label beside an axis, at percent across or at pixels from above."""

    at: float
    label: str


def down(part: float) -> float:
    """Pixels from above for a part of the axis, 0 at its foot."""
    return BOTTOM - (BOTTOM - TOP) * part


@dataclass(frozen=True)
class LogScale:
    """A logarithmic axis from 10^low to 10^high."""

    low: int
    high: int

    @classmethod
    def around(cls, values: Iterable[float]) -> LogScale:
        """Whole decades that hold all values but zeros, NaN, infinities, and what is smaller by too many decades."""
        good = [math.log10(value) for value in values if value > 0 and math.isfinite(value)]
        if not good:
            return cls(-1, 0)
        high = math.ceil(max(good))
        low = max(math.floor(min(good)), high - _MOST_DECADES)
        return cls(low, max(high, low + 1))

    def part(self, value: float) -> float:
        """0 at the low end to 1 at the high end; what lies outside is put on the end, NaN on the high one."""
        if math.isnan(value) or value == math.inf:
            return 1.0
        if value <= 0:
            return 0.0
        return min(max((math.log10(value) - self.low) / (self.high - self.low), 0.0), 1.0)

    def ticks(self, most: int) -> list[int]:
        """At most so many exponents, from the high end downwards at equal distances."""
        step = max(1, math.ceil((self.high - self.low) / (most - 1)))
        return list(range(self.high, self.low - 1, -step))


def thinned(count: int, most: int) -> int:
    """Every which of so many labels to write, so that at most ``most`` are written."""
    steps = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 25, 50)
    return next((step for step in steps if count <= step * most), math.ceil(count / most))
