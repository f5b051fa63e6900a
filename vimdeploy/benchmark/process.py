"""A worker as its parent sees it."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from typing import Any

from vimdeploy.benchmark.profile import OperatorTime
from vimdeploy.benchmark.sources import Settings, Subject
from vimdeploy.benchmark.worker import order
from vimdeploy.errors import ExecutionError

WORKER = "import sys; sys.path[:] = {path!r}; from vimdeploy.benchmark.worker import main; main()"
"""The worker imports what this process does; by itself Python would look first into the folder it is started in."""


class Worker:
    """A fresh process for one subject; a context manager, which ends it."""

    def __init__(self, subject: Subject, settings: Settings) -> None:
        """Start the process and have it load the subject.

        Raises:
            ExecutionError: if the process gives up; the message is its sentence.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORKER.format(path=sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the parent, which still has to print what was measured
        )
        try:
            self.facts = self._ask(order(subject, settings))
        except BaseException:
            self.close()
            raise

    def turn(self, **length: float) -> tuple[list[float], int | None]:
        """Let the subject run for a while: ``calls=N`` or ``seconds=S``.

        Returns:
            The milliseconds of each call, and the peak of the process's memory above its idle state, in bytes; None
            on a GPU that does not tell.

        Raises:
            ExecutionError: if the process gives up.
        """
        answer = self._ask(length)
        return answer["milliseconds"], answer["peak_bytes"]

    def profile(self) -> list[OperatorTime]:
        """What each type of node takes, in a session that is opened for it; for ONNX files alone.

        Raises:
            ExecutionError: if the process gives up.
        """
        return [OperatorTime(**row) for row in self._ask({})["profile"]]

    def close(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.communicate()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = ""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        if not line:
            raise ExecutionError(_ending(self._process.wait()))
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ExecutionError(answer["error"])
        return answer

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _ending(code: int) -> str:
    """Why a process ended without an answer."""
    if code == -signal.SIGKILL:
        return "Its process was killed, as the system does when memory runs out; try a smaller batch or image size."
    if code < 0:
        return f"Its process was ended by signal {-code} ({signal.strsignal(-code)})."
    return f"Its process ended with code {code}; what it said stands on standard error."
