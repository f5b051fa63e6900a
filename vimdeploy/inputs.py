"""Some inputs of a model: random ones, or pictures; made or read when they are wanted, so that memory stays flat."""

from __future__ import annotations

import dataclasses
import io
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from vimdeploy.array_file import read_arrays
from vimdeploy.errors import ConfigError, ImageError, InputError
from vimdeploy.model_info import ModelInfo, SizeRange, TensorSpec
from vimdeploy.picture_files import in_folder, in_table
from vimdeploy.preprocess import (
    Opened,
    Picture,
    Placement,
    bytes_nearest,
    image_of,
    placed,
    scale_of,
    scaled,
    size_of,
    tensors_from_image,
    viewable,
)
from vimdeploy.progress import Progress, silent, tracked
from vimdeploy.reading import shown
from vimdeploy.recipe import CROP, PAD, SLIDE
from vimdeploy.tasks import task_of
from vimdeploy.tasks.base import Limits
from vimdeploy.text import counted, printable

_SMALL = 96
"""Pixels of the longer side of a picture in small."""

T = TypeVar("T")
Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Inputs:
    """Inputs of a model."""

    description: str
    """``8 random inputs (seed 0)``, ``450 pictures of DIR``."""
    names: Sequence[str]
    """The name of each: ``input 3``, or the path of the picture."""
    one: Callable[[int], Arrays]
    """One of them: its arrays by the names of the model's inputs, without the axis of the batch."""
    png: Callable[[int], bytes] = lambda number: b""
    """One of them in small, as a PNG file; empty if it is no picture."""
    classes: npt.NDArray[np.int64] | None = None
    """The right class of each, if it is known."""
    whole: bool = False
    """Whether each is all that one call of the model takes, whose axis 0 is no batch."""

    def __len__(self) -> int:
        return len(self.names)

    def batches(self, size: int) -> Iterator[Arrays]:
        """All of them in order, neighbours of one shape together, at most ``size`` at a time."""
        if self.whole:
            return map(self.one, range(len(self.names)))
        ones = ((self.one(number), number) for number in range(len(self.names)))
        return (arrays for arrays, _ in stacked(ones, size))

    def batch_count(self, size: int) -> int:
        """How many batches there are, if all inputs have one shape."""
        return len(self.names) if self.whole else -(-len(self.names) // size)

    def call(self, number: int, batch: int = 1) -> Arrays:
        """One of them as the model takes it, so many times in a batch."""
        arrays = self.one(number)
        return arrays if self.whole else {name: np.stack([array] * batch) for name, array in arrays.items()}

    def spread(self, count: int) -> Inputs:
        """At most so many of them, evenly spaced."""
        chosen = np.unique(np.linspace(0, len(self) - 1, min(count, len(self))).round().astype(int))
        return Inputs(
            self.description if len(chosen) == len(self) else f"{len(chosen)} of {self.description}",
            [self.names[i] for i in chosen],
            lambda number: self.one(int(chosen[number])),
            lambda number: self.png(int(chosen[number])),
            None if self.classes is None else self.classes[chosen],
            self.whole,
        )


def stacked(
    several: Iterable[tuple[Arrays, T]], size: int, values: float = math.inf
) -> Iterator[tuple[Arrays, list[T]]]:
    """Arrays in batches, and what belongs to each row: neighbours of one shape, in order.

    Args:
        several: the arrays of each row, and what belongs to it.
        size: most rows of a batch.
        values: most values of a batch of more than one row.
    """
    waiting: list[tuple[Arrays, T]] = []
    for one in several:
        if waiting and _shapes(one[0]) != _shapes(waiting[0][0]):
            yield _stacked(waiting)
            waiting = []
        waiting.append(one)
        if len(waiting) == size or (len(waiting) + 1) * sum(array.size for array in one[0].values()) > values:
            yield _stacked(waiting)
            waiting = []
    if waiting:
        yield _stacked(waiting)


def _shapes(arrays: Arrays) -> list[tuple[int, ...]]:
    return [array.shape for array in arrays.values()]


def _stacked(several: Sequence[tuple[Arrays, T]]) -> tuple[Arrays, list[T]]:
    arrays = {name: np.stack([one[name] for one, _ in several]) for name in several[0][0]}
    return arrays, [other for _, other in several]


def random_inputs(
    info: ModelInfo,
    count: int,
    seed: int,
    image_size: tuple[int, int] | None = None,
    examples: Mapping[str, npt.NDArray[Any]] | None = None,
) -> Inputs:
    """Standard normal values, which is about what preprocessed pictures are, and pictures of bytes that become such;
    whole numbers and flags are zeros.

    Args:
        info: of the model.
        count: how many.
        seed: the same inputs for the same seed.
        image_size: height and width in pixels, if the file leaves them open; None: the size that it was trained at.
        examples: what the model's maker calls it with, by input: the first inputs are these, and the others have their
            mean, standard deviation and bounds, and their whole numbers and flags.

    Raises:
        InputError: if the model does not take that size, or values of a type that numpy does not have.
    """
    sizes: dict[str, int] = {}
    if info.picture is not None:
        fixed = info.fixed_image_size(image_size)
        sizes = {word: size for word, size in zip(info.image_size, fixed, strict=True) if isinstance(word, str)}
    types = {spec.name: _numpy_type(spec) for spec in info.inputs}
    shapes = {
        spec.name: tuple(
            dim if isinstance(dim, int) else sizes.get(dim, _usual(info.sizes.get(dim, SizeRange())))
            for dim in spec.dims[info.has_batch :]
        )
        for spec in info.inputs
    }
    task, beside = task_of(info), {}
    if task is not None and info.picture is not None:
        beside = task.beside(info, Placement(fixed, fixed), Limits(score_threshold=0.0))  # as much as there may be
    given = _rows_of(examples or {}, info)

    def one(number: int) -> Arrays:
        if number < len(given):
            return given[number]
        generator = np.random.default_rng((number, seed % 2**64))
        like = given[number % len(given)] if given else {}
        arrays: Arrays = {}
        for name, shape in shapes.items():
            values = generator.standard_normal(shape, dtype=np.float32)
            example = like.get(name)
            if types[name].kind == "f":
                arrays[name] = (values if example is None else _drawn_like(example, values)).astype(types[name])
            elif example is not None and example.shape == shape:
                arrays[name] = example
            else:
                arrays[name] = np.zeros(shape, types[name])
        if info.takes_bytes and info.picture is not None:
            height, width, channels = shapes[info.picture.name]
            values = generator.standard_normal((channels, height, width), dtype=np.float32)
            arrays[info.picture.name] = bytes_nearest(values, info.recipe)
        return arrays | beside

    known = min(len(given), count)
    parts = [counted(known, "example input")] if known else []
    parts += [f"{counted(count - known, 'random input')} (seed {seed})"] if known < count else []
    names = [f"example {i}" if i < known else f"input {i}" for i in range(count)]
    return Inputs(" and ".join(parts), names, one, whole=not info.has_batch)


def _drawn_like(example: npt.NDArray[Any], normal: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Normal values with the mean, the standard deviation and the bounds of an example, unless that is a constant.

    Beyond its bounds a model may have no answer: a share is not negative. A single number stays as it is.
    """
    if not example.ndim:
        return example
    if not example.std():
        return normal
    drawn: npt.NDArray[np.float32] = np.clip(example.mean() + example.std() * normal, example.min(), example.max())
    return drawn


def _usual(size: SizeRange) -> int:
    return size.typical or size.least


def _rows_of(examples: Mapping[str, npt.NDArray[Any]], info: ModelInfo) -> list[Arrays]:
    """Examples one by one: the rows of their batch, or all that one call takes."""
    if not examples or not info.has_batch:
        return [dict(examples)] if examples else []
    return [{name: array[row] for name, array in examples.items()} for row in range(len(next(iter(examples.values()))))]


def _numpy_type(spec: TensorSpec) -> np.dtype[Any]:
    try:
        return np.dtype(spec.type)
    except TypeError as error:
        raise InputError(f"There are no random inputs of the type {spec.type}, which {spec.name} is of.") from error


def picture_inputs(
    images: Sequence[Picture],
    info: ModelInfo,
    image_size: tuple[int, int] | None = None,
    classes: npt.NDArray[np.int64] | None = None,
) -> Inputs:
    """Pictures as a model takes them, each one input: of one that windows slide over, the window in the middle.

    Args:
        images: paths, PIL images, or arrays of uint8.
        info: of the model.
        image_size: height and width in pixels, if the file leaves them open; None: the size that it was trained at.
        classes: the right class of each, if it is known.

    Raises:
        InputError: if the model takes no pictures, or none of that size.
    """
    size = info.fixed_image_size(image_size)
    names = _names(images)

    def placing(original: tuple[int, int]) -> tuple[Placement, tuple[int, int]]:
        return placed(original, size, info.recipe), size

    def one(number: int) -> Arrays:
        name = names[number] if len(images) != 1 else ""
        arrays, _ = next(_windows(images[number], name, info, placing, Limits()))
        return arrays

    return Inputs(counted(len(images), "picture"), names, one, lambda number: _small(image_of(images[number])), classes)


def picture_windows(
    images: Sequence[Picture],
    info: ModelInfo,
    image_size: tuple[int, int] | None,
    limits: Limits,
    errors: dict[int, ImageError] | None = None,
    progress: Progress = silent,
) -> Iterator[tuple[Arrays, Placement]]:
    """Pictures as a model is to answer for them, whole: for each its windows in order, made when they are wanted.

    Args:
        images: paths, PIL images, or arrays of uint8.
        info: of the model.
        image_size: height and width in pixels: of the input, if the file leaves them open; of the resized picture, if
            windows slide over it. None: each picture's own size for recipes that crop, else as the recipe has it.
        limits: which detections are wanted.
        errors: gets the reason, by the number of the picture, if one cannot be read, which is passed over then.
        progress: is told of the windows of a picture that has several.

    Yields:
        The arrays of the model's inputs by name, without the axis of the batch, and how the picture lies in them.

    Raises:
        ImageError: if a picture cannot be read and there are no ``errors``.
        InputError: if the model takes no pictures, or none of that size.
    """
    task, recipe = task_of(info), info.recipe
    slides = task is not None and recipe.fit == SLIDE == task.fit
    is_open = info.picture is not None and any(isinstance(side, str) for side in info.image_size)
    size = None if is_open and image_size is None else info.fixed_image_size(image_size, slides)

    def placing(original: tuple[int, int]) -> tuple[Placement, tuple[int, int]]:
        if size is not None:
            return placed(original, size, recipe, image_size if slides else None, every=slides), size
        return _placed_whole(original, info)

    names = _names(images) if len(images) != 1 else [""]
    for number, (image, name) in enumerate(zip(images, names, strict=True)):
        try:
            yield from _windows(image, name, info, placing, limits, progress)
        except ImageError as error:
            if errors is None:
                raise
            errors[number] = error


def _names(images: Sequence[Picture]) -> list[str]:
    return [
        printable(shown(image)) if isinstance(image, (str, os.PathLike)) else f"picture {number}"
        for number, image in enumerate(images)
    ]


def _placed_whole(original: tuple[int, int], info: ModelInfo) -> tuple[Placement, tuple[int, int]]:
    """How a picture comes whole into an input that is open, and the size of that."""
    recipe, ranges = info.recipe, [info.range_of(axis) for axis in range(2)]
    if recipe.fit == CROP:
        height, width = (allowed.nearest(side) for allowed, side in zip(ranges, original, strict=True))
        return Placement(original, (height, width)), (height, width)
    usual_height, usual_width = (allowed.typical or side for allowed, side in zip(ranges, original, strict=True))
    scales = [allowed.most / side for allowed, side in zip(ranges, original, strict=True) if allowed.most is not None]
    scales.append(scale_of(original, (usual_height, usual_width), recipe))
    resized = scaled(original, min(scales))
    if recipe.fit == PAD:
        height, width = (allowed.covering(side) for allowed, side in zip(ranges, resized, strict=True))
        return Placement(original, resized), (height, width)
    height, width = (allowed.nearest(side) for allowed, side in zip(ranges, resized, strict=True))
    rows, columns = (
        side if side < allowed.least else brought
        for allowed, side, brought in zip(ranges, resized, (height, width), strict=True)
    )
    return Placement(original, (rows, columns)), (height, width)


def _windows(
    picture: Picture,
    name: str,
    info: ModelInfo,
    placing: Callable[[tuple[int, int]], tuple[Placement, tuple[int, int]]],
    limits: Limits,
    progress: Progress = silent,
) -> Iterator[tuple[Arrays, Placement]]:
    """The arrays of each window of a picture, and how it lies in them; an error names the picture, if it has a name."""
    assert info.picture is not None  # fixed_image_size refuses models without
    task = task_of(info)
    try:
        image = image_of(picture)
        placement, size = placing(size_of(image))
        beside = {} if task is None else task.beside(info, placement, limits)
        tensors = tensors_from_image(image, size, info.recipe, placement, info.takes_bytes)
        count = len(placement.windows)
        del image  # is held by them as long as they need it
        for tensor in tracked(tensors, "Windows", count, progress if count > 1 else silent):
            yield {info.picture.name: tensor} | beside, placement
    except ImageError as error:
        if not name or name in str(error):
            raise
        raise ImageError(f"{name}: {error}") from error


def _small(image: Opened) -> bytes:
    """A picture in small, as a PNG file."""
    picture = viewable(image)
    picture.thumbnail((_SMALL, _SMALL))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def folder_inputs(
    folder: str | Path,
    info: ModelInfo,
    table: str | Path | None = None,
    image_size: tuple[int, int] | None = None,
) -> Inputs:
    """The pictures of a folder as a model takes them, and their classes if a sub-folder or a table tells them.

    Args:
        folder: with the pictures in it, or in sub-folders, one per class.
        info: of the model.
        table: instead of sub-folders, a CSV file with the columns ``file``, a path in the folder, and ``class``.
        image_size: height and width in pixels, if the file leaves them open; None: the size that it was trained at.

    Raises:
        ImageError: if there is no such folder, no picture in it, or a class that is none of the model's; if the table
            cannot be read, lacks a column, or names a picture that is not there.
    """
    if table is None:
        paths, class_of = in_folder(Path(folder), info)
    else:
        paths, class_of = in_table(Path(table), Path(folder))
    classes, task = None, task_of(info)
    if class_of and task is not None:
        number_of = task.class_names(info, sorted(set(class_of)))
        classes = np.array([number_of(name) for name in class_of])
    inputs = picture_inputs(paths, info, image_size, classes)
    return dataclasses.replace(inputs, description=f"{inputs.description} of {folder}")


def some_inputs(
    info: ModelInfo,
    images: str | Path | None,
    count: int,
    seed: int = 0,
    table: str | Path | None = None,
    image_size: tuple[int, int] | None = None,
    examples: Mapping[str, npt.NDArray[Any]] | None = None,
) -> Inputs:
    """The pictures of a folder, or random inputs without one; all else as of ``folder_inputs`` and ``random_inputs``.

    Raises:
        ConfigError: for a table without a folder.
    """
    if images is not None:
        return folder_inputs(images, info, table, image_size)
    if table is not None:
        raise ConfigError("A table names the classes of pictures: give their folder too, with --images DIR.")
    return random_inputs(info, count, seed, image_size, examples)


def stored_inputs(path: str | Path, info: ModelInfo) -> Inputs:
    """The inputs in a file of ``numpy.savez``, as ``stacked_inputs`` gives them.

    Raises:
        InputError: if the file cannot be read, or holds other arrays than the model takes.
    """
    arrays = read_arrays(path, info.inputs, info.has_batch)
    count = len(next(iter(arrays.values())))
    return Inputs(
        f"{counted(count, 'input')} of {path}",
        [f"input {number}" for number in range(count)],
        lambda number: {name: array[number] for name, array in arrays.items()},
        whole=not info.has_batch,
    )


def stacked_inputs(inputs: Inputs) -> Arrays:
    """All inputs as one array for each of the model's, one below the other along axis 0.

    Raises:
        ConfigError: if they are of several sizes.
    """
    several = [inputs.one(number) for number in range(len(inputs))]
    if any(_shapes(one) != _shapes(several[0]) for one in several):
        raise ConfigError("The inputs are of several sizes, which one array cannot hold; give --image-size.")
    return {name: np.stack([one[name] for one in several]) for name in several[0]}
