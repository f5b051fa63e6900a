"""Signals: every way to end a command unwinds it, so that nothing half-written stays, and none is waited for in vain.

Python's own handlers run between two steps of Python alone: a library that computes for hours, or for ever, is not
stopped by them. So a thread learns of each signal at once. It stops what ONNX Runtime computes, and ends the process if
the command does not end by itself, or if a second signal comes.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

_PATIENCE = 10.0
"""Seconds that a command gets to unwind."""
_ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_RUNS = "vimdeploy.runtimes.runs"
"""Nothing runs as long as it is not imported."""
_received: list[int] = []
"""The numbers of the signals that have come since the command began."""


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let Ctrl-C unwind what is inside as KeyboardInterrupt, SIGTERM and SIGHUP as SystemExit.

    Other threads than the main one cannot set handlers: there it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _received.clear()
    if runs := sys.modules.get(_RUNS):
        runs.allow_runs()
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    woken = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    handlers = {number: signal.signal(number, _unwind) for number in _ENDING}
    unraisable, sys.unraisablehook = sys.unraisablehook, _unraisable
    threading.Thread(target=_watch, args=(reader,), daemon=True).start()
    try:
        yield
    finally:
        sys.unraisablehook = unraisable
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(woken)
        writer.close()  # which ends the thread


def exit_code() -> int | None:
    """The code of the first signal that has come, as shells have it: 128 and its number; None if none has."""
    return 128 + _received[0] if _received else None


def _unwind(number: int, _: Any) -> None:
    _received.append(number)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


def _unraisable(unraisable: Any) -> None:
    """Say nothing of an interrupt that came while an object was freed; the end of the command knows of it."""
    if not (_received and issubclass(unraisable.exc_type, (KeyboardInterrupt, SystemExit))):
        sys.__unraisablehook__(unraisable)


def _watch(reader: socket.socket) -> None:
    """Learn of signals until the other end is closed."""
    ended_by = 0
    with reader, suppress(OSError):
        while received := _next(reader, _PATIENCE if ended_by else None):
            if received[0] not in _ENDING:
                continue
            if ended_by:
                break
            ended_by = received[0]
            if runs := sys.modules.get(_RUNS):
                runs.stop_runs()
        if received != b"":
            os._exit(128 + ended_by)


def _next(reader: socket.socket, seconds: float | None) -> bytes | None:
    """The number of the next signal; empty at the end, None if none comes in time."""
    reader.settimeout(seconds)
    try:
        return reader.recv(1)
    except TimeoutError:
        return None


@contextmanager
def signals_kept() -> Iterator[None]:
    """Let a signal end the work inside, whatever foreign code makes of its exception.

    torch's exporter turns an interrupt into an error of its own, or swallows it.
    """
    try:
        yield
    except Exception:
        if not _received:
            raise
    if _received:
        if _received[0] == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(exit_code())
