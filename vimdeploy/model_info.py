"""What a model file says of itself.

An ONNX file carries this under ``vimdeploy.*`` in its metadata, an engine in the JSON file beside it: inputs and
outputs, task, architecture, the recipe for pictures, the names of the classes, where the weights came from, and the
versions it was made with. Nothing else is needed to run the file.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, TypeVar

from vimdeploy.errors import ConfigError, InputError, ModelFileError
from vimdeploy.ops.contract import VERSION
from vimdeploy.recipe import Recipe
from vimdeploy.text import reason_of, shortened

PREFIX = "vimdeploy."
FORMAT = "2"
"""Version of the metadata layout. Files of format 1, which held Vim classifiers of one size alone, are read too."""

PRECISIONS = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
"""What a file's matrix products and operators compute in: the type T of the operators by its short name."""

INT8 = "int8"
"""The precision of a file whose Linear layers are int8 and all else float32."""

FORMS = ("", "portable", "unrolled")
"""The forms of a file of ours."""

T = TypeVar("T")

BYTE = "uint8"
"""The type of pictures that a model normalises itself."""

BATCH, HEIGHT, WIDTH = "batch", "height", "width"
"""The words that free dimensions of pictures have in every file of ours."""


@dataclass(frozen=True)
class TensorSpec:
    """An input or an output: its name, shape and type."""

    name: str
    """As the graph has it."""
    dims: tuple[int | str, ...]
    """A number if the dimension is fixed, a word if it is free: ``("batch", 3, "height", "width")``."""
    type: str = "float32"
    """As NumPy names it. Pictures of ``uint8`` have their channels last, if the file has a task."""

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(map(str, self.dims))}) of {self.type}"


