"""How files that somebody brings are read: regular files alone, text as UTF-8, and from the web within bounds."""

from __future__ import annotations

import codecs
import errno
import os
import stat
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING

from vimdeploy.text import reason_of, shortened

if TYPE_CHECKING:
    from urllib.request import OpenerDirector

_MOST_TEXT = 64 << 20
"""Bytes of a text file: many times the names of all pictures of ImageNet with their classes."""
_LONGEST_LINE = 1 << 16
"""Bytes of a line of a list: a path has 4,096 at most, a URL few more."""
_MOST_DOWNLOADED = 256 << 20
"""Bytes of a picture from the web: more than any that Pillow opens has as a JPEG."""
_SILENCE, _WHOLE = 20.0, 300.0
"""Seconds that a server may say nothing, and that a whole download may take."""


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


def lines_of(file: IO[bytes]) -> Iterator[str]:
    """The lines of a list of any length, as they come, without those that are empty; bytes as names of files have them.

    Raises:
        ValueError: if a line is too long for a path or a URL, or the text is UTF-16.
    """
    number = 0
    while line := file.readline(_LONGEST_LINE):
        number += 1
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
            if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise ValueError("it is UTF-16; save it as UTF-8")
        if len(line) == _LONGEST_LINE:
            raise ValueError(f"line {number} has more than {_LONGEST_LINE >> 10} KiB")
        name = os.fsdecode(line.rstrip(b"\r\n"))
        if name:
            yield name


def downloaded(url: str) -> bytes:
    """What is at an address of http or https.

    Raises:
        OSError: if it cannot be had in time, or is too large.
        ValueError: if it is no address.
    """
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.parse import quote

    address = quote(url, safe="!#$%&'()*+,/:;=?@[]~", errors="surrogateescape")
    end = time.monotonic() + _WHOLE
    parts, size = [], 0
    try:
        with _opener().open(address, timeout=_SILENCE) as answer:
            while part := answer.read1(1 << 16):
                parts.append(part)
                size += len(part)
                if size > _MOST_DOWNLOADED:
                    raise OSError(f"it has more than {_MOST_DOWNLOADED >> 20} MiB")
                if time.monotonic() > end:
                    raise TimeoutError(f"it was not there after {_WHOLE:.0f} seconds")
            if answer.length:  # promised and not sent
                raise OSError(f"it ended after {size} bytes of {size + answer.length}")
    except HTTPError as error:
        raise OSError(f"the server answers {error.code}, {error.reason}") from error
    except URLError as error:
        raise OSError(reason_of(error.reason) if isinstance(error.reason, Exception) else error.reason) from error
    except HTTPException as error:
        raise OSError(f"the server does not speak HTTP ({reason_of(error)})") from error
    return b"".join(parts)


@cache
def _opener() -> OpenerDirector:
    """Knows http and https alone: a server must not send anybody to a file or to another protocol."""
    from urllib import request

    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler,
        request.HTTPHandler,
        request.HTTPSHandler,
        request.HTTPRedirectHandler,
        request.HTTPDefaultErrorHandler,
        request.HTTPErrorProcessor,
        request.UnknownHandler,
    ):
        opener.add_handler(handler())
    opener.addheaders = [("User-Agent", "vimdeploy")]
    return opener
