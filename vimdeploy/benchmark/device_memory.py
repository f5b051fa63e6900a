"""The GPU memory that a subject takes. Unconfirmed: no GPU has run this yet."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from vimdeploy.errors import ConfigError
from vimdeploy.gpu import memory_in_use

METHOD = (
    "on GPUs device memory as the driver counts it for the whole device, above a process that has its context there; "
    "what other programs take meanwhile is in it"
)


class DeviceMemory:
    """How much more memory of the first GPU is in use after this process has worked than before.

    Only its own steps are counted: subjects that take turns with it load their models in between. What is taken is
    kept, by ONNX Runtime's arena as by TensorRT, so that the sum is the peak.
    """

    def __init__(self, wanted: bool) -> None:
        """Where it is wanted and there is a GPU, this process gets its context there."""
        self.taken: int | None = None
        """In bytes; None where it is not counted."""
        if wanted:
            with contextlib.suppress(ConfigError):
                memory_in_use()
                self.taken = 0

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Around a step of this process."""
        if self.taken is None:
            yield
            return
        before = memory_in_use()
        yield
        self.taken += memory_in_use() - before
