"""What is compared on: random inputs, or pictures; one at a time, so that memory does not grow with their number."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vimdeploy.models.config import Recipe
from vimdeploy.preprocess import FloatArray, open_image, tensor_from_image

_SMALL = 96
"""Pixels of the longer side of a picture in small."""


@dataclass(frozen=True)
class Inputs:
    """Inputs of a model that are made or read when they are wanted."""

    description: str
    """``8 random inputs (seed 0)``."""
    names: Sequence[str]
    image: Callable[[int], FloatArray]
    """(C, H, W) of one of them."""
    png: Callable[[int], bytes]
    """One of them in small, as a PNG file; empty where it is no picture."""
    classes: npt.NDArray[np.int64] | None = None
    """The right class of each, where it is known."""

    def batches(self, size: int) -> Iterator[FloatArray]:
        """All of them, (at most size, C, H, W) at a time."""
        for start in range(0, len(self.names), size):
            yield np.stack([self.image(i) for i in range(start, min(start + size, len(self.names)))])


def random_inputs(shape: tuple[int, int, int], count: int, seed: int) -> Inputs:
    """Standard normal values, as preprocessed pictures are by and large.

    Args:
        shape: (C, H, W).
        count: how many.
        seed: the same inputs for the same seed.
    """

    def image(index: int) -> FloatArray:
        return np.random.default_rng((index, seed % 2**64)).standard_normal(shape, dtype=np.float32)

    names = [f"input {i}" for i in range(count)]
    return Inputs(f"{count} random inputs (seed {seed})", names, image, lambda _: b"")


def picture_inputs(
    paths: Sequence[Path], image_size: tuple[int, int], recipe: Recipe, classes: npt.NDArray[np.int64] | None
) -> Inputs:
    """Pictures as a model takes them.

    Args:
        paths: of the pictures.
        image_size: height and width that the model takes.
        recipe: how a picture becomes the model's input.
        classes: the right class of each, where it is known.
    """

    def image(index: int) -> FloatArray:
        return tensor_from_image(open_image(paths[index]), image_size, recipe)

    def png(index: int) -> bytes:
        picture = open_image(paths[index]).convert("RGB")
        picture.thumbnail((_SMALL, _SMALL))
        file = io.BytesIO()
        picture.save(file, "PNG")
        return file.getvalue()

    return Inputs(f"{len(paths)} pictures", [str(path) for path in paths], image, png, classes)
