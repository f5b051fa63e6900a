"""Text that comes from files and from foreign libraries: bounded in length, and safe on a terminal."""

from __future__ import annotations

import unicodedata

_LONGEST = 600
_UNSAFE = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode categories: control characters, lone surrogates, line and paragraph separators."""
_TURNING = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the direction of the text around them."""


def shortened(text: str, limit: int = _LONGEST) -> str:
    """A text in one line, without its middle if it has more than so many characters.

    The end stays, because that is where many libraries say why.
    """
    line = " ".join(text.split())
    if len(line) <= limit:
        return line
    end = limit // 3
    return f"{line[: limit - end - 5]} ... {line[-end:]}"


def reason_of(error: BaseException) -> str:
    """What a foreign exception says, in one line of bounded length; its type if it says nothing."""
    return shortened(str(error)) or type(error).__name__


def printable(text: str) -> str:
    """A text that a terminal shows and does not obey: control characters are written as escapes such as ``\\x1b``."""
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in _UNSAFE or char in _TURNING else char
        for char in text
    )
