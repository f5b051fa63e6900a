"""An engine and the file beside it that says what it is.

The plan of ``model.engine`` stays as TensorRT wrote it, so that trtexec and Triton read it. ``model.engine.json`` tells
what the plan does not: what it may run on, and all that the ONNX file said of the model.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vimdeploy.errors import ModelFileError
from vimdeploy.files import write_together
from vimdeploy.model_info import ModelInfo

FORMAT = "1"
"""Version of the layout of the file beside the engine."""

FLAVORS = ("tensorrt", "rtx")
HARDWARE_COMPATIBILITY = ("none", "ampere_plus", "same_compute_capability")
_SUFFIXES = (".engine", ".plan")


@dataclass(frozen=True)
class EngineInfo:
    """What is known of an engine beside its plan."""

    model: ModelInfo
    flavor: str
    """One of ``FLAVORS``: who builds and runs it."""
    tensorrt_version: str
    profile: Mapping[str, tuple[tuple[int, ...], ...]]
    """The shapes of each input: smallest, the one it is fastest at, largest."""
    onnx_sha256: str
    engine_sha256: str
    engine_bytes: int
    plugin_version: str | None = None
    """Version of the plugin layers in the plan; None if our operators are their function bodies."""
    plugin_in_engine: bool = False
    """Whether the plan carries the plugin library."""
    device: str | None = None
    """The GPU it was built on; None if it was built without one."""
    compute_capability: str | None = None
    """Compute capability of that GPU: ``8.7``."""
    version_compatible: bool = False
    hardware_compatibility: str = "none"
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of the packages that built it."""

    @property
    def operators(self) -> str:
        """What computes our operators."""
        return "function body" if self.plugin_version is None else "plugin"

    @property
    def carries_code(self) -> bool:
        """Whether the plan holds code for the CPU: the plugin library, or the runtime of its TensorRT version."""
        return self.plugin_in_engine or self.version_compatible

    def to_document(self) -> dict[str, Any]:
        """As an object for JSON."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "model"}
        return {"format": FORMAT, **fields, "model": self.model.to_metadata()}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> EngineInfo:
        """From ``to_document``; entries of others are passed over.

        Raises:
            ModelFileError: if entries are not there, damaged, or of a newer vimdeploy.
        """
        if document.get("format") != FORMAT:
            raise ModelFileError(f"it has format {document.get('format')}, this vimdeploy reads format {FORMAT}")
        known = {f.name: document[f.name] for f in dataclasses.fields(cls) if f.name in document}
        try:
            known["profile"] = {
                str(name): tuple(tuple(int(size) for size in shape) for shape in shapes)
                for name, shapes in document["profile"].items()
            }
            known["model"] = ModelInfo.from_metadata(document["model"])
            info = cls(**known)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelFileError(f"an entry is missing or damaged ({error!r})") from error
        if info.flavor not in FLAVORS:
            raise ModelFileError(f"its flavor must be one of {', '.join(FLAVORS)}, found {info.flavor!r}")
        return info


def sidecar_path(path: str | Path) -> Path:
    """Where the file beside an engine lies."""
    return Path(f"{path}.json")


def is_engine(path: str | Path) -> bool:
    """Whether a file is to be read as an engine: by its name, or, if the name says nothing, by the file beside it."""
    suffix = Path(path).suffix
    return suffix in _SUFFIXES or (suffix != ".onnx" and sidecar_path(path).is_file())


def sha256_of(data: bytes) -> str:
    """The SHA-256 of a file's contents, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def write_engine(path: Path, plan: bytes, info: EngineInfo) -> None:
    """Write an engine and the file beside it, both or none.

    Raises:
        OutputError: if they cannot be written; nothing is left behind.
    """
    text = json.dumps(info.to_document(), indent=2, ensure_ascii=False) + "\n"
    write_together({path: plan, sidecar_path(path): text.encode()})


def read_engine(path: str | Path) -> tuple[bytes, EngineInfo]:
    """Read an engine, and check that it is the one that the file beside it speaks of.

    Returns:
        The plan, which nothing has read yet, and what is known of it.

    Raises:
        ModelFileError: if a file is not there or damaged, or the two do not belong together.
    """
    sidecar = sidecar_path(path)
    again = "build it again with: vimdeploy build"
    try:
        plan = Path(path).read_bytes()
    except OSError as error:
        raise ModelFileError(f"The engine {path} cannot be read: {error.strerror}.") from error
    try:
        document = json.loads(sidecar.read_bytes())
    except OSError as error:
        raise ModelFileError(
            f"{sidecar}, which says what the engine {path} is, cannot be read ({error.strerror}); "
            f"copy it from where the engine was built, or {again}."
        ) from error
    except ValueError as error:
        raise ModelFileError(f"{sidecar} is no JSON document ({error}): damaged or cut short; {again}.") from error
    if not isinstance(document, dict):
        raise ModelFileError(f"{sidecar} is no JSON object: damaged, or something else; {again}.")
    try:
        info = EngineInfo.from_document(document)
    except ModelFileError as error:
        raise ModelFileError(f"{sidecar} cannot be used: {error}; {again}.") from error
    if info.engine_sha256 != sha256_of(plan):
        raise ModelFileError(
            f"{path} is not the engine that {sidecar} speaks of: {info.engine_bytes} bytes with SHA-256 "
            f"{info.engine_sha256[:12]} were built, {len(plan)} bytes with {sha256_of(plan)[:12]} found; {again}."
        )
    return plan, info
