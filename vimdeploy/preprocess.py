"""Picture -> tensor, by the recipe that the weights were evaluated with.

A picture is resized and looked at through one or more windows of the input's size, as the recipe's ``fit`` has it; then
values to [0, 1], minus mean, over standard deviation, unless the model does that itself and takes bytes. As in the
evaluation that the accuracy comes from, an EXIF orientation is not applied; a warning says so.
"""

from __future__ import annotations

import io
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from vimdeploy.bilinear import Taps
from vimdeploy.errors import ImageError, VimdeployWarning
from vimdeploy.reading import check_regular, shown, why
from vimdeploy.recipe import CROP, OPENCV, SLIDE, Recipe
from vimdeploy.text import reason_of

FORMATS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jfif"),
    "BMP": (".bmp",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "AVIF": (".avif",),
}
"""What is opened, under Pillow's names, and what such files are called; Pillow's rarer decoders are kept from files."""

IMAGE_SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
ARRAY_SUFFIX = ".npy"
"""What a picture with more channels than the formats have is called: an array (H, W, C) of uint8 in a file."""

_LONGEST = 1_000_000
"""Pixels of a side; Pillow holds a pointer for each row, so that longer ones take gigabytes from a small file."""
_LONGEST_SLIDE = 4
"""How many times the input's short side a picture's long side may be that a window slides over, as mmsegmentation's
(2048, 512) has it."""
_MOST_PIXELS = 1 << 28
"""Pixels that windows slide over: no picture has more that Pillow opens."""
_LARGEST = 16
"""A resized picture has at most so many times the pixels of its crop; of longer ones the crop alone is computed."""
_REACH = 3
"""Pixels on either side that an interpolation looks at, Lanczos the farthest; of the new size if that is smaller."""
_STRIP = 16
"""Rows that are resized at once, so that a large picture is not copied whole."""
_ORIENTATION = 0x0112  # EXIF
_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262  # TIFF

FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]
Picture: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[np.uint8] | Any"
"""A path, a picture file or its bytes, a PIL image, or an array or a torch tensor (H, W, C) or (H, W) of uint8."""


