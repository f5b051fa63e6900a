"""A process that makes trials, and is replaced when it dies of one or does not come back."""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType

from campaign.seeds import Files
from vimdeploy.errors import VimdeployError

MEMORY = 3 << 30
"""Bytes that a worker may have of its own; the inputs are of a few kB."""
LONGEST_SENTENCE = 3000
"""Characters of an error message: lists of names are cut long before."""
PRELOADED = ["numpy", "onnx", "onnxruntime", "torch", "vimdeploy.cli"]


@dataclass(frozen=True)
class Outcome:
    """How a trial ended."""

    kind: str
    """``accepted``, ``refused`` in a sentence, ``crashed`` or ``hung``."""
    fault: str = ""
    """What is wrong, the same text for the same fault: an exception and where it came from, or a signal."""
    details: str = field(default="", compare=False)
    """The traceback, or what the process said at last."""

    @property
    def is_bad(self) -> bool:
        """Whether it is a fault of vimdeploy."""
        return self.kind in ("crashed", "hung")


class Worker:
    """Makes trials in a process of its own, one after the other."""

    def __init__(self, limit: float) -> None:
        """Start nothing yet.

        Args:
            limit: seconds that a trial may take.
        """
        self._limit = limit
        self._folder = Path(mkdtemp(prefix="campaign."))
        self._said = self._folder / "said.txt"
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._process is not None and self._connection is not None:
            self._connection.close()  # upon which it ends
            self._process.join(5)
        self._end()
        shutil.rmtree(self._folder, ignore_errors=True)

    def outcome(self, enter: Callable[[Path], None], files: Files) -> Outcome:
        """Bring files to a door, in a fresh folder."""
        folder = self._folder / "trial"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name, data in files.items():
            (folder / name).write_bytes(data)
        if self._process is None or not self._process.is_alive():
            self._start()
        assert self._connection is not None
        try:
            self._connection.send((enter, folder))
            if not self._connection.poll(self._limit):
                return self._end() or Outcome("hung", f"no end after {self._limit:g} s", self._last_words())
            outcome: Outcome = self._connection.recv()
        except (EOFError, OSError):
            return self._death()
        return outcome

    def _start(self) -> None:
        self._end()
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._said), daemon=True)
        self._process.start()
        theirs.close()

    def _death(self) -> Outcome:
        assert self._process is not None
        self._process.join()
        code = self._process.exitcode or 0
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return Outcome("crashed", f"the process died: {how}", self._last_words())

    def _last_words(self) -> str:
        return self._said.read_text(errors="replace")[-8000:] if self._said.is_file() else ""

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None


def _serve(connection: Connection, said: Path) -> None:
    """Make trials until the other end is closed."""
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    faulthandler.enable(open(2, "w", closefd=False))  # noqa: SIM115
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["VIMDEPLOY_TRACEBACK"] = "1"  # commands hand on what nobody expected
    with contextlib.suppress(EOFError):
        while True:
            enter, folder = connection.recv()
            os.ftruncate(file, 0)
            os.chdir(folder)
            connection.send(_outcome(enter, folder))


def _outcome(enter: Callable[[Path], None], folder: Path) -> Outcome:
    try:
        enter(folder)
    except VimdeployError as error:
        return _refusal(error)
    except BaseException as error:
        return Outcome("crashed", f"{type(error).__name__} at {_place(error)}", _traceback())
    return Outcome("accepted")


def _refusal(error: VimdeployError) -> Outcome:
    """A refusal has to be a sentence: with words in it, and of a length that people read."""
    message = str(error)
    if not message.strip() or len(message) > LONGEST_SENTENCE:
        fault = f"{type(error).__name__} at {_place(error)} with a message of {len(message)} characters"
        return Outcome("crashed", fault, _traceback())
    return Outcome("refused")


def _traceback() -> str:
    """What is being handled, without the ends of very long lines."""
    return "\n".join(line[:500] for line in traceback.format_exc().splitlines())[-8000:]


def _place(error: BaseException) -> str:
    """The innermost line of vimdeploy's that an exception went through; of anybody's if it went through none."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/vimdeploy/" in frame.filename and "site-packages/onnx" not in frame.filename]
    frame = (own or frames)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}"
