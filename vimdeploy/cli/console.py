"""How commands show what they do: tables on standard output, progress and warnings on standard error."""

from __future__ import annotations

import io
import json
import logging
import math
import re
import shlex
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import click

from vimdeploy.errors import VimdeployWarning
from vimdeploy.text import counted, printable

if TYPE_CHECKING:
    from vimdeploy.model_info import ModelInfo
    from vimdeploy.parity.results import Verification
    from vimdeploy.progress import Progress
    from vimdeploy.tasks.base import Proportion

_LOGGED = 30.0
"""Seconds between two lines of a log."""

_OF_ONE_PLACE = 5
"""Messages of one line of TensorRT's sources that are shown: a warning may come for each of 10,000 nodes."""


@contextmanager
def phases(title: str, quiet: bool = False, each: bool = False) -> Iterator[Progress]:
    """Show how far a piece of work is: bars while it lasts, a line with its time when it is done.

    Args:
        title: of the work.
        quiet: draw only when told of progress, so that nothing disturbs what is timed in between.
        each: print a line with its time for each phase instead of one for the whole.

    Yields:
        A ``Progress``. Phases may be nested.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress as Bars

    console = Console(stderr=True, highlight=False, markup=False)
    begin = time.perf_counter()
    bars: dict[str, Any] = {}
    begun: dict[str, float] = {}
    with Bars(console=console, transient=True, disable=not console.is_terminal, auto_refresh=not quiet) as shown:

        def progress(phase: str, done: int, steps: int) -> None:
            if phase not in bars:
                if done >= steps:  # the end of a phase may be told twice
                    return
                bars[phase], begun[phase] = shown.add_task(escape(printable(phase)), total=steps), time.perf_counter()
            shown.update(bars[phase], completed=done)
            if done >= steps:
                shown.remove_task(bars.pop(phase))
                if each:
                    console.print(f"{printable(phase)}: {time.perf_counter() - begun[phase]:.1f} s")
            if quiet:
                shown.refresh()

        yield progress
    if not each:
        console.print(f"{title}: {time.perf_counter() - begin:.1f} s")


@contextmanager
def tally() -> Iterator[Callable[[int, int], None]]:
    """Show how many pictures are done, if nobody knows how many there are: in a log a line every half minute.

    Yields:
        Is told how many are done, and how many of them have no answer.
    """
    from rich.console import Console

    console = Console(stderr=True, highlight=False, markup=False)
    begin = shown = time.perf_counter()
    done = wrong = 0

    def line() -> str:
        seconds = time.perf_counter() - begin
        lacking = f", {wrong} without an answer" if wrong else ""
        return f"{counted(done, 'picture')} in {seconds:.0f} s, {done / max(seconds, 1e-9):.1f} a second{lacking}"

    with console.status(line()) if console.is_terminal else nullcontext() as status:

        def told(new_done: int, new_wrong: int) -> None:
            nonlocal shown, done, wrong
            done, wrong = new_done, new_wrong
            if time.perf_counter() - shown < (_LOGGED if status is None else 0.1):
                return
            shown = time.perf_counter()
            if status is None:
                say(line(), err=True)
            else:
                status.update(line())

        try:
            yield told
        finally:
            final = line()
    say(final, err=True)


@contextmanager
def every_name_printed() -> Iterator[None]:
    """Write what the output's encoding does not have as escapes: a name must not cost the answer."""
    streams = [stream for stream in (sys.stdout, sys.stderr) if isinstance(stream, io.TextIOWrapper)]
    before = [stream.errors for stream in streams]
    for stream in streams:
        stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        for stream, errors in zip(streams, before, strict=True):
            stream.reconfigure(errors=errors)


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Show warnings of vimdeploy as one line each on standard error, none twice, and those of others as they are."""
    shown = set()
    with warnings.catch_warnings():
        warnings.simplefilter("always", VimdeployWarning)
        others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if not issubclass(category, VimdeployWarning):
                others(message, category, *where, **more)
            elif str(message) not in shown:
                shown.add(str(message))
                say(f"Warning: {message}", err=True)

        warnings.showwarning = show
        yield


class _Lines(logging.Handler):
    """Shows each message as one line on standard error."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self._shown: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        text = " ".join(record.getMessage().split())
        place = re.match(r"(?:\[\S+\] )?(\S+\.[ch](?:pp)?:\d+): ", text)
        if place is not None and self.level > logging.DEBUG:
            self._shown[place[1]] += 1
            if self._shown[place[1]] > _OF_ONE_PLACE:
                return
            if self._shown[place[1]] == _OF_ONE_PLACE:
                text += " (More from this place is left out; -vv shows it.)"
        say(f"TensorRT, {record.levelname.lower()}: {text}", err=True)


