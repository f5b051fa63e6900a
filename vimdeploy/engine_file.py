"""An engine and the file beside it that says what it is.

The plan of ``model.engine`` stays as TensorRT wrote it, so that trtexec and Triton read it. ``model.engine.json`` tells
what the plan does not: what it may run on, and all that the ONNX file said of the model.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vimdeploy.errors import ModelFileError, OutputError
from vimdeploy.files import write_together
from vimdeploy.model_info import ModelInfo
from vimdeploy.text import shortened

FORMAT = "2"
"""Version of the layout of the file beside the engine."""

_OF_ONE_PROFILE = "1"
"""The layout before: it had ``profile``, one object, in place of ``profiles``."""

Profile = Mapping[str, tuple[tuple[int, ...], ...]]
"""The shapes of each input: smallest, the one it is fastest at, largest."""

FLAVORS = ("tensorrt", "rtx")
HARDWARE_COMPATIBILITY = ("none", "ampere_plus", "same_compute_capability")
_SUFFIXES = (".engine", ".plan")
_MOST_SIDECAR_BYTES = 32 << 20
"""Far more than the names of a hundred thousand classes take."""


@dataclass(frozen=True)
class EngineInfo:
    """What is known of an engine beside its plan."""

    model: ModelInfo
    """What the ONNX file said of the model."""
    flavor: str
    """One of ``FLAVORS``: who builds and runs it."""
    tensorrt_version: str
    """The version that built it."""
    profiles: tuple[Profile, ...]
    """One or more, each with the shapes of each input: smallest, the one it is fastest at, largest."""
    onnx_sha256: str
    """The SHA-256 of the ONNX file that it was built from, in hexadecimal."""
    engine_sha256: str
    """The SHA-256 of the plan, in hexadecimal."""
    engine_bytes: int
    """Size of the plan."""
    plugin_version: str | None = None
    """Version of the plugin layers in the plan; None if our operators are their function bodies."""
    plugin_in_engine: bool = False
    """Whether the plan carries the plugin library."""
    device: str | None = None
    """The GPU it was built on; None if it was built without one."""
    compute_capability: str | None = None
    """Compute capability of that GPU: ``8.7``."""
    version_compatible: bool = False
    """Whether newer versions of TensorRT run it too; it carries a runtime then."""
    hardware_compatibility: str = "none"
    """One of ``HARDWARE_COMPATIBILITY``: which other GPUs run it too."""
    network_sha256: str | None = None
    """The SHA-256 of the network without its weights, if the engine takes those of another file; else None."""
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

    def to_json(self) -> bytes:
        """The contents of the file beside the engine."""
        return (json.dumps(self.to_document(), indent=2, ensure_ascii=False) + "\n").encode()

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> EngineInfo:
        """From ``to_document``; entries of others are passed over.

        Raises:
            ModelFileError: if entries are not there, of another type or out of range, or of a newer vimdeploy.
        """
        if document.get("format") not in (FORMAT, _OF_ONE_PROFILE):
            raise ModelFileError(
                f"it has format {_shown(document.get('format'))}, this vimdeploy reads formats up to {FORMAT}"
            )
        if document["format"] == _OF_ONE_PROFILE and "profile" in document:
            document = {**document, "profiles": [document["profile"]]}
        for f in dataclasses.fields(cls):
            wanted, fits = ENTRIES[f.name]
            if f.name not in document:
                if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
                    raise ModelFileError(f"it lacks the entry {f.name}, {wanted}")
            elif not fits(document[f.name]):
                raise ModelFileError(f"its entry {f.name} must be {wanted}, found {_shown(document[f.name])}")
        known = {f.name: document[f.name] for f in dataclasses.fields(cls) if f.name in document}
        known["profiles"] = tuple(
            {name: tuple(map(tuple, shapes)) for name, shapes in profile.items()} for profile in document["profiles"]
        )
        try:
            known["model"] = ModelInfo.from_metadata(document["model"])
        except (RecursionError, OverflowError) as error:
            raise ModelFileError(f"its entry model is damaged ({error})") from error
        info = cls(**known)
        inputs = {spec.name: len(spec.dims) for spec in info.model.inputs}
        for profile in info.profiles:
            if inputs != {name: len(shapes[0]) for name, shapes in profile.items()}:
                raise ModelFileError(
                    f"its entry profiles must have the shapes of {', '.join(map(str, info.model.inputs))}, "
                    f"found {_shown(profile)}"
                )
        return info


def _shown(value: Any) -> str:
    return shortened(repr(value), 100)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _is_version(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})+", value) is not None


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{1,64}", value) is not None


def _are_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(entry, str) for entry in value.values())


def _are_profiles(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(map(_is_profile, value))


def _is_profile(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(shapes, (list, tuple))
        and len(shapes) == 3
        and all(isinstance(shape, (list, tuple)) and all(map(_is_count, shape)) for shape in shapes)
        and len({len(shape) for shape in shapes}) == 1
        for shapes in value.values()
    )


def _or_null(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


ENTRIES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "model": ("an object of texts", _are_texts),
    "flavor": (f"one of {', '.join(FLAVORS)}", lambda value: value in FLAVORS),
    "tensorrt_version": ("a version such as 10.3.0", _is_version),
    "profiles": ("a list of objects with three shapes for each input", _are_profiles),
    "onnx_sha256": ("up to 64 hexadecimal digits", _is_hash),
    "engine_sha256": ("up to 64 hexadecimal digits", _is_hash),
    "engine_bytes": ("a number of bytes", _is_count),
    "plugin_version": ("a text or null", _or_null(_is_text)),
    "plugin_in_engine": ("true or false", _is_flag),
    "device": ("a text or null", _or_null(_is_text)),
    "compute_capability": ("a version such as 8.7, or null", _or_null(_is_version)),
    "version_compatible": ("true or false", _is_flag),
    "hardware_compatibility": (
        f"one of {', '.join(HARDWARE_COMPATIBILITY)}",
        lambda value: value in HARDWARE_COMPATIBILITY,
    ),
    "network_sha256": ("up to 64 hexadecimal digits, or null", _or_null(_is_hash)),
    "versions": ("an object of texts", _are_texts),
}
"""What each entry of the file beside an engine must be."""


def sidecar_path(path: str | Path) -> Path:
    """Where the file beside an engine lies."""
    return Path(f"{path}.json")


def is_engine(path: str | Path) -> bool:
    """Whether a file is to be read as an engine: by its name, or, if the name says nothing, by the file beside it."""
    suffix = Path(path).suffix.lower()
    if suffix in _SUFFIXES or suffix == ".onnx":
        return suffix in _SUFFIXES
    try:
        return "engine_sha256" in _document(sidecar_path(path))
    except (OSError, ValueError, ModelFileError):
        return False


def check_name(path: str | Path, engine: bool) -> None:
    """Refuse a name for a new file that would be read as what the file is not.

    Args:
        path: of the file.
        engine: whether it will be an engine, or else ONNX.

    Raises:
        OutputError: says which name to give it.
    """
    if engine and Path(path).suffix.lower() == ".onnx":
        raise OutputError(f"{path} would be taken for an ONNX file; give the engine a name that ends in .engine.")
    if not engine and is_engine(path):
        raise OutputError(
            f"{path} would be taken for an engine, by its name or by the file beside it; give the ONNX file a name "
            "that ends in .onnx."
        )


def sha256_of(data: bytes) -> str:
    """The SHA-256 of a file's contents, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def write_engine(path: Path, plan: bytes, info: EngineInfo) -> None:
    """Write an engine and the file beside it, both or none.

    Raises:
        OutputError: if they cannot be written; nothing is left behind.
    """
    write_together({path: plan, sidecar_path(path): info.to_json()})


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
        document = _document(sidecar)
    except OSError as error:
        raise ModelFileError(
            f"{sidecar}, which says what the engine {path} is, cannot be read ({error.strerror}); "
            f"copy it from where the engine was built, or {again}."
        ) from error
    except ModelFileError as error:
        raise ModelFileError(f"{sidecar} {error}; {again}.") from error
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


def _document(sidecar: Path) -> dict[str, Any]:
    """The object in the file beside an engine.

    Raises:
        OSError: if it cannot be read.
        ModelFileError: if it is no JSON object; the message is to be put behind its name.
    """
    with sidecar.open("rb") as file:
        data = file.read(_MOST_SIDECAR_BYTES + 1)
    if len(data) > _MOST_SIDECAR_BYTES:
        raise ModelFileError(f"has more than {_MOST_SIDECAR_BYTES >> 20} MiB, so it is none of vimdeploy's")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"is no JSON document ({error}): damaged or cut short") from error
    if not isinstance(document, dict):
        raise ModelFileError("is no JSON object: damaged, or something else")
    return document
