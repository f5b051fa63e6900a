"""Error by depth: the error of each stage, and how large it may be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from vimdeploy.parity.results import Deviation, Stage
from vimdeploy.report.scale import LogScale, Tick, down, thinned
from vimdeploy.report.text import power_of_ten, scientific

_OWN = "Own: the stage alone, given the reference's inputs"
_CARRIED = "Carried: including errors from earlier stages"
_BLOCK_LABELS = 8
"""As many as fit the width of a phone."""
_LABEL_TURNS = 55.0
"""In percent of the width: farther right, a label is written to the left of its point."""


@dataclass(frozen=True)
class Point:
    """One stage's error."""

    x: float
    """Percent from the left."""
    y: float
    """Pixels from the top."""
    error: float
    passed: bool
    note: str


@dataclass(frozen=True)
class Band:
    """The errors that are allowed to consecutive stages: all below y."""

    x: float
    width: float
    """Both in percent of the plot's width."""
    y: float


@dataclass(frozen=True)
class Panel:
    """One kind of error, for all stages."""

    title: str
    points: tuple[Point, ...]
    bands: tuple[Band, ...]
    marked: Point | None
    """The point of the failing stage; None if its error of this kind is within its band."""
    summary: str
    """The panel in a sentence, for people who cannot see it."""


@dataclass(frozen=True)
class DepthChart:
    """One or two panels with the same axes."""

    panels: tuple[Panel, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    failing: str
    """The title of the stage that is marked; empty if all passed."""
    failing_x: float
    label_at_left: bool

    @property
    def has_exact(self) -> bool:
        """Whether any error is zero: such a point lies at the low end of the logarithmic axis."""
        return any(not point.error for panel in self.panels for point in panel.points)


def depth_chart(stages: Sequence[Stage], failing: int | None) -> DepthChart | None:
    """The plot of all stages; None if there are none.

    Args:
        stages: in the order of the network.
        failing: the number of the stage to mark.
    """
    if not stages:
        return None
    deviations = [d for stage in stages for d in (stage.own, stage.carried) if d is not None]
    scale = LogScale.around(value for d in deviations for value in (d.error, d.tolerance.limit))
    panels = [_panel(_CARRIED, stages, failing, scale, lambda stage: stage.carried)]
    if any(stage.own for stage in stages):
        panels.insert(0, _panel(_OWN, stages, failing, scale, lambda stage: stage.own))
    at = 0.0 if failing is None else _across(failing, len(stages))
    return DepthChart(
        panels=tuple(panels),
        x_ticks=_block_ticks(stages),
        y_ticks=tuple(Tick(down(scale.part(10.0**n)), power_of_ten(n)) for n in scale.ticks(6)),
        failing="" if failing is None else stages[failing].title,
        failing_x=at,
        label_at_left=at > _LABEL_TURNS,
    )


def _panel(
    title: str,
    stages: Sequence[Stage],
    failing: int | None,
    scale: LogScale,
    deviation_of: Callable[[Stage], Deviation | None],
) -> Panel:
    there = [(n, stage, d) for n, stage in enumerate(stages) if (d := deviation_of(stage)) is not None]
    points = {
        n: Point(
            _across(n, len(stages)),
            down(scale.part(d.error)),
            d.error,
            d.passed,
            f"{stage.title}: {scientific(d.error)}, allowed {scientific(d.tolerance.limit)}",
        )
        for n, stage, d in there
    }
    bands = []
    for _, run in groupby(enumerate(there), lambda item: (item[1][0] - item[0], item[1][2].tolerance.limit)):
        members = [item for _, item in run]
        (first, _, d), last = members[0], members[-1][0]
        left, right = 100 * first / len(stages), 100 * (last + 1) / len(stages)
        bands.append(Band(left, right - left, down(scale.part(d.tolerance.limit))))
    marked = None if failing is None else points.get(failing)
    out = sum(not point.passed for point in points.values())
    worst = max((d.error for _, _, d in there), default=0.0)
    return Panel(
        title,
        tuple(points.values()),
        tuple(bands),
        marked if marked and not marked.passed else None,
        f"{title}: {len(points)} stages, {out} beyond what is allowed; the largest error is {scientific(worst)}.",
    )


def _across(number: int, count: int) -> float:
    return 100 * (number + 0.5) / count


def _block_ticks(stages: Sequence[Stage]) -> tuple[Tick, ...]:
    """The number of each block below its middle; of every n-th block if there are many."""
    places: dict[int, list[float]] = {}
    for number, stage in enumerate(stages):
        if stage.block is not None:
            places.setdefault(stage.block, []).append(_across(number, len(stages)))
    step = thinned(len(places), _BLOCK_LABELS)
    return tuple(Tick(sum(at) / len(at), str(block)) for block, at in list(places.items())[::step])
