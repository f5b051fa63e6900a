"""Deploy Vision Mamba: checkpoint -> ONNX -> answers on any machine, with proof that they stay the same.

>>> session = vimdeploy.load("vim_tiny.onnx")
>>> session.classify(["cat.jpg"], top=5)
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# ONNX Runtime 1.29 and newer report to their maker unless this is set before they are imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from pathlib import Path

    from vimdeploy.runtimes.base import Session

__all__ = ["__version__", "load"]


def load(path: str | Path, device: str = "auto", threads: int | None = None, **options: Any) -> Session:
    """Open an artifact.

    Args:
        path: an ONNX file of ``vimdeploy export``, or an engine of ``vimdeploy build``.
        device: ``auto``, ``cpu`` or ``cuda``; an engine runs on ``cuda`` alone.
        threads: that one operator may use; None takes all cores.
        **options: of the runtime: ``operators``, ``providers`` (``runtimes.onnxruntime.OnnxRuntimeSession``); ``gpu``,
            ``allow_engine_code`` (``runtimes.tensorrt.TensorRTSession``).

    Returns:
        A session: ``run(array)``, ``classify(images)``.

    Raises:
        ModelFileError: where the file is not there, damaged, not ours, or of a version unknown here.
        ConfigError: for an option that this machine or this vimdeploy does not have.
    """
    from vimdeploy.engine_file import is_engine

    if is_engine(path):
        from vimdeploy.runtimes.tensorrt import session_from_engine

        return session_from_engine(path, device=device, threads=threads, **options)
    from vimdeploy.runtimes.onnxruntime import session_from_onnx

    return session_from_onnx(path, device=device, threads=threads, **options)


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version

        return version("vimdeploy")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
