"""What a model file says of itself.

An ONNX file carries, under ``vimdeploy.*`` in its metadata, all that is needed to run it: the model, the recipe for
pictures, the classes' names, where the weights came from, and the versions it was made with.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vimdeploy.errors import ConfigError, ModelFileError
from vimdeploy.models.config import Recipe, VimConfig
from vimdeploy.ops.contract import DOMAIN, VERSION

if TYPE_CHECKING:
    import onnx

_PREFIX = "vimdeploy."
FORMAT = "1"
"""Of the metadata; another number is another layout."""

PRECISIONS = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
"""What a file's matrix products and operators compute in: the type T of the operators by its short name."""

INT8 = "int8"
"""The precision of a file whose Linear layers are int8 and all else float32."""


@dataclass(frozen=True)
class ModelInfo:
    """What a file says of itself."""

    variant: str
    config: VimConfig
    recipe: Recipe = Recipe()
    labels: tuple[str, ...] = ()
    task: str = "classification"
    precision: str = "fp32"
    trained_image_size: tuple[int, int] | None = None
    """Height and width that the weights were trained at; None stands for the config's."""
    weights: str = "checkpoint"
    """``checkpoint``, ``checkpoint model_ema``, or ``random seed N`` for weights that were never trained."""
    checkpoint_sha256: str = ""
    operators_version: int = VERSION
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of vimdeploy and of the packages that made the file."""
    kept_in_float32: Mapping[str, str] = field(default_factory=dict)
    """Nodes that would be in the file's precision but for a reason: that reason, by the node's name."""

    def __post_init__(self) -> None:
        if self.trained_image_size is None:
            object.__setattr__(self, "trained_image_size", self.config.image_size)
        if self.labels and len(self.labels) != self.config.num_classes:
            raise ConfigError(f"Wanted {self.config.num_classes} labels, one a class; found {len(self.labels)}.")
        if len(self.recipe.mean) != self.config.in_channels:
            raise ConfigError(
                f"The recipe's mean has {len(self.recipe.mean)} values, the model {self.config.in_channels} channels."
            )
        if self.precision not in (*PRECISIONS, INT8):
            raise ConfigError(f"precision must be one of {', '.join((*PRECISIONS, INT8))}, found {self.precision!r}.")
        if not re.fullmatch(r"checkpoint( model_ema)?|random seed -?\d+", self.weights):
            raise ConfigError(
                f"weights must be 'checkpoint', 'checkpoint model_ema' or 'random seed N', found {self.weights!r}."
            )

    @property
    def random_seed(self) -> int | None:
        """The seed of random weights; None where the weights were trained."""
        return int(self.weights.removeprefix("random seed ")) if self.weights.startswith("random seed ") else None

    def label(self, index: int) -> str:
        """The name of a class; its number where nobody named it."""
        return self.labels[index] if self.labels else f"class {index}"

    def to_metadata(self) -> dict[str, str]:
        """As the ``vimdeploy.*`` entries of an ONNX file: plain text, lists and objects as JSON."""
        fields = dataclasses.asdict(self)
        recipe = fields.pop("recipe")
        height, width = self.config.image_size
        entries = {"format": FORMAT, "image_size": f"{height}x{width}", **fields, **recipe}
        return {_PREFIX + name: _text(value) for name, value in entries.items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> ModelInfo:
        """From ``to_metadata``; entries of other programs are passed over.

        Raises:
            ModelFileError: where the entries are not there, damaged, or of a newer vimdeploy.
        """
        entries = {name[len(_PREFIX) :]: value for name, value in metadata.items() if name.startswith(_PREFIX)}
        if not entries:
            raise ModelFileError(
                "it has no vimdeploy.* metadata, so vimdeploy did not make it; make one with: vimdeploy export"
            )
        if entries.get("format") != FORMAT or entries.get("operators_version") != str(VERSION):
            raise ModelFileError(
                f"it has format {entries.get('format')} and operators of version {entries.get('operators_version')}, "
                f"this vimdeploy reads format {FORMAT} and version {VERSION}; export it again or update vimdeploy"
            )
        try:
            return cls(
                variant=entries["variant"],
                config=VimConfig(**json.loads(entries["config"])),
                recipe=Recipe(
                    crop=float(entries["crop"]),
                    interpolation=entries["interpolation"],
                    mean=json.loads(entries["mean"]),
                    std=json.loads(entries["std"]),
                ),
                labels=tuple(json.loads(entries["labels"])),
                task=entries["task"],
                precision=entries["precision"],
                trained_image_size=_pair(json.loads(entries["trained_image_size"])),
                weights=entries["weights"],
                checkpoint_sha256=entries["checkpoint_sha256"],
                versions=json.loads(entries["versions"]),
                kept_in_float32=dict(json.loads(entries.get("kept_in_float32", "{}"))),  # later than format 1 itself
            )
        except (KeyError, ValueError, TypeError, ConfigError) as error:
            raise ModelFileError(f"its vimdeploy.* metadata is damaged ({error}); export it again") from error


def _pair(values: list[int]) -> tuple[int, int]:
    height, width = values
    return height, width


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def read_onnx(path: str | Path) -> tuple[onnx.ModelProto, ModelInfo]:
    """Read and validate an ONNX file of ours, before anything runs it.

    Returns:
        The model and what it says of itself.

    Raises:
        ModelFileError: where the file is not there, damaged, not ours, or refers to other files.
    """
    import onnx

    model = _parse(path)
    try:
        info = ModelInfo.from_metadata({entry.key: entry.value for entry in model.metadata_props})
    except ModelFileError as error:
        raise ModelFileError(f"{path} cannot be used: {error}.") from error
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise ModelFileError(
            f"{path} keeps tensors in other files, which files of vimdeploy never do; export it again."
        )
    return model, info


def is_ours(path: str | Path) -> bool:
    """Whether an ONNX file says that vimdeploy made it.

    Raises:
        ModelFileError: where the file is not there or damaged.
    """
    return any(entry.key.startswith(_PREFIX) for entry in _parse(path).metadata_props)


def _parse(path: str | Path) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        data = Path(path).read_bytes()
        return onnx.load_model_from_string(data)
    except OSError as error:
        raise ModelFileError(f"The model file {path} cannot be read: {error.strerror}.") from error
    except DecodeError as error:
        raise ModelFileError(
            f"{path} is no whole ONNX file ({len(data)} bytes were read): damaged, cut short, or something else."
        ) from error


def operator_counts(model: onnx.ModelProto) -> dict[str, int]:
    """How many nodes of each of our operators a model has."""
    counts: dict[str, int] = {}
    for node in model.graph.node:
        if node.domain == DOMAIN:
            counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return counts
