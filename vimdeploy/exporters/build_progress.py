"""How far TensorRT is with an engine, and how to stop it."""

from __future__ import annotations

import contextlib
from types import ModuleType
from typing import Any

from vimdeploy.progress import Progress


def progress_monitor(trt: ModuleType, progress: Progress) -> Any:
    """An ``IProgressMonitor`` that tells ``progress``, with ``cancel()``: TensorRT gives up at its next step.

    TensorRT calls it from several threads, and no exception may get back into it.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[name-defined,misc]  # known when the flavour is
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._cancelled = False
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._steps[phase_name] = num_steps
            self._tell(phase_name, 0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._tell(phase_name, step + 1)
            return not self._cancelled

        def phase_finish(self, phase_name: str) -> None:
            self._tell(phase_name, self._steps.get(phase_name, 0))

        def cancel(self) -> None:
            self._cancelled = True
            self._tell("Stopping at the next step", 0)

        def _tell(self, phase: str, done: int) -> None:
            with contextlib.suppress(Exception):
                progress(phase, done, self._steps.get(phase, 1))

    return Monitor()
