"""The list of steps, most telling first, and how they are run: in a process beside the kit's own, with a time limit."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gpu_kit.records import Log, Record, read_log

if TYPE_CHECKING:
    from typing_extensions import Self

REPOSITORY = Path(__file__).parents[2]
GROUPS = ("build", "check", "bench", "profile", "sanitize")

_LEAST_S = 5.0
"""Less time is not enough for any step."""


@dataclass(frozen=True)
class Settings:
    """What the command line asked for."""

    work: Path
    """Where the build, the models and the logs of the steps go."""
    output: Path
    """Where results go, and the profiler's reports."""
    quick: bool
    seed: int
    models: tuple[str, ...]
    deps: Path | None = None
    """What tools/fetch_headers made."""
    tensorrt_root: Path | None = None

    @property
    def build(self) -> Path:
        """CMake's folder."""
        return self.work / "build"

    @property
    def site(self) -> Path:
        """Where vimdeploy is installed, for the other steps to import."""
        return self.work / "site"

    @property
    def seconds(self) -> float:
        """How long one number is measured."""
        return 0.1 if self.quick else 0.5

    def built(self, file: str) -> Path | None:
        """A file that the build step made; None if it did not."""
        return next(self.build.rglob(file), None)

    def log_of(self, step: str) -> Path:
        """Where a step writes its records."""
        return self.work / f"{step}.jsonl"

    def to_json(self) -> str:
        """For the process of the steps."""
        return json.dumps({name: str(v) if isinstance(v, Path) else v for name, v in dataclasses.asdict(self).items()})

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """From ``to_json``."""
        fields = json.loads(text)
        for name in ("work", "output", "deps", "tensorrt_root"):
            fields[name] = fields[name] and Path(fields[name])
        return cls(**fields | {"models": tuple(fields["models"])})


@dataclass(frozen=True)
class Step:
    """A function ``(settings, log)`` of a module."""

    name: str
    group: str
    module: str
    function: str
    limit_s: int


STEPS = (
    Step("build", "build", "gpu_kit.build", "build", 1200),
    Step("device-tests", "check", "gpu_kit.check_kernels", "device_tests", 300),
    Step("enqueue", "check", "gpu_kit.check_kernels", "enqueue", 120),
    Step("operators", "check", "gpu_kit.check_operators", "operators", 300),
    Step("kernels", "bench", "gpu_kit.bench_kernels", "kernels", 300),
    Step("models", "check", "gpu_kit.check_models", "models", 900),
    Step("arrays", "check", "gpu_kit.check_arrays", "arrays", 300),
    Step("latency", "bench", "gpu_kit.bench_models", "latency", 900),
    Step("sweep", "bench", "gpu_kit.sweep", "sweep", 180),
    Step("ncu", "profile", "gpu_kit.profile", "profile", 120),
    Step("replaced-path", "bench", "gpu_kit.replaced_path", "replaced_path", 300),
    Step("memcheck", "sanitize", "gpu_kit.check_kernels", "memcheck", 300),
    Step("racecheck", "sanitize", "gpu_kit.check_kernels", "racecheck", 300),
    Step("synccheck", "sanitize", "gpu_kit.check_kernels", "synccheck", 300),
    Step("initcheck", "sanitize", "gpu_kit.check_kernels", "initcheck", 300),
)


def chosen_steps(only: Sequence[str]) -> list[Step]:
    """The steps whose name or group is asked for, in their order; all if nothing is.

    Raises:
        ValueError: for a word that is neither.
    """
    known = {*GROUPS, *(step.name for step in STEPS)}
    if unknown := [word for word in only if word not in known]:
        names = ", ".join(step.name for step in STEPS if step.name not in GROUPS)
        raise ValueError(f"There is no step {unknown[0]!r}; the groups are {', '.join(GROUPS)}, the steps {names}.")
    return [step for step in STEPS if not only or step.name in only or step.group in only]


class Worker:
    """The process that runs steps one after the other, so that PyTorch is imported once; a context manager.

    A step that fails, crashes or runs out of time ends it, and the next step begins in a new one: CUDA's state after an
    error is lost. Whatever it started ends with it, and it ends with the kit, however that ends.
    """

    def __init__(self, settings: Settings, deadline: float | None = None) -> None:
        """No process is started yet.

        Args:
            settings: for the steps.
            deadline: the end of all steps together, on the clock of ``time.monotonic``; None: there is none.
        """
        self._settings, self._deadline = settings, deadline
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, step: Step) -> list[Record]:
        """All that the step found, and one record more if it crashed, ran out of time or did not begin."""
        left = float("inf") if self._deadline is None else self._deadline - time.monotonic()
        if left < _LEAST_S:
            return [Record(step.name, "the step itself", "skipped", {}, "no time was left of --minutes")]
        self._settings.work.mkdir(parents=True, exist_ok=True)
        self._settings.log_of(step.name).unlink(missing_ok=True)
        ended = self._ended(step, min(step.limit_s, left))
        if not ended:
            return self.found(step)
        self.close()
        if ended == "time" and left < step.limit_s:
            return [*self.found(step), Record(step.name, "the rest", "skipped", {}, "no time was left of --minutes")]
        problem = f"took longer than {step.limit_s} s" if ended == "time" else ended
        output = self._settings.work / f"{step.name}.txt"
        tail = " / ".join(output.read_text(errors="replace").strip().splitlines()[-3:]) if output.exists() else ""
        return [*self.found(step), Record(step.name, "the step itself", "failed", {}, f"{problem}: {tail}")]

    def found(self, step: Step) -> list[Record]:
        """What the step has found so far."""
        return read_log(self._settings.log_of(step.name))

    def close(self) -> None:
        """End the process and all that it started."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ended(self, step: Step, seconds: float) -> str:
        """How the process ended within a step: ``time`` if it had to be ended; empty if it goes on."""
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(f"{step.module} {step.function} {step.name}\n".encode())
            process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], seconds)
        if not ready:
            return "time"
        return "" if process.stdout.readline() else f"ended with {process.wait()}"

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            paths = [str(Path(__file__).parents[1]), str(self._settings.site), os.environ.get("PYTHONPATH", "")]
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gpu_kit.steps", self._settings.to_json()],
                cwd=self._settings.work,  # not the repository: its vimdeploy/ has no library
                env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in paths if path)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
        return self._process


def main(settings_json: str) -> None:
    """In the steps' own process: a line on standard input names a step, one on standard output says that it is done."""
    settings = Settings.from_json(settings_json)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    while True:
        module, function, name = lines.get().split()
        with (settings.work / f"{name}.txt").open("w") as output:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
                os.dup2(output.fileno(), stream.fileno())
        importlib.invalidate_caches()  # the build step makes folders of the path
        getattr(importlib.import_module(module), function)(settings, Log(settings.log_of(name), name))
        _check_device()
        answers.write(f"{name}\n")
        answers.flush()


def _read(lines: queue.Queue[str]) -> None:
    """The lines of standard input; at its end the kit is gone, and so is this process with all that it started."""
    for line in sys.stdin:
        lines.put(line)
    os.killpg(0, signal.SIGKILL)


def _check_device() -> None:
    """Raise what CUDA did not tell the step, and give back the memory of its tensors."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main(*sys.argv[1:])
