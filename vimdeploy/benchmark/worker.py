"""The process that an artifact is measured in: one line of JSON in, one line out.

First comes an order, what to open; the answer is what was opened. Then each ``{"calls": N}`` or ``{"seconds": S}`` is
one turn, answered by the milliseconds of its calls; ``{}`` is answered by the profile. ``{"error": sentence}`` is the
last answer of a process that gives up. It ends where its input ends, so that none outlives its parent.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from vimdeploy.bench import memory
from vimdeploy.bench.device_memory import METHOD, DeviceMemory
from vimdeploy.bench.kinds import Kind
from vimdeploy.bench.opened import open_subject
from vimdeploy.bench.profile import profile_of
from vimdeploy.bench.subjects import Settings, Subject
from vimdeploy.errors import VimdeployError, require


def main() -> None:
    """Serve orders from standard input until it ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries say must not come between the answers
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # out of memory, this process is to end, not its parent
    with contextlib.suppress(BrokenPipeError):
        _serve(sys.stdin, answers)


def order(subject: Subject, kind: Kind, settings: Settings) -> dict[str, Any]:
    """What the first line says."""
    return {"subject": vars(subject) | {"path": str(subject.path)}, "kind": kind, "settings": vars(settings)}


def _from_order(line: str) -> tuple[Subject, Kind, Settings]:
    document = json.loads(line)
    fields = document["subject"]
    height_width = fields["image_size"]
    subject = Subject(
        fields["name"], Path(fields["path"]), fields["batch"], tuple(height_width) if height_width else None
    )
    return subject, document["kind"], Settings(**document["settings"])


def _serve(requests: TextIO, answers: TextIO) -> None:
    def answer(**document: Any) -> None:
        answers.write(json.dumps(document) + "\n")

    first = requests.readline()
    if not first:
        return
    try:
        subject, kind, settings = _from_order(first)
        _import_runtime(kind)
        device_memory = DeviceMemory(wanted=kind != "eager" and settings.device != "cpu")
        idle = memory.resident_bytes()
        with device_memory.counted():
            start = time.perf_counter()
            opened = open_subject(subject, kind, settings)
            load_seconds = time.perf_counter() - start
        loaded = memory.resident_bytes()
        array = opened.random_input()
        method = memory.forget_peak()
        on_gpu = opened.device == "cuda"
        answer(
            load_seconds=load_seconds,
            loaded_bytes=device_memory.taken if on_gpu else loaded - idle,
            memory_method=METHOD if on_gpu else method,
            image_size=opened.image_size,
            device=opened.device,
            operators=opened.operators,
            precision=opened.precision,
        )
        for line in requests:
            if request := json.loads(line):
                with device_memory.counted():
                    milliseconds = _turn(lambda: opened.run(array), **request)
                peak = device_memory.taken if on_gpu else memory.peak_bytes() - idle
                answer(milliseconds=milliseconds, peak_bytes=peak)
            else:
                answer(profile=[vars(row) for row in profile_of(subject.path, opened.precision, settings, array)])
    except VimdeployError as error:
        answer(error=str(error))
    except MemoryError:
        answer(error="There is not enough memory.")


def _import_runtime(kind: Kind) -> None:
    """All that loading will import, so that its time and its memory are not the session's."""
    if kind == "eager":
        require("torch", "export")
        import safetensors.torch  # noqa: F401

        import vimdeploy.models.vim
        import vimdeploy.runtimes.eager
    elif kind != "engine":
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401

        import vimdeploy.runtimes.onnxruntime  # noqa: F401


def _turn(call: Callable[[], object], calls: int = 0, seconds: float = 0.0) -> list[float]:
    """The milliseconds of so many calls, or of all that are begun within some seconds; of one at least."""
    milliseconds: list[float] = []
    begin = time.perf_counter()
    while not milliseconds or len(milliseconds) < calls or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        call()
        milliseconds.append((time.perf_counter() - start) * 1e3)
    return milliseconds
