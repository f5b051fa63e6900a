"""Whether a session gives the same answers to the same inputs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vimdeploy.parity.check import LABELS, error_of
from vimdeploy.parity.results import DeterminismCheck
from vimdeploy.runtimes.base import Array, Arrays, Session
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
    first = session.run(batch)
    bits = Tolerance(0.0, "the same sums in the same order: equal to the bit")
    on_gpu = session.device == "cuda"
    checks = [_check(SAME_RUN, session.run(batch), first, stds, tolerance if on_gpu else bits)]
    if one_thread is not None:
        checks.append(_check(THREADS, one_thread.run(batch), first, stds, tolerance))
    images = len(next(iter(batch.values())))
    if images > 1:
        single = [session.run({name: array[i : i + 1] for name, array in batch.items()}) for i in range(images)]
        alone = {name: np.concatenate([outputs[name] for outputs in single]) for name in first}
        checks.append(_check(PLACES, alone, first, stds, tolerance))
    return tuple(checks)


def _check(
    name: str, found: Arrays, wanted: Arrays, stds: Mapping[str, float], tolerance: Tolerance
) -> DeterminismCheck:
    """The largest difference of any output."""
    errors = [_relative(found[output], wanted[output], stds[output]) for output in wanted]
    return DeterminismCheck(name, max(errors), tolerance)


def _relative(found: Array, wanted: Array, std: float) -> float:
    if np.array_equal(found, wanted, equal_nan=True):
        return 0.0
    if wanted.dtype.kind == "i":
        return float((found != wanted).mean()) / LABELS
    return float(error_of(found, wanted).max()) / std if std else np.inf
