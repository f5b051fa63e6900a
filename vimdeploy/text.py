"""Text that comes from files and from foreign libraries: bounded in length, and safe on a terminal."""

from __future__ import annotations

import unicodedata

_LONGEST = 600
_JOINERS = frozenset("\u200c\u200d")
"""Characters that join letters of scripts and pictograms: they have no width, and do no harm."""


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


def counted(count: int, what: str) -> str:
    """``1 picture``, ``2 pictures``."""
    return f"{count} {what}" + ("s" if count != 1 else "")


def printable(text: str) -> str:
    """A text that a terminal shows and does not obey.

    Control characters, changes of direction, lone surrogates and what has no width are written as escapes such as
    ``\\x1b``.
    """
    return "".join(char if _is_shown(char) else char.encode("unicode_escape").decode() for char in text)


def _is_shown(char: str) -> bool:
    return char.isprintable() or char in _JOINERS or unicodedata.category(char) == "Zs"  # spaces of other widths
