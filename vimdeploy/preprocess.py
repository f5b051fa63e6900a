"""Picture -> tensor, by the recipe that the weights were evaluated with.

Short side resized to size / crop, centre crop, values to [0, 1], minus mean, over std. As in the evaluation that the
accuracy comes from, an EXIF orientation is not applied.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from vimdeploy.errors import ImageError
from vimdeploy.models.config import Recipe

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm")
FloatArray = npt.NDArray[np.float32]


def tensor_from_image(image: Image.Image, image_size: tuple[int, int], recipe: Recipe) -> FloatArray:
    """One picture as the model takes it.

    Args:
        image: any mode; 16-bit, CMYK, palette and grey pictures are converted, transparency is dropped.
        image_size: height and width of the result in pixels.
        recipe: its mean has one value for a grey result, three for RGB.

    Returns:
        (C, H, W) float32.
    """
    image = _eight_bit(image).convert("L" if len(recipe.mean) == 1 else "RGB")
    height, width = image_size
    size = _resized(image.size, (int(width / recipe.crop), int(height / recipe.crop)))
    if size != image.size:
        image = image.resize(size, Image.Resampling[recipe.interpolation.upper()])
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    image = image.crop((left, top, left + width, top + height))
    pixels = np.asarray(image, dtype=np.float32).reshape(height, width, -1) / np.float32(255)
    mean, std = np.asarray(recipe.mean, np.float32), np.asarray(recipe.std, np.float32)
    return np.ascontiguousarray(((pixels - mean) / std).transpose(2, 0, 1))  # (C, H, W)


def _resized(size: tuple[int, int], least: tuple[int, int]) -> tuple[int, int]:
    """The smallest (width, height) of the same proportions that covers ``least``; rounded down, as upstream does."""
    if size[0] * least[1] <= size[1] * least[0]:
        return least[0], size[1] * least[0] // size[0]
    return size[0] * least[1] // size[1], least[1]


def open_image(path: str | Path) -> Image.Image:
    """Read a picture file whole.

    Raises:
        ImageError: where there is no such file, it is no picture, damaged, or absurdly large.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except UnidentifiedImageError as error:
        raise ImageError(f"{path} is not a picture that Pillow can read; wanted PNG, JPEG, TIFF, WebP ...") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{path} was not opened: {error}") from error
    except (OSError, SyntaxError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"The picture {path} cannot be read: {reason}.") from error


def _eight_bit(image: Image.Image) -> Image.Image:
    """A 16-bit grey picture scaled to 8 bits; Pillow itself would clip it to white."""
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.int64)
    return Image.fromarray(np.clip(values >> 8, 0, 255).astype(np.uint8))


@dataclass(frozen=True)
class ImageFolder:
    """The pictures of a folder, and their classes where the folder has one sub-folder a class."""

    paths: tuple[Path, ...]
    classes: tuple[str, ...]
    """Names of the classes in sorted order; empty where the pictures lie in the folder itself."""
    class_of: tuple[str, ...] = ()
    """Of each picture; empty where they have none."""

    def class_indices(self, labels: Sequence[str], num_classes: int) -> npt.NDArray[np.int64] | None:
        """The index among the logits of each picture's class; None where the folder has no classes.

        Args:
            labels: the model's names of its classes; where it has none, the sorted sub-folders are its classes.
            num_classes: of the model.

        Raises:
            ImageError: where a sub-folder is none of the model's classes, or, without labels, their number differs.
        """
        if not self.classes:
            return None
        if not labels and len(self.classes) != num_classes:
            raise ImageError(
                f"Wanted {num_classes} sub-folders, one a class, because the model does not name its classes; "
                f"found {len(self.classes)}. Export it with --labels FILE to use any of its classes."
            )
        index = {name: i for i, name in enumerate(labels or self.classes)}
        unknown = [name for name in self.classes if name not in index]
        if unknown:
            raise ImageError(
                f"Wanted a sub-folder for each class under the model's names ({', '.join(list(index)[:4])} ...), found "
                f"{unknown[0]!r}, which is none of them."
            )
        return np.array([index[name] for name in self.class_of])


def find_images(folder: str | Path) -> ImageFolder:
    """The pictures of a folder, or of its sub-folders (one a class), in sorted order.

    Raises:
        ImageError: where there is no such folder, or no picture in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ImageError(f"Wanted a folder of pictures, found no folder {folder}.")
    here = _pictures(folder)
    if here:
        return ImageFolder(tuple(here), ())
    by_class = {child.name: _pictures(child) for child in sorted(folder.iterdir()) if child.is_dir()}
    by_class = {name: paths for name, paths in by_class.items() if paths}
    if not by_class:
        raise ImageError(
            f"The folder {folder} holds no pictures ({', '.join(IMAGE_SUFFIXES)}), nor do its sub-folders."
        )
    paths = tuple(path for paths in by_class.values() for path in paths)
    return ImageFolder(paths, tuple(by_class), tuple(path.parent.name for path in paths))


def images_of_table(table: str | Path, folder: str | Path) -> ImageFolder:
    """The pictures that a table lists, and their classes.

    Args:
        table: a CSV file with the columns ``file``, a path in the folder, and ``class``, a name.
        folder: where the pictures lie.

    Raises:
        ImageError: where the table cannot be read, lacks a column, or names a picture that is not there.
    """
    try:
        with Path(table).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"The table {table} cannot be read: {reason}.") from error
    if not rows or any(row.get("file") is None or row.get("class") is None for row in rows):
        found = ", ".join(map(str, rows[0])) if rows else "no row"
        raise ImageError(f"Wanted a CSV file with the columns file and class in {table}, found {found}.")
    paths = tuple(Path(folder) / row["file"] for row in rows)
    missing = next((path for path in paths if not path.is_file()), None)
    if missing is not None:
        raise ImageError(f"{table} lists {missing.name}, and there is no file {missing}.")
    names = tuple(row["class"] for row in rows)
    return ImageFolder(paths, tuple(sorted(set(names))), names)


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)


def batches_from_images(
    images: Sequence[str | Path | Image.Image], image_size: tuple[int, int], recipe: Recipe, batch: int
) -> Iterator[FloatArray]:
    """Pictures as the model takes them, some at a time, so that memory does not grow with their number.

    Yields:
        (at most batch, C, H, W) float32.
    """
    for start in range(0, len(images), batch):
        opened = (i if isinstance(i, Image.Image) else open_image(i) for i in images[start : start + batch])
        yield np.stack([tensor_from_image(image, image_size, recipe) for image in opened])
