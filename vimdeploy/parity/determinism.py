"""Whether a session gives the same answers to the same inputs."""

from __future__ import annotations

import numpy as np

from vimdeploy.parity.check import error_of
from vimdeploy.parity.results import DeterminismCheck
from vimdeploy.preprocess import FloatArray
from vimdeploy.runtimes.base import Session
from vimdeploy.tolerance import Tolerance

SAME_RUN = "the same run twice"
THREADS = "one thread and the default"
PLACES = "alone and in a batch"


def check_determinism(
    session: Session, one_thread: Session | None, batch: FloatArray, spread: float, tolerance: Tolerance
) -> tuple[DeterminismCheck, ...]:
    """The same inputs in different ways.

    Args:
        session: to be checked.
        one_thread: the same on one thread; None where it has no threads to choose.
        batch: (B, C, H, W).
        spread: of the logits: their standard deviation.
        tolerance: of the session's logits. What changes the order of sums changes their last bits, and so what a
            float16 file rounds: as far off the truth as it may be, as far off itself.

    Returns:
        A check each; the second run and places in a batch of one are left out where there are none.
    """
    first = session.run(batch)
    bits = Tolerance(0.0, "the same sums in the same order: equal to the bit")
    on_gpu = session.device == "cuda"
    checks = [_check(SAME_RUN, session.run(batch), first, spread, tolerance if on_gpu else bits)]
    if one_thread is not None:
        checks.append(_check(THREADS, one_thread.run(batch), first, spread, tolerance))
    if len(batch) > 1:
        alone = np.concatenate([session.run(image[None]) for image in batch])
        checks.append(_check(PLACES, alone, first, spread, tolerance))
    return tuple(checks)


def _check(name: str, found: FloatArray, wanted: FloatArray, spread: float, tolerance: Tolerance) -> DeterminismCheck:
    if np.array_equal(found, wanted, equal_nan=True):
        return DeterminismCheck(name, 0.0, tolerance)
    error = float(error_of(found, wanted).max())
    return DeterminismCheck(name, error / spread if spread else np.inf, tolerance)
