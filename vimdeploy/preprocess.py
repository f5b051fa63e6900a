"""Picture -> tensor, by the recipe that the weights were evaluated with.

The short side is resized to size / crop, then a centre crop, values to [0, 1], minus mean, over standard deviation. As
in the evaluation that the accuracy comes from, an EXIF orientation is not applied.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from vimdeploy.errors import ImageError
from vimdeploy.recipe import Recipe

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm")
FloatArray = npt.NDArray[np.float32]
Picture: TypeAlias = "str | Path | Image.Image | npt.NDArray[np.uint8] | Any"
"""A path, an opened picture, or an array or a torch tensor (H, W, 3) or (H, W) of uint8."""


def tensor_from_image(
    image: Image.Image, image_size: tuple[int, int], recipe: Recipe, whole: bool = False
) -> FloatArray:
    """One picture as the model takes it.

    Args:
        image: any mode; 16-bit, CMYK, palette and grey pictures are converted, transparency is dropped.
        image_size: height and width of the result in pixels.
        recipe: its mean has one value for a grey result, three for RGB.
        whole: resize the picture to the size as it is, without the centre crop.

    Returns:
        (C, H, W) float32.
    """
    image = _eight_bit(image).convert("L" if len(recipe.mean) == 1 else "RGB")
    height, width = image_size
    crop = 1.0 if whole else recipe.crop
    size = (width, height) if whole else _resized(image.size, (int(width / crop), int(height / crop)))
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


def image_of(picture: Picture) -> Image.Image:
    """A picture, read if it is a path.

    Raises:
        ImageError: if it is no picture.
    """
    if isinstance(picture, Image.Image):
        return picture
    if isinstance(picture, (str, Path)):
        return open_image(picture)
    detach = getattr(picture, "detach", None)  # a tensor of torch has it
    if detach is None and not isinstance(picture, np.ndarray):
        raise ImageError(
            f"Wanted a picture: a path, a PIL image, or an array (H, W, 3) of uint8; found {type(picture).__name__}."
        )
    type_ = str(picture.dtype).removeprefix("torch.")
    if type_ != "uint8":
        raise ImageError(
            f"Wanted a picture as an array of uint8, values 0 to 255; found {type_}. What is preprocessed already "
            "goes to run(), pictures of floats are times 255 first."
        )
    shape = tuple(picture.shape)
    if len(shape) not in (2, 3) or shape[2:] not in ((), (3,)) or 0 in shape:
        raise ImageError(
            f"Wanted a picture as an array (H, W, 3) or (H, W), found {shape}; "
            "several pictures go in as a list, channels stand last."
        )
    return Image.fromarray(np.ascontiguousarray(picture if detach is None else detach().cpu().numpy()))


def open_image(path: str | Path) -> Image.Image:
    """Read a picture file whole.

    Raises:
        ImageError: if there is no such file, it is no picture, damaged, or absurdly large.
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
