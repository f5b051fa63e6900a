"""A model that somebody trained: its numbers, its recipe, where the weights are; and what every config tells."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Protocol

from vimdeploy.errors import ConfigError
from vimdeploy.recipe import Recipe


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
    """Accuracy in percent on ImageNet-1k, as the authors report it."""


def check_whole_numbers(config: Any) -> None:
    """Check that the fields of a config that are whole numbers are, and at least 1.

    Raises:
        ConfigError: names the first that is not.
    """
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.type == "int" and (not isinstance(value, int) or value < 1):
            raise ConfigError(f"{field.name} must be a whole number of at least 1, found {value}.")


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
