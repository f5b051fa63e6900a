"""Runs of ONNX Runtime's sessions: what it says is translated here, and here it can be stopped."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

from vimdeploy.errors import ExecutionError
from vimdeploy.runtimes.base import Array, Arrays
from vimdeploy.text import reason_of

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, RunOptions

_lock = threading.Lock()


def run_session(
    session: InferenceSession, outputs: Sequence[str], inputs: Mapping[str, Array], what: str = ""
) -> Arrays:
    """Some outputs of ONNX Runtime's own session, by name; ``stop_runs`` ends it.

    Args:
        session: ONNX Runtime's.
        outputs: names.
        inputs: arrays by name.
        what: is run, for messages; empty for the shapes of the inputs.

    Raises:
        ExecutionError: if ONNX Runtime gives up.
    """
    try:
        found = session.run(outputs, inputs, _run_options())
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        what = what or ", ".join(f"{name} {array.shape}" for name, array in inputs.items())
        raise ExecutionError(f"ONNX Runtime failed on {what}: {reason_of(error)}") from error
    return dict(zip(outputs, found, strict=True))


def stop_runs() -> None:
    """Stop all that ONNX Runtime computes in this process, and all that another thread begins after that."""
    _run_options().terminate = True


def allow_runs() -> None:
    """Run again after ``stop_runs``."""
    _made_options.cache_clear()


def _run_options() -> RunOptions:
    """The options of all runs in this process, made by the first of several threads."""
    with _lock:
        return _made_options()


@cache
def _made_options() -> RunOptions:
    import onnxruntime as ort

    return ort.RunOptions()