@dataclass(frozen=True)
class SizeRange:
    """The sizes that a free dimension may have: ``least``, ``least + step``, ... up to ``most``.

    Raises:
        ConfigError: if there are no such sizes.
    """

    least: int = 1
    """The smallest size."""
    most: int | None = None
    """The largest size; None: as large as memory allows."""
    step: int = 1
    """From one size to the next."""
    typical: int | None = None
    """The size to take if nobody asks for another, such as the one that the weights were trained at."""

    def __post_init__(self) -> None:
        if self.least < 1 or self.step < 1 or (self.most is not None and self.most < self.least):
            raise ConfigError(f"No size is from {self.least} to {self.most} in steps of {self.step}.")

    def allows(self, size: int) -> bool:
        """Whether a dimension may have this size."""
        return size >= self.least and (self.most is None or size <= self.most) and (size - self.least) % self.step == 0

    def nearest(self, size: int) -> int:
        """The allowed size that is nearest to a size."""
        steps = max(round((size - self.least) / self.step), 0)
        if self.most is not None:
            steps = min(steps, (self.most - self.least) // self.step)
        return self.least + steps * self.step

    def covering(self, size: int) -> int:
        """The smallest allowed size that is not below a size; the largest of all if there is none."""
        steps = max(-((self.least - size) // self.step), 0)
        if self.most is not None:
            steps = min(steps, (self.most - self.least) // self.step)
        return self.least + steps * self.step

    def __str__(self) -> str:
        most = f"to {self.most}" if self.most is not None else "or more"
        return f"{self.least} {most}" + (f" in steps of {self.step}" if self.step > 1 else "")


@dataclass(frozen=True)
class FromCheckpoint:
    """Trained weights."""

    sha256: str = ""
    """The checkpoint file's SHA-256, in hexadecimal."""
    ema: bool = False
    """Whether they are the averaged weights, ``model_ema``."""

    def __str__(self) -> str:
        return "checkpoint model_ema" if self.ema else "checkpoint"


@dataclass(frozen=True)
class FromSeed:
    """Random weights that were never trained."""

    seed: int
    """The seed of the random numbers."""

    def __str__(self) -> str:
        return f"random seed {self.seed}"


Origin = FromCheckpoint | FromSeed | None
"""Where weights came from; None if nobody knows."""


@dataclass(frozen=True)
class ModelInfo:
    """What a file says of itself.

    Raises:
        ConfigError: if its parts contradict each other.
    """

    name: str
    """The model's name: a released variant's, or what its maker calls it."""
    inputs: tuple[TensorSpec, ...]
    """In the order of the graph; pictures are the first."""
    outputs: tuple[TensorSpec, ...]
    """In the order of the graph."""
    task: str = ""
    """One of ``tasks.TASKS``; empty if the file does not say."""
    sizes: Mapping[str, SizeRange] = field(default_factory=dict)
    """What the free dimensions of the inputs may be, by their words; a word that is not here may be anything."""
    architecture: str = ""
    """One of ``models.ARCHITECTURES``; empty for a model that somebody brings."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The architecture's own numbers, as it was trained; nobody else reads them."""
    head: Mapping[str, Any] = field(default_factory=dict)
    """The task's own numbers: what stands on the backbone; nobody else reads them."""
    recipe: Recipe = Recipe()
    """How a picture becomes an input."""
    labels: tuple[str, ...] = ()
    """Names of the classes; empty if nobody named them, or the task has none."""
    precision: str = "fp32"
    """One of ``PRECISIONS``, or ``int8``: what matrix products and operators compute in."""
    origin: Origin = None
    """Where the weights came from."""
    operators_version: int = VERSION
    """The version of the domain of our operators."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """The versions of vimdeploy and of the packages that made the file."""
    form: str = ""
    """``portable`` if vimdeploy has put standard operators of fixed shapes in place of its own, ``unrolled`` if without
    loops too; else empty."""
    kept_in_float32: Mapping[str, str] = field(default_factory=dict)
    """Nodes that would be in the file's precision but for a reason: that reason, by the node's name."""

    def __post_init__(self) -> None:
        if self.precision not in (*PRECISIONS, INT8):
            raise ConfigError(f"precision must be one of {', '.join((*PRECISIONS, INT8))}, found {self.precision!r}.")
        if self.form not in FORMS:
            raise ConfigError(f"form must be one of {', '.join(FORMS[1:])}, or empty; found {self.form!r}.")
        if self.picture is not None and self.task and len(self.recipe.mean) != self.channels:
            raise ConfigError(
                f"The recipe's mean has {len(self.recipe.mean)} values, the model {self.channels} channels."
            )

    @property
    def picture(self) -> TensorSpec | None:
        """The input that takes pictures: the only one, or the first if the task gives the others."""
        is_first = bool(self.inputs) and len(self.inputs[0].dims) == 4 and (len(self.inputs) == 1 or bool(self.task))
        return self.inputs[0] if is_first else None

    @property
    def takes_bytes(self) -> bool:
        """Whether pictures go in as bytes (B, H, W, C) that the model normalises by its recipe; else they go in
        normalised, as float32 (B, C, H, W).
        """
        return self.picture is not None and bool(self.task) and self.picture.type == BYTE

    @property
    def channels_last(self) -> bool:
        """Whether pictures are (B, H, W, C), as some models are that vimdeploy did not make."""
        assert self.picture is not None
        _, first, _, last = self.picture.dims
        return self.takes_bytes or (not self.task and last in (1, 3) and first not in (1, 3))

    def with_bytes(self) -> ModelInfo:
        """The same with bytes as pictures.

        Raises:
            ConfigError: if the model takes no pictures by a recipe, or bytes already.
        """
        if self.picture is None or not self.task:
            raise ConfigError(
                f"{self.name} does not say how a picture becomes its input, so it cannot normalise one itself; wanted "
                "a model that has a task."
            )
        if self.takes_bytes:
            raise ConfigError(f"{self.name} takes pictures of {BYTE} already.")
        batch, channels, height, width = self.picture.dims
        return self._with_picture((batch, height, width, channels), BYTE)

    def with_floats(self) -> ModelInfo:
        """The same with normalised pictures, as it may be already."""
        if self.picture is None or not self.takes_bytes:
            return self
        batch, height, width, channels = self.picture.dims
        return self._with_picture((batch, channels, height, width), "float32")

    def _with_picture(self, dims: tuple[int | str, ...], type_: str) -> ModelInfo:
        first, *others = self.inputs
        return dataclasses.replace(self, inputs=(dataclasses.replace(first, dims=dims, type=type_), *others))

    @property
    def has_batch(self) -> bool:
        """Whether axis 0 of all inputs and outputs is the batch, whose rows are answered as if each were alone."""
        specs = (*self.inputs, *self.outputs)
        return bool(self.task) or BATCH in self.sizes or all(spec.dims[:1] == (BATCH,) for spec in specs)

    @property
    def fixed_batch(self) -> int | None:
        """The only batch that a model takes; None if it takes any, or has none."""
        if not self.task:
            return self.sizes[BATCH].most if BATCH in self.sizes else None
        first = self.picture.dims[0] if self.picture is not None else BATCH
        return first if isinstance(first, int) else None

    @property
    def channels(self) -> int | str:
        """The channels of the pictures that the model takes."""
        assert self.picture is not None
        return self.picture.dims[3 if self.channels_last else 1]

    @property
    def image_size(self) -> tuple[int | str, int | str]:
        """Height and width in pixels; the word if the file leaves one open."""
        assert self.picture is not None
        return self.sides_of(self.picture.dims)

    def sides_of(self, shape: Sequence[T]) -> tuple[T, T]:
        """Height and width in the shape of a batch of pictures."""
        first = 1 if self.channels_last else 2
        return shape[first], shape[first + 1]

    @property
    def size_text(self) -> str:
        """The image size for people: ``224x224``, ``dynamic``; the shapes of the inputs for other models."""
        if self.picture is None:
            return ", ".join(map(str, self.inputs))
        if not any(isinstance(side, str) for side in self.image_size):
            return "x".join(map(str, self.image_size))
        ranges = [str(self.sizes.get(str(side), SizeRange())) for side in self.image_size]
        return f"dynamic ({ranges[0]})" if len(set(ranges)) == 1 else f"dynamic ({ranges[0]} x {ranges[1]})"

    def range_of(self, axis: int) -> SizeRange:
        """What the height (axis 0) or the width of a picture may be."""
        side = self.image_size[axis]
        return SizeRange(side, side, typical=side) if isinstance(side, int) else self.sizes.get(side, SizeRange())

    def fixed_image_size(self, asked: tuple[int, int] | None = None, slides: bool = False) -> tuple[int, int]:
        """Height and width in pixels of the pictures to prepare.

        Args:
            asked: a size that somebody wants; None stands for the file's own, or the one it was trained at.
            slides: whether windows of the result slide over a picture of the size asked for.

        Raises:
            InputError: if the model does not take pictures, or none of that size.
        """
        if self.picture is None:
            raise InputError(f"{self.name} takes {self.size_text}: no pictures, so there is no image size to choose.")
        if asked is not None and not _is_size(asked):
            raise InputError(f"Wanted an image size as (height, width) in pixels, found {asked!r}.")
        height, width = (self._side(i, None if asked is None else asked[i], slides) for i in range(2))
        return height, width

    def _side(self, axis: int, asked: int | None, slides: bool) -> int:
        name, dim = ("height", "width")[axis], self.image_size[axis]
        if isinstance(dim, int):
            if slides and asked is not None:
                if asked < dim:
                    raise InputError(
                        f"Wanted an image {name} of {asked}, the file looks at pictures through windows of {dim}; give "
                        "that at least."
                    )
            elif asked not in (None, dim):
                raise InputError(
                    f"Wanted an image {name} of {asked}, the file takes {dim} alone; export it again with that "
                    "--image-size, or with --image-size dynamic."
                )
            return dim
        allowed = self.range_of(axis)
        size = allowed.typical if asked is None else asked
        if size is None:
            raise InputError(f"The model takes pictures of any {name}; say which with --image-size.")
        if not allowed.allows(size):
            raise InputError(
                f"Wanted an image {name} of {size}, the file takes {allowed}; the nearest is {allowed.nearest(size)}."
            )
        return size

    def check_shapes(self, shapes: Mapping[str, tuple[int, ...]], types: Mapping[str, str]) -> None:
        """Check what is given to the model.

        Args:
            shapes: of the arrays, by input.
            types: of the arrays, as numpy names them.

        Raises:
            InputError: if an input is missing, unknown, or of another shape or type.
        """
        wanted = ", ".join(map(str, self.inputs))
        if shapes.keys() != {spec.name for spec in self.inputs}:
            raise InputError(f"Wanted the inputs {wanted}; found {', '.join(shapes) or 'none'}.")
        words: dict[str, int] = {}
        for spec in self.inputs:
            shape, type_ = shapes[spec.name], types[spec.name]
            fits = len(shape) == len(spec.dims) and type_ == spec.type and 0 not in shape
            for dim, size in zip(spec.dims, shape, strict=False):
                fits = fits and size == (words.setdefault(dim, size) if isinstance(dim, str) else dim)
            if not fits:
                raise InputError(f"Wanted {spec}, every size at least 1; found {shape} of {type_}.")
        for word, size in words.items():
            allowed = self.sizes.get(word, SizeRange())
            if not allowed.allows(size):
                raise InputError(
                    f"Wanted a {word} of {allowed}; found {size} (the nearest is {allowed.nearest(size)})."
                )

    def to_metadata(self) -> dict[str, str]:
        """As the ``vimdeploy.*`` entries of an ONNX file: plain text, lists and objects as JSON."""
        origin: dict[str, Any] = {}
        if self.origin is not None:
            origin = {"type": type(self.origin).__name__, **dataclasses.asdict(self.origin)}
        entries = {"format": FORMAT, **dataclasses.asdict(self), "origin": origin}
        return {PREFIX + name: _text(value) for name, value in entries.items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> ModelInfo:
        """From ``to_metadata``; entries of other programs are passed over.

        Raises:
            ModelFileError: if the entries are not there, damaged, or of a newer vimdeploy.
        """
        entries = {name[len(PREFIX) :]: value for name, value in metadata.items() if name.startswith(PREFIX)}
        if not entries:
            raise ModelFileError(
                "it has no vimdeploy.* metadata, so vimdeploy did not make it; make one with: vimdeploy export"
            )
        readers = {"1": _from_format_1, FORMAT: _from_format_2}
        if entries.get("format") not in readers or entries.get("operators_version") != str(VERSION):
            raise ModelFileError(
                f"it has format {entries.get('format')} and operators of version {entries.get('operators_version')}, "
                f"this vimdeploy reads the formats {', '.join(readers)} and version {VERSION}; export it again or "
                "update vimdeploy"
            )
        try:
            return readers[entries["format"]](entries)
        except (KeyError, ValueError, TypeError, AttributeError, ConfigError) as error:
            raise ModelFileError(
                f"its vimdeploy.* metadata is damaged ({reason_of(error)}); export it again"
            ) from error


def _is_size(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2 and all(isinstance(side, Integral) for side in value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _from_format_2(entries: Mapping[str, str]) -> ModelInfo:
    recipe, origin = json.loads(entries["recipe"]), json.loads(entries["origin"])
    origins = {"FromCheckpoint": FromCheckpoint, "FromSeed": FromSeed}
    return ModelInfo(
        name=entries["name"],
        inputs=_specs(entries["inputs"]),
        outputs=_specs(entries["outputs"]),
        task=entries["task"],
        sizes={str(word): SizeRange(**sizes) for word, sizes in json.loads(entries["sizes"]).items()},
        architecture=entries["architecture"],
        config=dict(json.loads(entries["config"])),
        head=dict(json.loads(entries.get("head", "{}"))),  # files of the first two tasks have none
        recipe=Recipe(**recipe),
        labels=tuple(json.loads(entries["labels"])),
        precision=entries["precision"],
        origin=origins[origin.pop("type")](**origin) if origin else None,
        versions=json.loads(entries["versions"]),
        form=entries.get("form", ""),
        kept_in_float32=dict(json.loads(entries["kept_in_float32"])),
    )


def _specs(text: str) -> tuple[TensorSpec, ...]:
    specs = json.loads(text)
    for spec in specs:
        if not (isinstance(spec["name"], str) and all(type(dim) in (int, str) for dim in spec["dims"])):
            raise ValueError(f"an input or output has a name and sizes, found {shortened(repr(spec), 100)}")
    return tuple(TensorSpec(spec["name"], tuple(spec["dims"]), str(spec["type"])) for spec in specs)


def _from_format_1(entries: Mapping[str, str]) -> ModelInfo:
    """A Vim classifier: its config had the file's image size, which others than the trained one stood beside."""
    config = dict(json.loads(entries["config"]))
    height, width = config["image_size"]
    config["image_size"] = list(json.loads(entries["trained_image_size"]))
    kind, _, seed = entries["weights"].partition(" seed ")
    origin: Origin = FromSeed(int(seed)) if kind == "random" else None
    if origin is None:
        ema = {"checkpoint": False, "checkpoint model_ema": True}[entries["weights"]]
        origin = FromCheckpoint(entries["checkpoint_sha256"], ema)
    return ModelInfo(
        name=entries["variant"],
        inputs=(TensorSpec("images", (BATCH, int(config["in_channels"]), int(height), int(width))),),
        outputs=(TensorSpec("logits", (BATCH, int(config["num_classes"]))),),
        task="classification",
        architecture="vim",
        config=config,
        recipe=Recipe(
            crop=float(entries["crop"]),
            interpolation=entries["interpolation"],
            mean=json.loads(entries["mean"]),
            std=json.loads(entries["std"]),
        ),
        labels=tuple(json.loads(entries["labels"])),
        precision=entries["precision"],
        origin=origin,
        versions=json.loads(entries["versions"]),
        kept_in_float32=dict(json.loads(entries.get("kept_in_float32", "{}"))),  # later than format 1 itself
    )
