"""The list of steps, and how one is run: in a process of its own, with a time limit, whatever happens in it."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpu_kit.records import Log, Record, read_log

REPOSITORY = Path(__file__).parents[2]
GROUPS = ("build", "check", "bench")


@dataclass(frozen=True)
class Settings:
    """What the command line asked for."""

    work: Path
    """Where the build, the models and the logs of the steps go."""
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
        """For the processes of the steps."""
        return json.dumps({name: str(v) if isinstance(v, Path) else v for name, v in dataclasses.asdict(self).items()})

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """From ``to_json``."""
        fields = json.loads(text)
        for name in ("work", "deps", "tensorrt_root"):
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
    Step("memcheck", "check", "gpu_kit.check_kernels", "memcheck", 300),
    Step("racecheck", "check", "gpu_kit.check_kernels", "racecheck", 300),
    Step("synccheck", "check", "gpu_kit.check_kernels", "synccheck", 300),
    Step("initcheck", "check", "gpu_kit.check_kernels", "initcheck", 300),
    Step("operators", "check", "gpu_kit.check_operators", "operators", 300),
    Step("models", "check", "gpu_kit.check_models", "models", 900),
    Step("kernels", "bench", "gpu_kit.bench_kernels", "kernels", 300),
    Step("replaced-path", "bench", "gpu_kit.replaced_path", "replaced_path", 300),
    Step("latency", "bench", "gpu_kit.bench_models", "latency", 900),
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


def run_step(step: Step, settings: Settings) -> list[Record]:
    """All that the step found, and one failed record more if it crashed or ran out of time."""
    settings.work.mkdir(parents=True, exist_ok=True)
    log, output = settings.log_of(step.name), settings.work / f"{step.name}.txt"
    log.unlink(missing_ok=True)
    paths = [str(Path(__file__).parents[1]), str(settings.site), os.environ.get("PYTHONPATH", "")]
    with output.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "gpu_kit.steps", step.module, step.function, step.name, settings.to_json()],
            cwd=settings.work,  # not the repository: its vimdeploy/ has no library
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in paths if path)},
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        problem = _wait(process, step.limit_s)
    records = read_log(log)
    if problem:
        tail = " / ".join(output.read_text(errors="replace").strip().splitlines()[-3:])
        records.append(Record(step.name, "the step itself", "failed", {}, f"{problem}: {tail}"))
    return records


def _wait(process: subprocess.Popen[bytes], limit_s: int) -> str | None:
    """What went wrong with a process; whatever it started is ended with it if it did not end by itself."""
    try:
        code = process.wait(limit_s)
    except BaseException as error:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            return f"took longer than {limit_s} s"
        raise
    return None if code == 0 else f"ended with {code}"


def main(module: str, function: str, name: str, settings_json: str) -> None:
    """In the step's own process."""
    settings = Settings.from_json(settings_json)
    getattr(importlib.import_module(module), function)(settings, Log(settings.log_of(name), name))


if __name__ == "__main__":
    main(*sys.argv[1:])
