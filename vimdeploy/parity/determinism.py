"""Whether a session gives the same answers to the same inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from vimdeploy.parity.check import error_of
from vimdeploy.parity.results import DeterminismCheck
from vimdeploy.runtimes.base import Array, Session
from vimdeploy.tasks import task_of
from vimdeploy.tasks.base import Outputs, Task
from vimdeploy.tolerance import Tolerance

SAME_RUN = "the same run twice"
THREADS = "one thread and the default"
PLACES = "alone and in a batch"


def check_determinism(
    session: Session,
    one_thread: Session | None,
    batch: Mapping[str, Array],
    stds: Mapping[str, float],
    tolerance: Tolerance,
) -> tuple[DeterminismCheck, ...]:
    """The same inputs in different ways.

    Args:
        session: to be checked.
        one_thread: the same on one thread; None if it has no threads to choose.
        batch: inputs by name.
        stds: the standard deviation of each output.
        tolerance: of the session's outputs. What changes the order of sums changes their last bits, and so what a
            float16 file rounds: two runs may differ by as much as one may differ from the truth.

    Returns:
        The checks that can be made: places in a batch need more than one image.
    """
    task, first = task_of(session.info), session.run(batch)
    count = len(next(iter(batch.values()))) if session.info.has_batch else 0
    ones = [{name: array[i : i + 1] for name, array in batch.items()} for i in range(count)]

    def check(name: str, found: Iterable[Outputs], wanted: Iterable[Outputs], allowed: Tolerance) -> DeterminismCheck:
        pairs = (
            pair
            for sides in zip(wanted, found, strict=True)
            for pair in ([sides] if task is None else task.pairs(*sides))
        )
        errors = (_error(ours[output], theirs[output], stds[output], task) for ours, theirs in pairs for output in ours)
        return DeterminismCheck(name, max(errors), allowed)

    bits = Tolerance(0.0, "the same sums in the same order: equal to the bit")
    on_gpu = session.runs_on_gpu
    checks = [check(SAME_RUN, [session.run(batch)], [first], tolerance if on_gpu else bits)]
    if one_thread is not None:
        checks.append(check(THREADS, [one_thread.run(batch)], [first], tolerance))
    if len(ones) > 1:
        rows = [{name: array[i : i + 1] for name, array in first.items()} for i in range(len(ones))]
        checks.append(check(PLACES, map(session.run, ones), rows, tolerance))
    return tuple(checks)


def _error(wanted: Array, found: Array, std: float, task: Task | None) -> float:
    """The largest difference, in standard deviations; of labels, what part of them that differs amounts to."""
    if np.array_equal(found, wanted, equal_nan=True):
        return 0.0
    if wanted.dtype.kind == "i":
        return float((found != wanted).mean()) / (task.labels_off if task is not None else Task.labels_off)
    return float(error_of(found, wanted).max()) / std if std else np.inf
