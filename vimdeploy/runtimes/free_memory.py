"""Memory that this process has freed, and that the system could use."""

from __future__ import annotations

import ctypes
import sys


def give_back_free_memory() -> None:
    """Give the free pages of the heap back to the system. glibc keeps all that lie below one that is used.

    Reading a model and opening its session leave many: 17 MB for Vim-Ti, whose weights are 29 MB. C libraries other
    than glibc are left alone.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(ctypes.c_size_t(0))
