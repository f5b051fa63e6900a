"""Which line of somebody's code did it: models that other people wrote run inside of ours and of torch's."""

from __future__ import annotations

import linecache
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import FrameType

from vimdeploy.errors import VimdeployError
from vimdeploy.text import printable, reason_of, shortened

_LIBRARIES = ("vimdeploy", "torch", "onnxscript", "onnx", "onnx_ir", "numpy", "einops", "sympy")
"""Packages that are never at fault for what a model does."""


def place_of(error: BaseException) -> str:
    """The innermost line of somebody's code that an error came through; empty if it came through none."""
    return _innermost(traceback.walk_tb(error.__traceback__))


def told(error: BaseException) -> str:
    """What an error of somebody's code says, and in which line it was; a clause without its end."""
    kind = "" if isinstance(error, VimdeployError) else f"{type(error).__name__}: "
    place, reason = place_of(error), f"{kind}{reason_of(error)}".rstrip(".")
    return f"{reason} ({place})" if place else reason


def place_within(file: str) -> str:
    """The innermost line of somebody's code that runs now, called by code of a file; empty if there is none."""
    inner = []
    for frame, line in traceback.walk_stack(sys._getframe(1)):
        if frame.f_code.co_filename == file:
            break
        inner.append((frame, line))
    return _innermost(reversed(inner))


def _innermost(frames: Iterable[tuple[FrameType, int]]) -> str:
    theirs = [(frame.f_code, line) for frame, line in frames if _is_theirs(frame.f_code.co_filename)]
    if not theirs:
        return ""
    code, line = theirs[-1]
    text = shortened(linecache.getline(code.co_filename, line), 100)
    place = f"line {line} of {Path(code.co_filename).name}, in {code.co_name}"
    return printable(f'{place}: "{text}"' if text else place)


def _is_theirs(file: str) -> bool:
    """Whether a file is neither Python's, nor torch's, nor ours."""
    if file.startswith("<"):
        return False
    packages = [str(getattr(sys.modules.get(name), "__file__", None) or "") for name in _LIBRARIES]
    folders = [str(Path(package).parent) + os.sep for package in packages if package]
    standard = sysconfig.get_paths()["stdlib"] + os.sep
    of_python = file.startswith(standard) and "site-packages" not in file and "dist-packages" not in file
    return not of_python and not any(file.startswith(folder) for folder in folders)
