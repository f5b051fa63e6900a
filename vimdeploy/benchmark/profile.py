"""Where the time goes inside an ONNX file: ONNX Runtime's own profiler."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vimdeploy.artifact import Artifact
from vimdeploy.benchmark.sources import Settings
from vimdeploy.errors import ExecutionError
from vimdeploy.files import scratch_folder
from vimdeploy.runtimes.base import Arrays
from vimdeploy.runtimes.onnxruntime import open_model
from vimdeploy.runtimes.runs import run_session
from vimdeploy.text import reason_of

_RUN, _NODE, _SUFFIX = "model_run", "Node", "_kernel_time"


@dataclass(frozen=True)
class OperatorTime:
    """All nodes of one type, in the mean of some calls."""

    operator: str
    nodes: float
    """How many ran in one call."""
    milliseconds: float
    share: float
    """Part of the time of all nodes, 0 to 1."""


def profile_of(artifact: Artifact, settings: Settings, arrays: Arrays) -> list[OperatorTime]:
    """Run a model in a session of its own that notes what each node takes.

    Args:
        artifact: an ONNX model.
        settings: of the session, and for how many seconds it runs after a first call that does not count.
        arrays: an array for each input.

    Raises:
        VimdeployError: if the model cannot be opened, or does not run.
    """
    with scratch_folder() as folder:
        session, *_ = open_model(
            artifact,
            settings.device,
            settings.threads,
            settings.operators,
            settings.providers,
            profile=folder / "profile",
        )
        outputs = [spec.name for spec in artifact.info.outputs]
        run_session(session, outputs, arrays)
        begin, calls = time.perf_counter(), 0
        while not calls or time.perf_counter() - begin < settings.seconds:
            run_session(session, outputs, arrays)
            calls += 1
        try:
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ExecutionError(
                f"ONNX Runtime has not written its profile to {folder.parent}: {reason_of(error)}; is there space?"
            ) from error
    return operator_times(events)


def operator_times(events: Sequence[dict[str, Any]]) -> list[OperatorTime]:
    """The profiler's events by type of node, the longest first; what happened before the second call is passed over."""
    runs = sorted(event["ts"] for event in events if event["name"] == _RUN)[1:]
    milliseconds: dict[str, float] = {}
    nodes: dict[str, int] = {}
    for event in events:
        if event["cat"] == _NODE and event["name"].endswith(_SUFFIX) and runs and event["ts"] >= runs[0]:
            operator = event["args"]["op_name"]
            milliseconds[operator] = milliseconds.get(operator, 0) + event["dur"] / 1e3
            nodes[operator] = nodes.get(operator, 0) + 1
    total = sum(milliseconds.values()) or 1
    return [
        OperatorTime(name, nodes[name] / len(runs), taken / len(runs), taken / total)
        for name, taken in sorted(milliseconds.items(), key=lambda item: -item[1])
    ]
