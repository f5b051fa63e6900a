"""The memory that a subject takes: of its process, as the system counts it, or of the GPU, as the driver does."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from vimdeploy.errors import ConfigError
from vimdeploy.gpu import memory_in_use
from vimdeploy.machine import status_bytes

_CLEAR = Path("/proc/self/clear_refs")

RESET = "resident memory, VmHWM of /proc/self/status, reset once the session is loaded"
WHOLE_LIFE = "resident memory, which cannot be reset here, so that loading is in it"
ON_GPU = (
    "on GPUs device memory as the driver counts it for the whole device, above a process that has its context there; "
    "what other programs take meanwhile is in it"
)


def forget_peak() -> str:
    """Start a new search for the peak if the system can, and say in words how the peak is found from here on."""
    try:
        _CLEAR.write_text("5")  # proc(5): sets VmHWM back to VmRSS
    except OSError:
        return WHOLE_LIFE
    return RESET


def resident_bytes() -> int:
    """What this process holds now; its peak if the system does not tell."""
    return status_bytes("VmRSS") or peak_bytes()


def peak_bytes() -> int:
    """The most that this process has held, since ``forget_peak`` if that was possible."""
    return status_bytes("VmHWM") or _rusage_bytes()


def _rusage_bytes() -> int:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


class DeviceMemory:
    """How much more memory of a GPU is in use after this process has worked than before.

    Only its own steps are counted: subjects that take turns with it load their models in between. What is taken is
    kept, by ONNX Runtime's arena as by TensorRT, so that the sum is the peak.
    """

    def __init__(self, gpu: int | None) -> None:
        """If the GPU of that number is there, this process gets its context there.

        Args:
            gpu: CUDA's number; None: nothing is counted.
        """
        self._gpu = gpu or 0
        self.taken: int | None = None
        """In bytes; None if it is not counted."""
        if gpu is not None:
            with contextlib.suppress(ConfigError):
                memory_in_use(gpu)
                self.taken = 0

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Around a step of this process."""
        if self.taken is None:
            yield
            return
        before = memory_in_use(self._gpu)
        yield
        self.taken += memory_in_use(self._gpu) - before
