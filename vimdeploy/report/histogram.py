"""How the errors of an output are distributed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vimdeploy.parity.results import Histogram, OutputErrors
from vimdeploy.report.scale import BOTTOM, Tick, down, thinned
from vimdeploy.report.text import power_of_ten, scientific

_LABELS = 6
"""As many powers of ten as fit the width of a phone."""
_WIDTH = 0.25
"""The width, in decades, of a bin that begins at zero or ends at infinity, and of the margins of the plot."""


@dataclass(frozen=True)
class Bar:
    """How many errors lie in one bin."""

    x: float
    width: float
    """Both in percent of the plot's width."""
    y: float
    height: float
    """Both in pixels."""
    beyond: bool
    """Whether all of these errors are larger than allowed."""
    note: str


@dataclass(frozen=True)
class HistogramChart:
    """Bars over a logarithmic axis."""

    bars: tuple[Bar, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    bound: Tick | None
    """The allowed error; None if it is zero or not finite, since a logarithmic axis has no place for it."""
    summary: str


def histogram_chart(errors: OutputErrors) -> HistogramChart | None:
    """The plot; None if there is nothing to count."""
    counts = errors.histogram.counts
    if not any(counts):
        return None
    bound = errors.tolerance.limit * errors.std
    has_line = bound > 0 and math.isfinite(bound)
    places = _places(errors.histogram)
    shown = [place for n, count in enumerate(counts) if count for place in (places[n], places[n + 1])]
    shown += [math.log10(bound)] if has_line else []
    low, high = min(shown) - _WIDTH, max(shown) + _WIDTH

    def across(place: float) -> float:
        return 100 * (place - low) / (high - low)

    most = max(counts)
    decades = range(math.ceil(low), math.floor(high) + 1)
    return HistogramChart(
        bars=tuple(
            Bar(
                x=across(places[n]),
                width=across(places[n + 1]) - across(places[n]),
                y=down(count / most),
                height=BOTTOM - down(count / most),
                beyond=errors.histogram.edges[n] >= bound,
                note=f"{count:,} errors: {_span(*errors.histogram.edges[n : n + 2])}",
            )
            for n, count in enumerate(counts)
            if count
        ),
        x_ticks=tuple(Tick(across(n), power_of_ten(n)) for n in decades[:: thinned(len(decades), _LABELS)]),
        y_ticks=tuple(Tick(down(n / most), f"{n:,}") for n in _round_counts(most)),
        bound=Tick(across(math.log10(bound)), f"allowed {scientific(bound)}") if has_line else None,
        summary=f"{sum(counts):,} values of {errors.name}; the largest error is {scientific(errors.largest)}, "
        f"{scientific(bound)} is allowed.",
    )


def _places(histogram: Histogram) -> list[float]:
    """The logarithms of the edges."""
    edges = histogram.edges
    finite = [math.log10(edge) for edge in edges if 0 < edge < math.inf] or [0.0]
    below = [finite[0] - _WIDTH] if edges[0] <= 0 else []
    above = [finite[-1] + _WIDTH] if math.isinf(edges[-1]) else []
    return below + finite + above


def _round_counts(most: int) -> list[int]:
    """Zero and a few round numbers up to ``most``."""
    power = 10 ** int(math.log10(most))
    step = next(step for step in (power // 2, power, 2 * power, 5 * power) if step and most <= 5 * step)
    return list(range(0, most + 1, step))


def _span(low: float, high: float) -> str:
    if low <= 0:
        return f"less than {scientific(high)}"
    return f"{scientific(low)} or more" if math.isinf(high) else f"{scientific(low)} to {scientific(high)}"
