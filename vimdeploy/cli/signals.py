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

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it: 128 and the signal's number."""
_PATIENCE = 10.0
"""Seconds that a command gets to unwind."""
_ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind what is inside, with the exit code of the signal, and Ctrl-C as Python does.

    Other threads than the main one cannot set handlers: there it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    woken = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    handlers = {number: signal.signal(number, _unwind) for number in _ENDING}
    threading.Thread(target=_watch, args=(reader,), daemon=True).start()
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(woken)
        writer.close()  # which ends the thread


def _unwind(number: int, _: Any) -> None:
    sys.exit(128 + number)


def _watch(reader: socket.socket) -> None:
    """Learn of signals until the other end is closed."""
    ended_by = 0
    with reader, suppress(OSError):
        while received := _next(reader, _PATIENCE if ended_by else None):
            if received[0] not in (signal.SIGINT, *_ENDING):
                continue
            if ended_by:
                break
            ended_by = received[0]
            runs = sys.modules.get("vimdeploy.runtimes.runs")
            if runs is not None:
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
def interrupts_kept() -> Iterator[None]:
    """Let Ctrl-C end the work inside by KeyboardInterrupt, whatever foreign code makes of it.

    torch's exporter turns an interrupt into an error of its own, or swallows it.
    """
    pressed = False

    def interrupt(*_: Any) -> None:
        nonlocal pressed
        pressed = True
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except Exception:
        if not pressed:
            raise
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt
