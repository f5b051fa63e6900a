"""How commands show what they do: tables on standard output, progress on standard error."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")


@contextmanager
def step(title: str) -> Iterator[None]:
    """A piece of work: a spinner while it lasts, a line with its time when it is done."""
    with _timed(title) as console, console.status(f"{title} ..."):
        yield


@contextmanager
def phases(title: str, quiet: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """A piece of work that tells how far it is: bars while it lasts, a line with its time when it is done.

    Args:
        title: of the work.
        quiet: draw when told of progress and at no other time, so that nothing disturbs what is timed in between.

    Yields:
        A function to be told a phase's name, how many of its steps are done, and how many there are. Phases may lie in
        each other.
    """
    from rich.progress import Progress

    with (
        _timed(title) as console,
        Progress(console=console, transient=True, disable=not console.is_terminal, auto_refresh=not quiet) as shown,
    ):
        bars: dict[str, Any] = {}

        def report(phase: str, done: int, steps: int) -> None:
            if phase not in bars:
                bars[phase] = shown.add_task(phase, total=steps)
            shown.update(bars[phase], completed=done)
            if done >= steps:
                shown.remove_task(bars.pop(phase))
            if quiet:
                shown.refresh()

        yield report


@contextmanager
def _timed(title: str) -> Iterator[Console]:
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    start = time.perf_counter()
    yield console
    console.print(f"{title}: {time.perf_counter() - start:.1f} s")


def track(items: Iterable[T], total: int, title: str) -> Iterator[T]:
    """The items, with a progress bar on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield from progress.track(items, total=total, description=title)


def print_table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table as wide as its contents: lines are never cut, so that paths and numbers can be copied."""
    cells = [list(headers), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(headers))]
    for row in cells:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        click.echo(click.style(line, bold=True) if row is cells[0] else line)


def print_json(document: Any) -> None:
    """One JSON document, alone on standard output; NaN and infinity, which JSON does not have, become null."""
    click.echo(json.dumps(_finite(document), indent=2, ensure_ascii=False, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
