"""The memory of this process, as the system counts it."""

from __future__ import annotations

import sys
from pathlib import Path

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")

RESET = "resident memory, VmHWM of /proc/self/status, reset once the session is loaded"
WHOLE_LIFE = "resident memory, which cannot be reset here, so that loading is in it"


def forget_peak() -> str:
    """Begin a new search for the peak where the system can; how the peak is found from here on, in words."""
    try:
        _CLEAR.write_text("5")  # proc(5): sets VmHWM back to VmRSS
    except OSError:
        return WHOLE_LIFE
    return RESET


def resident_bytes() -> int:
    """What this process holds now; its peak where the system does not tell."""
    return _status_bytes("VmRSS") or peak_bytes()


def peak_bytes() -> int:
    """The most that this process has held, since ``forget_peak`` where that was possible."""
    return _status_bytes("VmHWM") or _rusage_bytes()


def _status_bytes(field: str) -> int | None:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith(f"{field}:")), None)


def _rusage_bytes() -> int:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10
