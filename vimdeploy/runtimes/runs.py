"""Runs of ONNX Runtime's sessions: what it says is translated here, and here it can be stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

from vimdeploy.errors import ExecutionError
from vimdeploy.runtimes.base import Array, Arrays
from vimdeploy.text import reason_of

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, RunOptions


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
    """Stop all that ONNX Runtime computes in this process at the moment; what is run later is not stopped."""
    _run_options().terminate = True
    _run_options.cache_clear()


@cache
def _run_options() -> RunOptions:
    """The options of all runs in this process."""
    import onnxruntime as ort

    return ort.RunOptions()
