"""How long work tells what it is doing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

Progress = Callable[[str, int, int], None]
"""Is told a phase's name, how many of its steps are done, and how many there are."""


def silent(phase: str, done: int, steps: int) -> None:
    """A ``Progress`` that shows nothing."""


def tracked(items: Iterable[T], phase: str, steps: int, progress: Progress) -> Iterator[T]:
    """Hand on the items, and tell after each that one more step of the phase is done."""
    progress(phase, 0, steps)
    for done, item in enumerate(items, 1):
        yield item
        progress(phase, min(done, steps), steps)
    progress(phase, steps, steps)


@contextmanager
def step(phase: str, progress: Progress) -> Iterator[None]:
    """Tell of a piece of work that begins, and that it is done."""
    progress(phase, 0, 1)
    yield
    progress(phase, 1, 1)
