"""The command line of ``tools/kill_test``: SIGKILL at any moment of a long command, and what it leaves."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import random
import re
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from campaign import seeds
from vimdeploy.artifact import open_artifact

GRACE = 10.0
"""Seconds in which a killed command's own processes have to end."""
NEXT = """
from vimdeploy.files import scratch_folder, write_whole
write_whole("out/next", b"next")
with scratch_folder():
    pass
"""
"""What a next command does to the folders that it writes to."""


@dataclass(frozen=True)
class Command:
    """A command that takes its time, and what it writes."""

    arguments: str
    outputs: tuple[str, ...]
    is_whole: Callable[[Path], object]
    """Opens the first output; raises if it is none."""
    needs: tuple[str, ...] = ()
    """Packages without which there is no such command."""
    program: tuple[str, ...] = ("-m", "vimdeploy")
    """What Python is started with."""


def _is_whole_page(path: Path) -> None:
    assert path.read_text().rstrip().endswith("</html>"), "a page without its end"


def _is_whole_figure(path: Path) -> None:
    assert path.read_text().rstrip().endswith("</svg>"), "a figure without its end"


def _is_whole_npz(path: Path) -> None:
    import numpy as np

    with np.load(path) as arrays:
        assert [arrays[name] for name in arrays.files], "no arrays"


def _is_whole_shard(path: Path) -> None:
    from safetensors.numpy import load_file

    assert len(load_file(path)["logits"]) == 2, "not the vectors of both pictures"


COMMANDS = {
    "export": Command("export tiny.json -c weights -o out/model.onnx", ("model.onnx",), open_artifact),
    "convert": Command("convert good.onnx -o out/model.onnx --precision fp16", ("model.onnx",), open_artifact),
    "quantize": Command(
        "quantize good.onnx -o out/model.onnx --images pictures --budget 100", ("model.onnx",), open_artifact
    ),
    "build": Command(
        "build good.onnx --flavor rtx -o out/model.engine",
        ("model.engine", "model.engine.json"),
        open_artifact,
        ("tensorrt_rtx", "polygraphy"),
    ),
    "run": Command("run features.onnx pictures/one.png --save out", ("one.npz", "one.png"), _is_whole_npz),
    "extract": Command(
        "extract good.onnx pictures -o out --resume", ("00000.safetensors", "00000.csv"), _is_whole_shard
    ),
    "verify": Command(
        "verify good.onnx -c weights --report out/page.html", ("page.html",), _is_whole_page, ("jinja2",)
    ),
    "bench": Command(
        "bench good.onnx --seconds 0.05 --rounds 2 --figure out/figure.svg",
        ("figure.svg",),
        _is_whole_figure,
        ("matplotlib",),
    ),
}
"""By the names that ``--command`` takes; they run in a folder with the files of ``prepare``, and write to ``out``."""


def prepare(folder: Path) -> None:
    """Make the inputs of all commands."""
    files = {"tiny.json": seeds.DESCRIPTION, "weights": seeds.checkpoints()[0]}
    files |= {"good.onnx": seeds.onnx_model("classifier"), "features.onnx": seeds.onnx_model("features")}
    files |= {f"pictures/{name}.png": picture for name, picture in zip(("one", "two"), seeds.pictures(), strict=False)}
    for name in ("pictures", "out", "scratch"):
        (folder / name).mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)


_FOREIGN = "ort.quant."
"""Folders for temporary files that ONNX Runtime's quantizer has for a moment; nobody can tell whose they are."""


