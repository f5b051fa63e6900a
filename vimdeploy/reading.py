"""How files that somebody brings are read: regular files alone, text as UTF-8."""

from __future__ import annotations

import codecs
import errno
import os
import stat
from pathlib import Path

from vimdeploy.text import reason_of, shortened

_MOST_TEXT = 64 << 20
"""Bytes of a text file: many times the names of all pictures of ImageNet with their classes."""


def shown(path: str | os.PathLike[str]) -> str:
    """A path for a message: what is too long for a file's name is not repeated in full."""
    text = os.fspath(path)
    return text if len(text) <= 300 else shortened(text, 300)


def why(error: Exception) -> str:
    """Why a file could not be read, without the number that systems give the reason, and without its path again."""
    return getattr(error, "strerror", None) or reason_of(error)


def check_regular(path: str | os.PathLike[str]) -> None:
    """Refuse devices, pipes and sockets, which may block for ever or never end.

    Raises:
        OSError: if the path is no regular file; says what it is.
        ValueError: if it cannot be a path.
    """
    mode = Path(path).stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a device, a pipe or a socket; wanted a regular file")


def read_text(path: str | os.PathLike[str]) -> str:
    r"""Read a text file; a byte order mark is passed over, and every line ends with ``\n``.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is no UTF-8, or too large to be a list of names.
    """
    check_regular(path)
    size = Path(path).stat().st_size
    if size > _MOST_TEXT:
        raise ValueError(f"it has {size >> 20} MiB, at most {_MOST_TEXT >> 20} are read")
    data = Path(path).read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in data:
        raise ValueError("it is not UTF-8 but UTF-16 or no text at all; save it as UTF-8")
    try:
        text = data.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line} is not UTF-8 (byte 0x{data[error.start]:02x}); save it as UTF-8") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")
