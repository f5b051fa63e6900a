"""ONNX Runtime as a runtime: our operators from the library where it is there, else from the file's function bodies."""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from vimdeploy.artifact import ModelInfo, read_onnx
from vimdeploy.errors import ConfigError, ExecutionError, ModelFileError, first_line
from vimdeploy.preprocess import FloatArray
from vimdeploy.runtimes.base import Session

OPERATORS = ("auto", "library", "function body")
DEVICES = ("auto", "cpu")
_SUFFIX = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")


class OnnxRuntimeSession(Session):
    """An ONNX file of ours in ONNX Runtime."""

    def __init__(
        self,
        model: Path | bytes,
        info: ModelInfo,
        device: str = "auto",
        threads: int | None = None,
        operators: str = "auto",
        providers: Sequence[str] | None = None,
    ) -> None:
        """Open a session; ``session_from_onnx`` is the way in for files.

        Args:
            model: the file, or its bytes, validated by ``artifact.read_onnx``.
            info: what it says of itself.
            device: ``auto`` or ``cpu``.
            threads: that one operator may use; None leaves the choice to ONNX Runtime (all cores).
            operators: ``library``, ``function body``, or ``auto``: the library where it is installed.
            providers: ONNX Runtime's names of execution providers, first choice first; None follows the device.

        Raises:
            ConfigError: for an option that is none of these, a missing library or provider.
            ModelFileError: where ONNX Runtime refuses the model.
        """
        import onnxruntime as ort

        library = _choose_library(operators)
        if device not in DEVICES:
            raise ConfigError(f"device must be one of {', '.join(DEVICES)}, found {device!r}.")
        if threads is not None and threads < 1:
            raise ConfigError(f"threads must be at least 1, found {threads}.")
        wanted = list(providers or ["CPUExecutionProvider"])
        missing = set(wanted) - set(ort.get_available_providers())
        if missing:
            raise ConfigError(
                f"This ONNX Runtime has no {', '.join(sorted(missing))}; it has: "
                f"{', '.join(ort.get_available_providers())}."
            )
        options = ort.SessionOptions()
        options.log_severity_level = 4  # its errors come as exceptions
        options.intra_op_num_threads = threads or 0
        try:
            if library is not None:
                options.register_custom_ops_library(str(library))
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise ConfigError(
                f"The operator library {library} cannot be loaded ({first_line(error)}); "
                "install vimdeploy again, or use operators='function body'."
            ) from error
        try:
            self._session = ort.InferenceSession(
                model if isinstance(model, bytes) else str(model), options, providers=wanted
            )
        except Exception as error:
            raise ModelFileError(f"ONNX Runtime refuses the model: {first_line(error)}") from error
        if not set(wanted) <= set(self._session.get_providers()):
            raise ConfigError(f"Wanted the providers {wanted}, ONNX Runtime gave {self._session.get_providers()}.")
        self.info = info
        self.device = "cpu"
        self.operators = "function body" if library is None else "library"
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[0].name

    def _run(self, array: FloatArray) -> FloatArray:
        try:
            logits: FloatArray = self._session.run([self._output], {self._input: array})[0]
        except Exception as error:
            raise ExecutionError(f"ONNX Runtime failed on a batch of {len(array)}: {first_line(error)}") from error
        return logits


def session_from_onnx(path: str | Path, **options: Any) -> OnnxRuntimeSession:
    """Open an ONNX file of ours, validated first; options as of ``OnnxRuntimeSession``.

    Raises:
        ModelFileError: where the file is not there, damaged or not ours.
    """
    _, info = read_onnx(path)
    return OnnxRuntimeSession(Path(path), info, **options)


def sessions_of_all_operators(
    model: Path | bytes, info: ModelInfo, threads: int | None = None
) -> list[OnnxRuntimeSession]:
    """A session with the operator library, where it is installed, then one with the function bodies alone."""
    both = ["library", "function body"] if library_path() else ["function body"]
    return [OnnxRuntimeSession(model, info, threads=threads, operators=operators) for operators in both]


def library_path() -> Path | None:
    """Our operator library for ONNX Runtime; None where this installation was built without it."""
    for package in sys.modules["vimdeploy"].__path__:  # two folders where vimdeploy is installed as editable
        path = Path(package) / "lib" / f"libvimdeploy_onnxruntime{_SUFFIX}"
        if path.is_file():
            return path
    return None


@cache
def library_info() -> dict[str, Any] | None:
    """What the library says of itself: version, types, the instruction set it chose; None where it is not."""
    path = library_path()
    if path is None:
        return None
    describe = ctypes.CDLL(str(path)).VimdeployLibraryInfo
    describe.restype = ctypes.c_char_p
    info: dict[str, Any] = json.loads(describe())
    return info


def _choose_library(operators: str) -> Path | None:
    if operators not in OPERATORS:
        raise ConfigError(f"operators must be one of {', '.join(OPERATORS)}, found {operators!r}.")
    library = None if operators == "function body" else library_path()
    if operators == "library" and library is None:
        raise ConfigError(
            "The operator library is not in this installation of vimdeploy; install it again where a C++ compiler and "
            "cmake are, or use operators='function body'."
        )
    return library
