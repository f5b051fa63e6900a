"""A model that somebody trained: its numbers, its recipe, where the weights are; and what every config tells."""

from __future__ import annotations

import dataclasses
import difflib
import math
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from vimdeploy import imagenet
from vimdeploy.errors import ConfigError
from vimdeploy.recipe import Recipe
from vimdeploy.text import shortened

_LARGEST_NUMBER = 10**9
_LONGEST_TEXT = 1000
_DEEPEST = 1000
"""Blocks of a model; PyTorch takes about a millisecond and 20 kB for each, however narrow it is."""
_MOST_WEIGHTS = (2 << 30) // 4
"""An ONNX file holds 2 GiB, and a float32 weight takes 4 bytes."""


class Config(Protocol):
    """What the numbers of every architecture tell; a frozen dataclass whose fields are plain values."""

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels that the model was trained at."""

    @property
    def in_channels(self) -> int:
        """Channels of a picture."""

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""

    @property
    def stride(self) -> int:
        """Pixels from one patch to the next."""

    @property
    def dim(self) -> int:
        """Channels of a token."""

    @property
    def grid(self) -> tuple[int, int]:
        """Patches down and across at the trained size."""

    @property
    def depth(self) -> int:
        """Number of blocks."""

    @property
    def num_classes(self) -> int:
        """Classes of the classifier."""

    @property
    def parameters(self) -> int:
        """Number of trained values of the classifier."""

    def replace(self, **changes: Any) -> Any:
        """A copy with some numbers changed."""


@dataclass(frozen=True)
class Variant:
    """A model that somebody trained."""

    name: str
    architecture: str
    """One of ``models.ARCHITECTURES``."""
    config: Any
    """The architecture's ``Config``."""
    recipe: Recipe = Recipe()
    labels: tuple[str, ...] = ()
    """Names of the classes, in the order of the logits; empty if nobody named them."""
    upstream_name: str = ""
    """The entry point in the authors' code, accepted as an alias."""
    checkpoint: str = ""
    """Where the released weights are, as ``--checkpoint`` takes it."""
    top1: float | None = None
    """Accuracy in percent on ImageNet-1k, as the authors report it; None for a model that was trained on others."""

    @property
    def short_name(self) -> str:
        """What users write: ``vim_tiny``, ``vim_tiny_stride8``; the name itself if it says neither patch nor size."""
        return self.name.removesuffix("_224").replace("_patch16", "")

    def class_names(self, count: int) -> tuple[str, ...]:
        """Names of the classes of a classifier with so many; ImageNet's if the model was trained on it."""
        if not self.labels and self.top1 is not None and count == len(imagenet.names()):
            return imagenet.names()
        return self.labels


def checked_fields(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Hold values, from JSON for example, against the fields of a dataclass.

    Args:
        cls: a dataclass whose types are among ``_READERS``; values of other types are taken as they are.
        values: by field; a field with a default may be left out.

    Returns:
        The values as the fields have them: a list is a tuple, one number a square image size.

    Raises:
        ConfigError: names the first field that is unknown, missing or of another type.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for name in values:
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the fields are {', '.join(fields)}."
            raise ConfigError(f"There is no field {shortened(name, 60)!r}; {hint}")
    for name, field in fields.items():
        if name not in values and field.default is field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"The field {name} is missing.")
    checked = {}
    for name, value in values.items():
        wanted, reader = _READERS.get(str(fields[name].type), ("", lambda value: value))
        try:
            checked[name] = reader(value)
        except (TypeError, ValueError, OverflowError) as error:
            is_text = isinstance(value, str) and wanted.startswith(("a number", "a whole"))
            quotes = ", in quotes, which make it text" if is_text else ""
            raise ConfigError(f"{name} must be {wanted}, found {reprlib.repr(value)}{quotes}.") from error
    return checked


def _of_type(*types: type) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if type(value) not in types:
            raise TypeError
        return value

    return read


def _whole(value: Any, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _LARGEST_NUMBER:
        raise ValueError
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        raise ValueError
    return value


def _label(value: Any) -> str:
    return str(_whole(value, -_LARGEST_NUMBER)) if isinstance(value, int) else _text(value)


def _size(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return _size((value, value))
    height, width = _items(value, lambda side: _whole(side, -_LARGEST_NUMBER))  # check_image_size says what is small
    return height, width


def _items(value: Any, reader: Callable[[Any], Any]) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise TypeError
    return tuple(reader(item) for item in value)


_READERS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "int": (f"a whole number from 1 to {_LARGEST_NUMBER}", _whole),
    "float": ("a number", _number),
    "bool": ("true or false", _of_type(bool)),
    "str": (f"text of at most {_LONGEST_TEXT} characters", _text),
    "dict[str, Any]": ("an object, {...}", _of_type(dict)),
    "tuple[int, int]": ("a whole number or two, height and width", _size),
    "tuple[float, ...]": ("a list of numbers", lambda value: _items(value, _number)),
    "tuple[str, ...]": ("a list of names, each a text or a whole number", lambda value: _items(value, _label)),
}
"""By the type of a field: what it must be, and what reads it."""


def check_fields(config: Any) -> None:
    """Check the fields of a config, and bring them into the form that they have in it; for its ``__post_init__``.

    Raises:
        ConfigError: names the first that is of another type.
    """
    for name, value in checked_fields(type(config), vars(config)).items():
        object.__setattr__(config, name, value)


def check_weights(config: Config) -> None:
    """Check that a model is none that no file can hold, before anybody asks memory for it.

    Raises:
        ConfigError: if it is.
    """
    if config.depth > _DEEPEST:
        raise ConfigError(f"depth must be at most {_DEEPEST}, found {config.depth}.")
    if config.parameters > _MOST_WEIGHTS:
        height, width = config.image_size
        raise ConfigError(
            f"A model of dim {config.dim}, depth {config.depth}, {config.num_classes} classes and pictures of "
            f"{height}x{width} has {config.parameters:.2g} weights; an ONNX file holds at most {_MOST_WEIGHTS:.2g}."
        )


def check_image_size(image_size: tuple[int, int], patch_size: int, stride: int) -> None:
    """Check that patches cover a picture without a rest.

    Raises:
        ConfigError: names the nearest sizes that they do cover.
    """
    for name, size in zip(("height", "width"), image_size, strict=True):
        if size < patch_size or (size - patch_size) % stride:
            below = max(size - (size - patch_size) % stride, patch_size)
            raise ConfigError(
                f"Patches of {patch_size} pixels every {stride} do not divide an image {name} of {size}; "
                f"the nearest that they divide are {below} and {below + stride}."
            )