@dataclass(frozen=True)
class Bands:
    """A picture of more channels than Pillow has modes for; answers as ``Image.Image`` does, as far as it is asked."""

    bands: tuple[Image.Image, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.bands[0].size

    def split(self) -> tuple[Image.Image, ...]:
        """A grey picture per channel."""
        return self.bands


Opened: TypeAlias = "Image.Image | Bands"


@dataclass(frozen=True)
class Placement:
    """How a picture lies in a model's input.

    It is resized, and windows of the input's size are laid over it. A window that is larger than the resized picture
    has it in its top left corner, and zeros for the rest; among bytes, the recipe's ``margin``, which stands for zeros.
    """

    original: tuple[int, int]
    """Height and width of the picture."""
    resized: tuple[int, int]
    """Height and width that it is resized to."""
    windows: tuple[tuple[int, int], ...] = ((0, 0),)
    """Top and left of each, within the resized picture; lane by lane, as ``across`` has it."""

    @property
    def across(self) -> bool:
        """Whether the windows come column by column, not row by row: along the shorter side, because whoever merges
        them has to keep the last lane."""
        return self.resized[0] < self.resized[1]


def placed(
    original: tuple[int, int],
    image_size: tuple[int, int],
    recipe: Recipe,
    resized: tuple[int, int] | None = None,
    every: bool = False,
) -> Placement:
    """How a recipe brings a picture into an input.

    Args:
        original: height and width of the picture in pixels.
        image_size: height and width of the input.
        recipe: its ``fit`` decides.
        resized: height and width to resize the picture to; None: as the recipe has it.
        every: all windows if the recipe slides one; else the middle one.
    """
    if recipe.fit == CROP:
        least = (int(image_size[0] / recipe.crop), int(image_size[1] / recipe.crop))
        resized = resized or _covering(original, least)
        return Placement(original, resized, (_middle(resized, image_size),))
    resized = resized or scaled(original, scale_of(original, image_size, recipe))
    placement = Placement(original, resized)
    if recipe.fit != SLIDE:
        return placement
    return replace(placement, windows=_grid(placement, image_size) if every else (_middle(resized, image_size),))


def _covering(size: tuple[int, int], least: tuple[int, int]) -> tuple[int, int]:
    """The smallest size of the same proportions that covers ``least``; rounded down, as upstream does."""
    if size[0] * least[1] <= size[1] * least[0]:
        return least[0], size[1] * least[0] // size[0]
    return size[0] * least[1] // size[1], least[1]


def scale_of(original: tuple[int, int], image_size: tuple[int, int], recipe: Recipe) -> float:
    """How many times as large the recipe makes a picture that a window slides over, or that lies in a margin."""
    if recipe.fit == SLIDE:
        return min(_LONGEST_SLIDE * min(image_size) / max(original), min(image_size) / min(original))
    return min(side / old for side, old in zip(image_size, original, strict=True))


def scaled(original: tuple[int, int], scale: float) -> tuple[int, int]:
    """A picture's size times a scale; rounded as mmcv and detectron2 do."""
    height, width = (max(int(side * scale + 0.5), 1) for side in original)
    return height, width


def _middle(resized: tuple[int, int], image_size: tuple[int, int]) -> tuple[int, int]:
    """Top and left of the window in the middle."""
    top, left = (max(round((whole - part) / 2), 0) for whole, part in zip(resized, image_size, strict=True))
    return top, left


def _grid(placement: Placement, image_size: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """Top and left of all windows of a size, the last of them shifted back into the picture.

    Raises:
        ImageError: if the picture is absurdly large.
    """
    resized = placement.resized
    if resized[0] * resized[1] > _MOST_PIXELS:
        raise ImageError(
            f"Wanted a picture of {resized[0]}x{resized[1]} pixels, at most {_MOST_PIXELS} pixels are looked at; give "
            "a smaller --image-size."
        )
    tops, lefts = (
        [min(start, max(whole - part, 0)) for start in range(0, max(whole - part, 0) + stride, stride)]
        for whole, part, stride in ((w, p, max(p * 2 // 3, 1)) for w, p in zip(resized, image_size, strict=True))
    )
    if placement.across:
        return tuple((top, left) for left in lefts for top in tops)
    return tuple((top, left) for top in tops for left in lefts)


def tensor_from_image(
    image: Opened, image_size: tuple[int, int], recipe: Recipe, as_bytes: bool = False
) -> npt.NDArray[Any]:
    """One picture as the model takes it; all else as of ``tensors_from_image``."""
    placement = placed(size_of(image), image_size, recipe)
    return next(tensors_from_image(image, image_size, recipe, placement, as_bytes))


def tensors_from_image(
    image: Opened, image_size: tuple[int, int], recipe: Recipe, placement: Placement, as_bytes: bool = False
) -> Iterator[npt.NDArray[Any]]:
    """The windows of a picture, each as the model takes it, and made when it is wanted.

    Args:
        image: any mode that has a meaning as 8-bit values: 16-bit, CMYK, palette and grey pictures are converted,
            transparency is dropped.
        image_size: height and width of each result in pixels.
        recipe: its mean has one value for a grey result, three for RGB; for another number of channels the picture has
            as many, which are taken as they are.
        placement: how the picture lies in the windows.
        as_bytes: for a model that takes bytes and normalises them itself.

    Yields:
        (C, H, W) float32, normalised; or (H, W, C) uint8.

    Raises:
        ImageError: if the picture cannot become 8-bit values, or has other channels.
    """
    made = _as_bytes if as_bytes else _as_floats
    return (made(pixels, image_size, recipe) for pixels in _windows(image, image_size, recipe, placement))


def _windows(
    image: Opened, image_size: tuple[int, int], recipe: Recipe, placement: Placement
) -> Iterator[list[ByteArray]]:
    """What each window has of a picture: its channels (h, w, ...), in one or several arrays."""
    parts = _parts(image, len(recipe.mean))
    size, begin = placement.resized[::-1], 0
    if len(placement.windows) > 1 or size[0] * size[1] <= _LARGEST * image_size[0] * image_size[1]:
        begin, last = (end(left for _, left in placement.windows) for end in (min, max))
        end = min(last + image_size[1], size[0])
        parts = [_resized_columns(part, size, begin, end, recipe.interpolation) for part in parts]
        size = end - begin, size[1]
        del image  # which may be much larger, and whoever takes the windows takes his time
    for top, left in placement.windows:
        left -= begin
        bottom, right = min(top + image_size[0], size[1]), min(left + image_size[1], size[0])
        shown = (_resized_part(part, size, (left, top, right, bottom), recipe.interpolation) for part in parts)
        yield [np.asarray(part).reshape(bottom - top, right - left, -1) for part in shown]


def _as_floats(parts: Sequence[ByteArray], image_size: tuple[int, int], recipe: Recipe) -> FloatArray:
    """A window (C, H, W), with zeros behind the picture."""
    tensor = np.zeros((len(recipe.mean), *image_size), np.float32)
    height, width, _ = parts[0].shape
    values, first = tensor[:, :height, :width], 0
    for part in parts:
        last = first + part.shape[2]
        values[first:last] = part.transpose(2, 0, 1)
        first = last
    _normalise(values, recipe)
    return tensor


def _as_bytes(parts: Sequence[ByteArray], image_size: tuple[int, int], recipe: Recipe) -> ByteArray:
    """A window (H, W, C), with the margin's colour behind the picture."""
    height, width, _ = parts[0].shape
    tensor = np.empty((*image_size, len(recipe.mean)), np.uint8)
    tensor[height:], tensor[:height, width:] = recipe.margin, recipe.margin
    np.concatenate(parts, axis=2, out=tensor[:height, :width])
    return tensor


def normalised(pixels: ByteArray, recipe: Recipe) -> FloatArray:
    """Bytes (..., H, W, C) as a model takes them that does not normalise them itself: (..., C, H, W) float32."""
    values = np.moveaxis(pixels, -1, -3).astype(np.float32, order="C")
    _normalise(values, recipe)
    if recipe.fit != CROP:
        is_picture = (pixels != np.array(recipe.margin, np.uint8)).any(axis=-1)
        values *= is_picture[..., None, :, :]
    return values


def _normalise(values: FloatArray, recipe: Recipe) -> None:
    """Bring values (..., C, H, W) from 0 to 255 to what the weights were trained with, in place."""
    mean, std = (np.asarray(values, np.float32)[:, None, None] for values in (recipe.mean, recipe.std))
    values /= np.float32(255)
    values -= mean
    values /= std


def bytes_nearest(tensor: FloatArray, recipe: Recipe) -> ByteArray:
    """Normalised values (C, H, W) as the nearest bytes (H, W, C)."""
    mean, std = (np.asarray(values, np.float32)[:, None, None] for values in (recipe.mean, recipe.std))
    pixels: ByteArray = np.clip(255 * (tensor * std + mean) + 0.5, 0, 255).astype(np.uint8)
    return pixels.transpose(1, 2, 0)


def image_from_tensor(tensor: npt.NDArray[Any], recipe: Recipe) -> Image.Image:
    """What a model sees, for people: a tensor of ``tensors_from_image``; of channels that are no colours, the first."""
    pixels = tensor if tensor.dtype == np.uint8 else bytes_nearest(tensor, recipe)
    return Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0]).convert("RGB")


def size_of(image: Opened) -> tuple[int, int]:
    """Height and width of a picture in pixels."""
    return image.size[1], image.size[0]


def _resized_columns(
    image: Image.Image, size: tuple[int, int], begin: int, end: int, interpolation: str
) -> Image.Image:
    """Some columns of a picture that is resized to a size: as they would be in the whole, for less work."""
    if image.size == size or interpolation == OPENCV:
        return _resized_part(image, size, (begin, 0, end, size[1]), interpolation)
    resampling = Image.Resampling[interpolation.upper()]
    across = image.resize((size[0], image.height), resampling).crop((begin, 0, end, image.height))
    return across.resize((end - begin, size[1]), resampling)


def _resized_part(
    image: Image.Image, size: tuple[int, int], box: tuple[int, int, int, int], interpolation: str
) -> Image.Image:
    """A part of a picture that is resized to a size, without the rest of it.

    Across and then down, as Pillow resizes the whole; a pixel may differ by its last bit, because Pillow rounds the
    edges of a part to float32.
    """
    if image.size == size:
        return image if box == (0, 0, *size) else image.crop(box)
    if interpolation == OPENCV:
        return _between_four(image, size, box)
    resampling = Image.Resampling[interpolation.upper()]
    if box == (0, 0, *size):
        return image.resize(size, resampling)

    def looked_at(axis: int) -> tuple[int, int, float, float]:
        """Where what the part depends on begins and ends along an axis, and the edges of the part within that."""
        scale = image.size[axis] / size[axis]
        first, last = box[axis] * scale, box[axis + 2] * scale
        reach = _REACH * max(scale, 1)
        begin, end = max(int(first - reach), 0), min(math.ceil(last + reach), image.size[axis])
        return begin, end, first - begin, last - begin

    (left, right, *across), (top, bottom, *down) = looked_at(0), looked_at(1)
    width, height = box[2] - box[0], box[3] - box[1]
    image = image.crop((left, top, right, bottom))
    image = image.resize((width, image.height), resampling, (across[0], 0, across[1], image.height))
    return image.resize((width, height), resampling, (0, down[0], width, down[1]))


def _between_four(image: Image.Image, size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    """As ``_resized_part``, each pixel between the four around its place; Pillow could do that, but does not round."""
    columns, rows = (
        Taps.of(whole, resized)[box[axis] : box[axis + 2]]
        for axis, (whole, resized) in enumerate(zip(image.size, size, strict=True))
    )
    strips = []
    for start in range(0, len(rows.part), _STRIP):
        lines = rows[start : start + _STRIP]
        top, bottom = int(lines.first[0]), int(lines.second[-1]) + 1
        pixels = np.asarray(image.crop((0, top, image.width, bottom))).reshape(bottom - top, image.width, -1)
        pixels = _mixed(pixels, replace(lines, first=lines.first - top, second=lines.second - top), 0)
        strips.append((_mixed(pixels, columns, 1) + np.float32(0.5)).astype(np.uint8))
    resized = np.concatenate(strips)
    return Image.fromarray(resized[:, :, 0] if resized.shape[2] == 1 else resized)


def _mixed(values: npt.NDArray[Any], taps: Taps, axis: int) -> FloatArray:
    """What lies between values along an axis."""
    part = taps.part.astype(np.float32).reshape((-1,) + (1,) * (values.ndim - 1 - axis))
    first, second = (np.take(values, places, axis).astype(np.float32) for places in (taps.first, taps.second))
    mixed: FloatArray = first + (second - first) * part
    return mixed


def _parts(image: Opened, channels: int) -> Sequence[Image.Image]:
    """A picture as pictures that Pillow resizes channel by channel: one of RGB or grey, or one for each channel."""
    if isinstance(image, Image.Image):
        image = eight_bit(image)
        if channels in (1, 3):
            mode = "L" if channels == 1 else "RGB"
            return [image if image.mode == mode else image.convert(mode)]  # Pillow would copy it
    bands = image.split()
    if len(bands) != channels:
        how = f" ({image.mode})" if isinstance(image, Image.Image) else ""
        raise ImageError(
            f"Wanted a picture of {channels} channels, found {len(bands)}{how}; give one of as many, or an array "
            f"(H, W, {channels}) of uint8, as a file {ARRAY_SUFFIX} too. Channels stand last."
        )
    return bands


def eight_bit(image: Image.Image) -> Image.Image:
    """A picture of any mode in one of 8-bit channels, whose values are what the mode says.

    Raises:
        ImageError: if nobody knows which of its values are black and white, or Pillow cannot convert it.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):  # Pillow's 16-bit grey
        return _from_sixteen_bit(image)
    kinds = {"I": "32-bit or signed integers", "F": "floats"}
    if image.mode in kinds:
        raise ImageError(
            f"{_name(image)} has values of {kinds[image.mode]}, and nobody knows which of them are black and white; "
            "save it with 8 or 16 bits, or give an array of uint8."
        )
    if image.mode == "LAB":
        raise ImageError(f"{_name(image)} has the colours of CIELAB; save it as RGB.")
    plain = {"P": "RGBA", "PA": "RGBA", "RGBa": "RGBA", "La": "LA"}  # colours for indices, not multiplied by alpha
    return image.convert(plain[image.mode]) if image.mode in plain else image


def _from_sixteen_bit(image: Image.Image) -> Image.Image:
    """16-bit grey scaled to 8 bits; Pillow itself would clip it to white."""
    values = np.asarray(image)
    tags: Any = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS_PER_SAMPLE, (16,))[0]  # a TIFF may have 12
    values = np.clip(values >> (bits - 8), 0, 255).astype(np.uint8)
    return Image.fromarray(255 - values if tags.get(_PHOTOMETRIC) == 0 else values)  # 0 may be white, too


def viewable(image: Opened) -> Image.Image:
    """A picture in RGB, for people; of channels that are neither grey nor colours, the first."""
    return (eight_bit(image) if isinstance(image, Image.Image) else image.bands[0]).convert("RGB")


def image_of(picture: Picture) -> Opened:
    """A picture, read if it is a file or the bytes of one.

    Raises:
        ImageError: if it is no picture.
    """
    if isinstance(picture, Image.Image):
        return _loaded(picture)
    if isinstance(picture, (str, os.PathLike)):
        return open_image(picture)
    if isinstance(picture, (bytes, bytearray, memoryview)):
        return _decoded(io.BytesIO(picture), f"The picture of {len(picture)} bytes")
    if hasattr(picture, "read"):
        return _decoded(picture, "The picture")
    if not isinstance(picture, np.ndarray) and not hasattr(picture, "detach"):  # a tensor of torch has it
        raise ImageError(
            "Wanted a picture: a path, a file or its bytes, a PIL image, or an array (H, W, C) of uint8; found "
            f"{type(picture).__name__}."
        )
    type_ = str(picture.dtype).removeprefix("torch.")
    if type_ != "uint8":
        raise ImageError(
            f"Wanted a picture as an array of uint8, values 0 to 255; found {type_}. What is preprocessed already "
            "goes to run(), pictures of floats are times 255 first."
        )
    shape = tuple(picture.shape)
    if len(shape) not in (2, 3) or 0 in shape:
        raise ImageError(
            f"Wanted a picture as an array (H, W, C) or (H, W), found {shape}; "
            "several pictures go in as a list, channels stand last."
        )
    try:
        pixels = np.ascontiguousarray(picture if isinstance(picture, np.ndarray) else picture.detach().cpu().numpy())
    except (TypeError, RuntimeError) as error:  # a sparse one, or one without values
        raise ImageError(f"The tensor cannot be read as a picture: {reason_of(error).rstrip('.')}.") from error
    if len(shape) == 2 or shape[2] in (2, 3, 4):  # grey, with transparency, RGB, with transparency
        return Image.fromarray(pixels)
    bands = tuple(Image.fromarray(np.ascontiguousarray(pixels[..., band])) for band in range(shape[2]))
    return bands[0] if len(bands) == 1 else Bands(bands)


def open_image(path: str | os.PathLike[str]) -> Opened:
    """Read a picture file whole, the first picture if it has several.

    Raises:
        ImageError: if there is no such file, it is no picture, damaged, or absurdly large.
    """
    try:
        check_regular(path)
    except (OSError, ValueError) as error:
        raise ImageError(f"The picture {shown(path)} cannot be read: {why(error)}.") from error
    if Path(path).suffix.lower() == ARRAY_SUFFIX:
        return _from_array_file(path)
    return _decoded(path, f"The picture {shown(path)}")


def _decoded(source: Any, name: str) -> Image.Image:
    """The picture in a file."""
    Image.init()
    try:
        with Image.open(source, formats=[format_ for format_ in FORMATS if format_ in Image.OPEN]) as image:
            if max(image.size) > _LONGEST:
                raise ImageError(f"{name} was not opened: its sides are {image.size}, at most {_LONGEST} are read.")
            return _loaded(image)
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{name} is not a picture that Pillow can read as {', '.join(FORMATS)}: it is another file, or its "
            "beginning is damaged. Save it as one of these."
        ) from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name} was not opened: {error} Make it smaller, or cut it into parts.") from error
    except ImageError:
        raise
    except Exception as error:  # decoders raise what they stumble over
        raise ImageError(f"{name} cannot be read: {why(error).rstrip('.')}.") from error


def _loaded(image: Image.Image) -> Image.Image:
    """A picture that may not be decoded yet, decoded; warns if it is not upright."""
    try:
        image.load()
    except Exception as error:  # decoders raise what they stumble over
        raise ImageError(f"{_name(image)} cannot be read: {why(error).rstrip('.')}.") from error
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # EXIF that is damaged says nothing
        orientation = 1
    if orientation in range(2, 9):
        warnings.warn(
            "A picture's EXIF orientation says that it is to be turned. Pictures are taken as they are stored, as in "
            "the evaluation that the accuracy comes from; if yours should stand upright, turn them first, with "
            "Pillow's ImageOps.exif_transpose for example.",
            VimdeployWarning,
            stacklevel=2,
        )
    return image


def _name(image: Image.Image) -> str:
    path = getattr(image, "filename", "")
    return f"The picture {shown(path)}" if path else "The picture"


def _from_array_file(path: str | os.PathLike[str]) -> Opened:
    """The picture in a file of numpy."""
    try:  # mapped, so that a file that claims to be large takes no memory
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:
        raise ImageError(f"The picture {shown(path)} cannot be read: {why(error).rstrip('.')}.") from error
    try:
        return image_of(array)
    except ImageError as error:
        raise ImageError(f"{shown(path)}: {error}") from error
