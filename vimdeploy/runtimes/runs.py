"""Runs of ONNX Runtime's sessions: what it says is translated here, and here it can be stopped."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vimdeploy.errors import ExecutionError
from vimdeploy.runtimes.base import Array, Arrays
from vimdeploy.text import reason_of

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, IOBinding, RunOptions

_lock = threading.Lock()
_options: dict[tuple[int | None, bool], RunOptions] = {}
"""Those of all runs in this process, by the number of their CUDA graph, and whether they wait for their end."""
_stopped = threading.Event()


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
        raise ExecutionError(f"ONNX Runtime failed on {what or shapes_of(inputs)}: {reason_of(error)}") from error
    return dict(zip(outputs, found, strict=True))


def run_bound(
    session: InferenceSession, binding: IOBinding, what: str, graph: int | None = None, waits: bool = True
) -> None:
    """Run a session on inputs and outputs that are bound; ``stop_runs`` ends it.

    Args:
        session: ONNX Runtime's.
        binding: of the session.
        what: is run, for messages.
        graph: of a session that captures CUDA graphs: the number of the one to capture, or to run again if it was; -1
            captures none.
        waits: whether the outputs are written when it is over, or in the session's stream.

    Raises:
        ExecutionError: if ONNX Runtime gives up.
    """
    try:
        session.run_with_iobinding(binding, _run_options(graph, waits))
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        raise ExecutionError(f"ONNX Runtime failed on {what}: {reason_of(error)}") from error


def shapes_of(inputs: Mapping[str, Any]) -> str:
    """What is run, for messages: the shapes of arrays, by name."""
    return ", ".join(f"{name} {tuple(array.shape)}" for name, array in inputs.items())


def stop_runs() -> None:
    """Stop all that ONNX Runtime computes in this process, and all that another thread begins after that."""
    with _lock:
        _stopped.set()
        for options in _options.values():
            options.terminate = True


def allow_runs() -> None:
    """Run again after ``stop_runs``."""
    with _lock:
        _stopped.clear()
        _options.clear()


def _run_options(graph: int | None = None, waits: bool = True) -> RunOptions:
    """The options of all such runs in this process, made by the first of several threads."""
    import onnxruntime as ort

    with _lock:
        if (graph, waits) not in _options:
            options = _options[graph, waits] = ort.RunOptions()
            options.terminate = _stopped.is_set()
            if graph is not None:
                options.add_run_config_entry("gpu_graph_id", str(graph))
            if not waits:
                options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        return _options[graph, waits]