class Target:
    """A command that is killed again and again."""

    def __init__(self, command: Command, folder: Path) -> None:
        """Run it once to its end, to know how long it takes and what it writes."""
        self._command, self._folder, self._out, self._scratch = command, folder, folder / "out", folder / "scratch"
        self._environment = {**os.environ, "TMPDIR": str(self._scratch)}
        begin = time.monotonic()
        process = self._start()
        self.words = process.communicate()[0].decode(errors="replace")
        self.seconds = time.monotonic() - begin
        if process.returncode:
            raise click.ClickException(f"{command.arguments} does not run:\n{self.words}")
        self._whole = self._contents()

    def _start(self) -> subprocess.Popen[bytes]:
        arguments = [sys.executable, *self._command.program, *self._command.arguments.split()]
        return subprocess.Popen(
            arguments,
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _contents(self) -> seeds.Files:
        return {path.name: path.read_bytes() for path in self._out.iterdir()}

    def kill(self, moment: random.Random) -> str:
        """Kill it over old outputs or none: half of the times at any moment, half soon after its first new file."""
        written = moment.random() < 0.5
        wait = moment.choice((0.0, moment.uniform(0, 0.02))) if written else moment.uniform(0, self.seconds * 1.1)
        return self.kill_after(wait, written, has_old=moment.random() < 0.5)

    def kill_after(self, wait: float, written: bool, has_old: bool) -> str:
        """Kill it once, and look at what is left.

        Args:
            wait: seconds.
            written: count them from when something new lies in the folder, not from the start.
            has_old: whether outputs lie there already.

        Returns:
            ``before`` or ``after`` it wrote its outputs, ``between`` two of them, or what is wrong.
        """
        old = dict.fromkeys(self._command.outputs, b"old") if has_old else {}
        for path in self._out.iterdir():
            path.unlink()
        for name, data in old.items():
            (self._out / name).write_bytes(data)
        process = self._start()
        while written and process.poll() is None and self._names() == set(old):
            time.sleep(0.0002)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait)
        process.kill()
        process.stdout.close()  # type: ignore[union-attr]
        process.wait()
        return self._orphans(process.pid) or self._half_written(old) or self._left_behind() or self._written(old)

    def _names(self) -> set[str]:
        return {path.name for path in self._out.iterdir()}

    def _orphans(self, session: int) -> str:
        """The processes of the command that do not end by themselves."""
        until = time.monotonic() + GRACE
        while found := _processes_of(session):
            if time.monotonic() > until:
                for number in found:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(number, signal.SIGKILL)
                return "a process lives on"
            time.sleep(0.05)
        return ""

    def _half_written(self, old: seeds.Files) -> str:
        found = self._contents()
        for name in self._command.outputs:
            if name in found and found[name] != old.get(name) and not self._is_whole_file(name, found[name]):
                return f"{name} is half-written"
        first = self._command.outputs[0]
        if first in found and found[first] != old.get(first) and self._written(old) != "between":
            try:
                self._command.is_whole(self._out / first)
            except Exception as error:
                return f"{first} does not open: {error}"
        return ""

    def _is_whole_file(self, name: str, data: bytes) -> bool:
        """Whether a file ends as the one that was written at first; most runs write other bytes."""
        if name.endswith(".json"):
            with contextlib.suppress(ValueError):
                return bool(json.loads(data))
            return False
        whole = self._whole[name]
        return data == whole or (len(data) > 0.9 * len(whole) and data[-4:] == whole[-4:])

    def _left_behind(self) -> str:
        """What the next command that writes to the folder does not sweep, without the digits in its name."""
        if self._names() <= set(self._command.outputs) and not any(self._scratch.iterdir()):
            return ""
        subprocess.run([sys.executable, "-c", NEXT], cwd=self._folder, env=self._environment, check=True)
        strays = self._names() - set(self._command.outputs) - {"next"}
        strays |= {f"scratch/{path.name}" for path in self._scratch.iterdir() if not path.name.startswith(_FOREIGN)}
        return (
            f"left behind: {', '.join(sorted(re.sub('[0-9a-f]{6,}', '*', name) for name in strays))}" if strays else ""
        )

    def _written(self, old: seeds.Files) -> str:
        found = self._contents()
        new = [name in found and found[name] != old.get(name) for name in self._command.outputs]
        return "after" if all(new) else "between" if any(new) else "before"


def _processes_of(session: int) -> list[int]:
    """The living processes of a session, which is named by its first process."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, its_session = stat.read_text().rpartition(")")[2].split()[:4]
            if int(its_session) == session and state not in "ZX":
                found.append(int(stat.parent.name))
    return found


def missing(command: Command) -> str:
    """The package without which a command cannot be tried here; empty if none is missing."""
    return next((name for name in command.needs if importlib.util.find_spec(name) is None), "")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Kill each command so many times; one takes a few seconds.",
)
@click.option("--seed", type=int, help="Draw the moments from this seed. Default: a new one each time.")
@click.option(
    "--command",
    "names",
    type=click.Choice(list(COMMANDS)),
    multiple=True,
    help="Kill this command alone; repeat the option for more. Default: all.",
)
def main(count: int, seed: int | None, names: tuple[str, ...]) -> None:
    """Kill the commands that write, at random moments, and look at what they leave.

    Each output has to be absent, the old one, or a whole new one; a pair may be torn apart only so that it is refused
    in a sentence. What else lies in the folder has to be gone after the next write to it, and no process may live on.

    Exit codes: 0 all of it holds, 1 something does not, 2 wrong options.
    """
    seed = secrets.randbits(31) if seed is None else seed
    click.echo(f"seed {seed}", err=True)
    moment, is_clean = random.Random(seed), True
    with TemporaryDirectory(prefix="kill_test.") as temporary:
        folder = Path(temporary)
        for name in names or COMMANDS:
            if package := missing(COMMANDS[name]):
                click.echo(f"{name:10} skipped: there is no {package}")
                continue
            if not any(folder.iterdir()):
                prepare(folder)
            target = Target(COMMANDS[name], folder)
            counts = Counter(target.kill(moment) for _ in range(count))
            ends = {end: counts.pop(end, 0) for end in ("before", "between", "after")}
            faults = "".join(f"\n  {times} x {fault}" for fault, times in counts.items())
            is_clean = is_clean and not counts
            told = ", ".join(f"{times} {end}" for end, times in ends.items())
            click.echo(f"{name:10} {count} kills: {told} its outputs; faults: {sum(counts.values())}{faults}")
            for path in (folder / "out").iterdir():
                path.unlink()
    sys.exit(not is_clean)
