"""Subjects in turn: A B A B ..., each in its own process, one at work at a time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from vimdeploy.benchmark.process import Worker
from vimdeploy.benchmark.profile import OperatorTime
from vimdeploy.benchmark.sources import Settings, Subject
from vimdeploy.errors import VimdeployError
from vimdeploy.progress import Progress, silent

_PAUSE_SECONDS = 0.02
"""Between turns: ONNX Runtime's threads wait for more work in busy loops, and the next subject wants the cores."""


@dataclass
class Series:
    """What is known of a subject so far."""

    subject: Subject
    facts: dict[str, Any] = field(default_factory=dict)
    """What its worker said once it was loaded."""
    turns: list[list[float]] = field(default_factory=list)
    """The milliseconds of each call, turn by turn; the warm-up is not among them."""
    peak_bytes: int | None = None
    profile: list[OperatorTime] = field(default_factory=list)
    """The time by type of node, for ONNX files, if it was asked for."""
    profile_error: str = ""
    """Why there is no profile, in a sentence; the rest of the row stands."""
    error: str = ""
    """Why it failed, in a sentence; empty if it did not."""

    @property
    def milliseconds(self) -> list[float]:
        """The times of all calls that count."""
        return [call for turn in self.turns for call in turn]


def measure(group: Sequence[Series], settings: Settings, progress: Progress = silent, phase: str = "Measuring") -> None:
    """Measure subjects against each other.

    One that fails is left out from there on; the others go on. An interrupt loses nothing: the series hold all that was
    measured until then.

    Args:
        group: series to fill, of subjects that run in this order in every round; all are loaded at the same time. Those
            that have failed already are passed over.
        settings: how to open and run them.
        progress: is told how far the phase is.
        phase: its name.
    """
    done, steps = 0, len(group) * (1 + settings.rounds)
    with contextlib.ExitStack() as processes:
        running: list[tuple[Series, Worker]] = []
        for series in group:
            if not series.error:
                with _failure_noted(series):
                    worker = processes.enter_context(Worker(series.subject, settings))
                    series.facts = worker.facts
                    worker.turn(calls=settings.warm_up)
                    running.append((series, worker))
            progress(phase, done := done + 1, steps)
        for _ in range(settings.rounds):
            for series, worker in running:
                if not series.error:
                    with _failure_noted(series):
                        time.sleep(_PAUSE_SECONDS)
                        milliseconds, series.peak_bytes = worker.turn(seconds=settings.seconds)
                        series.turns.append(milliseconds)
                progress(phase, done := done + 1, steps)
        for series, worker in running:
            if settings.profile and not series.error and series.subject.runtime == "onnxruntime":
                try:
                    series.profile = worker.profile()
                except VimdeployError as error:
                    series.profile_error = str(error)
        progress(phase, steps, steps)


@contextlib.contextmanager
def _failure_noted(series: Series) -> Iterator[None]:
    try:
        yield
    except VimdeployError as error:
        series.error = str(error)
