"""The process that a subject is measured in: one line of JSON in, one line out.

First comes an order, what to open; the answer is what was opened. Then each ``{"calls": N}`` or ``{"seconds": S}`` is
one turn, answered by the milliseconds of its calls; ``{}`` is answered by the profile. ``{"error": sentence}`` is the
last answer of a process that gives up. It ends when its input ends, or, in the middle of a turn, when its parent has
ended, so that none goes on for nobody.
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

from vimdeploy.artifact import open_artifact
from vimdeploy.benchmark import memory
from vimdeploy.benchmark.opened import image_size_of, import_runtime, open_session, precision_of, random_arrays
from vimdeploy.benchmark.profile import profile_of
from vimdeploy.benchmark.sources import Settings, Subject
from vimdeploy.errors import VimdeployError
from vimdeploy.gpu import device_of
from vimdeploy.model_info import ModelInfo


def main() -> None:
    """Serve orders from standard input until it ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries say must not come between the answers
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # out of memory, this process is to end, not its parent
    with contextlib.suppress(BrokenPipeError):
        _serve(sys.stdin, answers)


def order(subject: Subject, settings: Settings) -> dict[str, Any]:
    """What the first line says."""
    model = None if subject.model is None else subject.model.to_metadata()
    fields = vars(subject) | {"path": str(subject.path), "model": model}
    return {"parent": os.getpid(), "subject": fields, "settings": vars(settings)}


def _from_order(document: dict[str, Any]) -> tuple[Subject, Settings]:
    fields = document["subject"]
    size, model = fields["image_size"], fields["model"]
    subject = Subject(
        fields["name"],
        Path(fields["path"]),
        fields["batch"],
        None if size is None else tuple(size),
        None if model is None else ModelInfo.from_metadata(model),
        fields["module"],
        fields["openvino"],
    )
    return subject, Settings(**document["settings"])


def _serve(requests: TextIO, answers: TextIO) -> None:
    def answer(**document: Any) -> None:
        answers.write(json.dumps(document) + "\n")

    first = requests.readline()
    if not first:
        return
    try:
        document = json.loads(first)
        subject, settings = _from_order(document)
        import_runtime(subject)
        device = device_of(settings.device)
        on_cpu = subject.runtime == "eager" or device.kind == "cpu"
        device_memory = memory.DeviceMemory(None if on_cpu else device.index)
        idle = memory.resident_bytes()
        with device_memory.counted():
            start = time.perf_counter()
            session = open_session(subject, settings)
            load_seconds = time.perf_counter() - start
        loaded = memory.resident_bytes()
        arrays = random_arrays(session.info, subject.batch, subject.image_size)
        method = memory.forget_peak()
        on_gpu = session.runs_on_gpu
        answer(
            load_seconds=load_seconds,
            loaded_bytes=device_memory.taken if on_gpu else loaded - idle,
            memory_method=memory.ON_GPU if on_gpu else method,
            image_size=image_size_of(session.info, subject.image_size),
            task=session.info.task,
            device=session.device,
            operators=session.operators,
            precision=precision_of(session),
        )
        for line in requests:
            if request := json.loads(line):
                with device_memory.counted():
                    milliseconds = _turn(lambda: session.run(arrays), document["parent"], **request)
                peak = device_memory.taken if on_gpu else memory.peak_bytes() - idle
                answer(milliseconds=milliseconds, peak_bytes=peak)
            else:
                rows = profile_of(open_artifact(subject.path, foreign=True), settings, arrays)
                answer(profile=[vars(row) for row in rows])
    except VimdeployError as error:
        answer(error=str(error))
    except MemoryError:
        answer(error="There is not enough memory.")


def _turn(call: Callable[[], object], parent: int, calls: int = 0, seconds: float = 0.0) -> list[float]:
    """The milliseconds of so many calls, or of all that begin within some seconds; of at least one."""
    milliseconds: list[float] = []
    begin = time.perf_counter()
    while not milliseconds or len(milliseconds) < calls or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        call()
        milliseconds.append((time.perf_counter() - start) * 1e3)
        if os.getppid() != parent:  # it was killed, and nobody waits for an answer
            raise SystemExit
    return milliseconds