@contextmanager
def tensorrt_heard(level: int) -> Iterator[None]:
    """Show on standard error what TensorRT says, from a level of ``logging`` on."""
    from vimdeploy.flavors import LOG

    before, lines = LOG.level, _Lines(level)
    LOG.addHandler(lines)
    LOG.setLevel(level)
    try:
        yield
    finally:
        LOG.setLevel(before)
        LOG.removeHandler(lines)


def say(line: str = "", err: bool = False) -> None:
    """Print one line; what a terminal would obey in it is written as escapes."""
    click.echo(printable(line), err=err)


def print_next(*words: object, **options: object) -> None:
    """Print on standard error the command that may come next, with those of the options that are not None."""
    given = [word for name, value in options.items() if value is not None for word in (f"--{name}", value)]
    say(f"Next: vimdeploy {shlex.join(map(str, (*words, *given)))}", err=True)


def print_table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table as wide as its contents: lines are never cut, so that paths and numbers can be copied."""
    cells = [list(headers), *([printable(str(cell)) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(headers))]
    for row in cells:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        click.echo(click.style(line, bold=True) if row is cells[0] else line)


def print_json(document: Any) -> None:
    """Print one JSON document, alone on standard output; NaN and infinity, which JSON does not have, become null.

    It is ASCII if anything in it would be obeyed by a terminal.
    """
    text = json.dumps(_plain(document), indent=2, ensure_ascii=False, allow_nan=False)
    if any(printable(line) != line for line in text.split("\n")):
        text = json.dumps(_plain(document), indent=2, allow_nan=False)
    click.echo(text)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def no_answer(first: Sequence[Exception], wrong: int, images: int, what: str = "answer") -> str:
    """How many of some pictures have no answer, and why the first of them have none."""
    have = "has" if wrong == 1 else "have"
    more = f" ... and {wrong - len(first)} more." if wrong > len(first) else ""
    return f"{wrong} of {images} pictures {have} no {what}: {' '.join(map(str, first))}{more}"


def with_interval(proportion: Proportion) -> str:
    """A part of some inputs, and its 95 % confidence interval."""
    low, high = proportion.interval
    return f"{proportion.part:.2%} ({low:.2%} to {high:.2%})"


def print_kept(info: ModelInfo) -> None:
    """Print the nodes that a file keeps in float32, and why."""
    if info.kept_in_float32:
        print_table(("kept in float32", "because"), info.kept_in_float32.items())


def print_parity(parity: Sequence[Verification], source: str) -> None:
    """Print how near a file's outputs are to those of what it was made from."""
    errors = (
        f"{result.candidate.description} {result.worst.relative:.1e} {result.worst.unit} ({result.worst.name})"
        for result in parity
    )
    say(f"Largest error against {source}: {', '.join(errors)}")


def parity_document(parity: Sequence[Verification]) -> list[dict[str, Any]]:
    """What ``print_parity`` prints, for JSON."""
    return [
        {
            "candidate": result.candidate.description,
            "largest_error": result.worst.relative,
            "unit": result.worst.unit,
            "output": result.worst.name,
            "passed": result.passed,
        }
        for result in parity
    ]
