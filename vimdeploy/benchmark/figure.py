"""Time and memory over the image size, as a picture."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vimdeploy.benchmark.results import Result
from vimdeploy.errors import ConfigError, InputError, require
from vimdeploy.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".svg", ".png")

_COLORS = ("#c8442e", "#2f5d9b", "#5b9bd5", "#3d7a5a", "#8cb369", "#7a5195", "#b58db6", "#8a6d3b", "#555555")
"""The first artifact's stands out; neighbours are shades of one colour, as the two forms of a baseline are."""
_INK, _FAINT = "#222222", "#666666"
_TOP, _PANEL, _GAP, _BOTTOM = 0.95, 3.4, 0.95, 0.35
"""Heights in inches: above the panels, of a panel, below it, and of the caption."""
_DPI = 100
_LINE_POINTS = 11.5
"""Height of a line of a label."""
_LABEL_COLUMNS = 22


def check_figure(path: Path) -> None:
    """Ask before long work whether a figure can be drawn.

    Raises:
        ConfigError: if the name ends on no known format.
        MissingPackageError: without matplotlib.
    """
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"A figure's name ends on {' or '.join(FORMATS)}; found {path}.")
    require("matplotlib", "bench")


def figure_of(results: Sequence[Result], caption: str, format_: str) -> bytes:
    """Draw results: a line for each artifact, a panel for the time and one for the memory at each batch.

    Args:
        results: rows of any image sizes; those that failed are no points.
        caption: stands below the panels.
        format_: one of ``FORMATS``.

    Raises:
        InputError: if no row has numbers.
        MissingPackageError: without matplotlib.
    """
    require("matplotlib", "bench")
    import matplotlib
    from matplotlib.figure import Figure

    good = [result for result in results if result.p50_ms and result.peak_bytes and result.image_size]
    if not good:
        raise InputError("There is nothing to draw: no artifact has run.")
    style: Any = {
        "font.family": "sans-serif",
        "font.size": 10,
        "svg.hashsalt": "vimdeploy",
        "text.parse_math": False,  # a name may have two $ in it
        "axes.edgecolor": "#bbbbbb",
    }
    with matplotlib.rc_context(style):
        batches = list(dict.fromkeys(result.batch for result in good))
        height = _TOP + len(batches) * (_PANEL + _GAP) + _BOTTOM  # inches, as all that follow
        figure = Figure(figsize=(13, height), dpi=_DPI)
        figure.subplots_adjust(
            left=0.05,
            right=0.86,
            top=1 - _TOP / height,
            bottom=(_GAP + _BOTTOM) / height,
            wspace=0.46,
            hspace=_GAP / _PANEL,
        )
        tasks = ", ".join(dict.fromkeys(printable(result.task) for result in good if result.task))
        title = f"Time and memory over image size{': ' if tasks else ''}{tasks}"
        figure.text(0.05, 1 - 0.35 / height, title, fontsize=15, weight="bold", color=_INK)
        figure.text(
            0.05, 0.15 / height, textwrap.fill(printable(caption), 190), fontsize=8, color=_FAINT, linespacing=1.4
        )
        panels = figure.subplots(len(batches), 2, squeeze=False)
        for batch, (time, memory) in zip(batches, panels, strict=True):
            rows = [result for result in good if result.batch == batch]
            _draw(time, rows, f"Time of a call at batch {batch}, median", "ms", lambda result: result.p50_ms)
            _draw(memory, rows, f"Peak memory at batch {batch}", "MB", lambda result: result.peak_bytes / 1e6)
        picture = io.BytesIO()
        stamp = {"Date": None} if format_.lower() == ".svg" else {}
        figure.savefig(picture, format=format_.lower()[1:], dpi=160, facecolor="white", metadata=stamp)
    return picture.getvalue()


def _draw(axes: Axes, results: Sequence[Result], title: str, unit: str, value: Any) -> None:
    """One panel."""
    ends = []
    for number, artifact in enumerate(dict.fromkeys(result.artifact for result in results)):
        points = sorted((_side(result), value(result)) for result in results if result.artifact == artifact)
        color = _COLORS[number % len(_COLORS)]
        axes.plot(
            *zip(*points, strict=True),
            color=color,
            linewidth=2.6 if number == 0 else 1.8,
            marker="o",
            markersize=5,
            markeredgecolor="white",
            zorder=3 - number / 100,
            clip_on=False,
        )
        x, y = points[-1]
        name = textwrap.fill(printable(Path(artifact).name), _LABEL_COLUMNS)
        ends.append((x, y, f"{name}\n{_number(y)} {unit}", color))
    sizes: dict[float, set[str]] = {}
    for result in results:
        sizes.setdefault(_side(result), set()).add(_size_name(result))
    _set_axes(axes, [(side, "\n".join(sorted(sizes[side]))) for side in sorted(sizes)])
    axes.set_title(f"{title} ({unit})", loc="left", fontsize=11, color=_INK, pad=10)
    _label(axes, ends)


def _set_axes(axes: Axes, sizes: Sequence[tuple[float, str]]) -> None:
    """Logarithmic both ways: what grows with a power of the size is a straight line."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks([side for side, _ in sizes], [name for _, name in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(sizes[0][0] / 1.06, sizes[-1][0] * 1.06)
    low, high = axes.dataLim.intervaly
    axes.set_ylim(low / 1.4, high * 1.4)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("image side, pixels", color=_FAINT, loc="left")
    axes.tick_params(length=0, colors=_FAINT)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _label(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Names beside the ends of their lines, pushed apart if they would lie on each other."""
    points = 72 / _DPI
    right = axes.transData.transform((axes.get_xlim()[1], 1))[0]
    taken = -math.inf
    for x, y, text, color in sorted(ends, key=lambda end: end[1]):
        at = axes.transData.transform((x, y))
        half = (text.count("\n") + 1) * _LINE_POINTS / 2
        middle = max(at[1] * points, taken + half)
        taken = middle + half
        axes.annotate(
            text,
            (x, y),
            xytext=((right - at[0]) * points + 4, middle - at[1] * points),
            textcoords="offset points",
            color=color,
            fontsize=9,
            va="center",
            annotation_clip=False,
        )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _side(result: Result) -> float:
    """The side of a square with as many pixels."""
    height, width = result.image_size or (0, 0)
    return math.sqrt(height * width)


def _size_name(result: Result) -> str:
    height, width = result.image_size or (0, 0)
    return f"{height}" if height == width else f"{height}x{width}"
