"""What is measured: the rows of a comparison, the file of each at one image size and batch, and the settings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from vimdeploy.artifact import Artifact
from vimdeploy.engine_file import is_engine
from vimdeploy.errors import ConfigError
from vimdeploy.model_file import is_model_file
from vimdeploy.model_info import ModelInfo
from vimdeploy.models import VARIANTS, variant_by_name

EAGER = "eager"
"""The first artifact's model in PyTorch, with random weights."""
OPENVINO = {"openvino": ("OpenVINO", "fp32"), "openvino-bf16": ("OpenVINO in bf16", "bf16")}
"""The first artifact in OpenVINO: what the row is called, and the precision."""
BASELINES = {name.removesuffix("_patch16_224"): name for name in VARIANTS if name.startswith("deit_")}
"""Attention models of the sizes of Vim-Ti, S and B: their variants by the names that users write."""

_LONGEST_TURN = 3600
"""Seconds."""
_CHECKPOINTS = (".pth", ".pt", ".safetensors")


@dataclass(frozen=True)
class Source:
    """One row of a comparison."""

    name: str
    """In tables and figures."""
    given: Artifact | Path | str = ""
    """A file, a checkpoint ``hf://owner/repo[/file]``, a variant as ``variant_by_name`` takes it, or
    ``FILE.py:FUNCTION``."""
    kind: Literal["file", "variant", "eager", "module"] = "file"
    """Whether to measure the file itself, to export the variant first, to run the first row's model in PyTorch, or
    somebody's module."""
    fused_attention: bool = False
    """Whether the variant, a DeiT, is exported with ONNX Runtime's MultiHeadAttention instead of torch's own nodes."""
    openvino: str = ""
    """The precision in which OpenVINO is to run it, if it is an ONNX file; empty: as the settings say."""


@dataclass(frozen=True)
class Subject:
    """The file of a row, at one batch and image size."""

    name: str
    """The name of the row."""
    path: Path
    batch: int = 1
    image_size: tuple[int, int] | None = None
    """Height and width in pixels that were asked for; None stands for the file's own."""
    model: ModelInfo | None = None
    """What PyTorch is to run with random weights; None if ``path`` is what runs."""
    module: str = ""
    """``FILE.py:FUNCTION``, whose model PyTorch is to run; empty if there is none."""
    openvino: str = ""
    """The precision in which OpenVINO is to run it, if it is an ONNX file; empty: ONNX Runtime runs it."""

    @property
    def runtime(self) -> Literal["tensorrt", "onnxruntime", "openvino", "eager"]:
        """What runs it."""
        if self.model is not None or self.module or self.path.suffix in _CHECKPOINTS:
            return "eager"
        if is_engine(self.path):
            return "tensorrt"
        return "openvino" if self.openvino else "onnxruntime"


@dataclass(frozen=True)
class Settings:
    """How subjects are opened, and for how long they run.

    Raises:
        ConfigError: for numbers that cannot be.
    """

    device: str = "auto"
    providers: Sequence[str] | None = None
    """For ONNX files in ONNX Runtime, instead of the device's."""
    cuda_graphs: bool = False
    """Whether ONNX Runtime captures CUDA graphs."""
    operators: str = "auto"
    threads: int | None = None
    """Threads of ONNX files and PyTorch; None leaves the choice to the runtime."""
    runtime: str = "auto"
    """What runs ONNX files: ``onnxruntime``, as ``auto``, or ``openvino``."""
    precision: str | None = None
    """That OpenVINO computes in; None for float32."""
    allow_engine_code: bool = False
    task: str = "classification"
    """What variants and checkpoints are for; a file has its own task."""
    variant: str = ""
    """The variant of checkpoints, as ``variant_by_name`` takes it; empty for the released one that fits."""
    rounds: int = 10
    """Turns that each subject gets."""
    seconds: float = 0.5
    """Length of a turn; a call that has begun is finished, and each turn has at least one."""
    warm_up: int = 3
    """Calls before the first turn, which are not counted."""
    profile: bool = False
    """Whether ONNX files run once more, after all turns, to see what each type of node takes."""

    def __post_init__(self) -> None:
        for name, least in (("rounds", 1), ("warm_up", 1), ("seconds", 0)):
            if not getattr(self, name) >= least:
                raise ConfigError(f"{name} must be at least {least}, found {getattr(self, name)}.")
        if self.runtime not in ("auto", "onnxruntime", "openvino"):
            raise ConfigError(f"runtime must be one of auto, onnxruntime, openvino, found {self.runtime!r}.")
        if self.precision is not None and self.runtime != "openvino":
            raise ConfigError("precision is for OpenVINO: give runtime openvino with it.")
        if self.seconds > _LONGEST_TURN:
            raise ConfigError(f"seconds must be at most {_LONGEST_TURN}, found {self.seconds}.")


def sources_of(
    artifacts: Iterable[str | Path | Artifact], against: Iterable[str | Path | Artifact] = ()
) -> list[Source]:
    """The rows that a user asks for.

    Args:
        artifacts: files, opened or not; ``hf://`` addresses of checkpoints; names of variants, or descriptions of
            models, ``NAME.json``; ``FILE.py:FUNCTION``, somebody's module.
        against: more of these, or ``EAGER``, or some of ``OPENVINO``, or of ``BASELINES``, each of which becomes two
            rows.

    Raises:
        ConfigError: if there are no artifacts, or ``against`` is nothing that can be measured.
    """
    sources = [_source_of(given) for given in artifacts]
    if not sources:
        raise ConfigError("Wanted at least one artifact to measure, found none.")
    return sources + [source for given in against for source in sources_against(given, sources[0])]


def sources_against(given: str | Path | Artifact, first: Source) -> list[Source]:
    """The rows that one value of ``against`` stands for.

    Args:
        given: a file, a checkpoint or a variant as ``sources_of`` takes them, ``EAGER``, or one of ``OPENVINO`` or
            ``BASELINES``.
        first: the first row.

    Raises:
        ConfigError: if it is none of these.
    """
    if given == EAGER:
        return [Source(f"{first.name}, eager PyTorch", kind="eager")]
    if isinstance(given, str) and given in OPENVINO:
        name, precision = OPENVINO[given]
        return [replace(first, name=f"{first.name}, {name}", openvino=precision)]
    if isinstance(given, str) and given in BASELINES:
        variant = BASELINES[given]
        return [
            Source(f"{given}, as exported", variant, "variant"),
            Source(f"{given}, attention fused", variant, "variant", fused_attention=True),
        ]
    source = _source_of(given)
    if source.kind == "variant":
        try:
            variant_by_name(str(given))
        except ConfigError as error:
            raise ConfigError(
                f"against must be {EAGER}, {', '.join((*OPENVINO, *BASELINES))}, a file or a variant, found "
                f"{str(given)!r}. {error}"
            ) from error
    return [source]


def _source_of(given: str | Path | Artifact) -> Source:
    if isinstance(given, Artifact):
        return Source(str(given), given)
    if isinstance(given, str) and given.startswith("hf://"):
        return Source(given, given)
    if is_model_file(str(given)):
        return Source(f"{given}, eager PyTorch", str(given), "module")
    path = Path(given)
    if path.suffix == ".json" or _is_bare_name(given):
        return Source(str(given), str(given), "variant")
    return Source(str(given), path)


def _is_bare_name(given: str | Path) -> bool:
    """Whether this can only be the name of a variant: it is no path, and no such file is there."""
    path = Path(given)
    return isinstance(given, str) and not path.exists() and path.suffix == "" and path.name == given
