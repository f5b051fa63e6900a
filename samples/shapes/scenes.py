"""The pictures: shapes, letters and digits on photographs, made to order and the same for the same number.

python samples/shapes/scenes.py FOLDER                writes the held-out pictures, and what is on them
python samples/shapes/scenes.py FOLDER calibration    writes the first ones of training, for vimdeploy quantize

The photographs are those within scikit-image's package, nothing is downloaded; held-out pictures are on photographs
that training never sees. The fonts are Matplotlib's.
"""

from __future__ import annotations

import functools
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import pycocotools.mask
import skimage
from PIL import Image, ImageDraw, ImageFont

KINDS = ("circle", "square", "star", "A", "K", "4", "7")
PHOTOGRAPHS = {
    "training": ("astronaut", "brick", "camera", "coffee", "grass", "hubble_deep_field", "retina"),
    "test": ("chelsea", "gravel", "ihc", "rocket"),
}
"""The files of scikit-image that the pictures of each part are on; the README says who made them."""
COUNTS = {"test": 200, "calibration": 256}
"""Pictures that are written as files; those of ``calibration`` are the first ones of training."""
SIDE = 96
"""Pixels of a side of the pictures that are written; both models take such ones."""
_FONTS = ("DejaVuSans-Bold", "DejaVuSerif-Bold", "DejaVuSansMono-Bold")
_FINER = 3
"""Figures are drawn so many times as large, for smooth edges."""
_LEAST_CONTRAST = 90.0
"""How far a figure's colour is from what it covers at least: length of the difference of their RGB."""
_MOST_COVERED = 0.25
"""Part of what is seen of a figure that the next one may cover."""

Pixels = npt.NDArray[np.uint8]
Places = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Figure:
    """One thing on a picture."""

    kind: int
    """Index into ``KINDS``."""
    mask: Places
    """(side, side): where it is seen."""

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x1, y1, x2, y2 in pixels, the last two behind the last pixel."""
        down, across = (np.flatnonzero(self.mask.any(axis)) for axis in (1, 0))
        return int(across[0]), int(down[0]), int(across[-1]) + 1, int(down[-1]) + 1


@dataclass(frozen=True)
class Scene:
    """A picture, and what is on it."""

    picture: Pixels
    """(side, side, 3) RGB."""
    figures: tuple[Figure, ...]

    @property
    def classes(self) -> npt.NDArray[np.int64]:
        """(side, side): 0 of the background, 1 + kind of a figure."""
        found = np.zeros(self.picture.shape[:2], np.int64)
        for figure in self.figures:
            found[figure.mask] = 1 + figure.kind
        return found


def scene(part: str, number: int, side: int) -> Scene:
    """A picture with up to five figures.

    Args:
        part: a key of ``PHOTOGRAPHS``.
        number: of the picture, from 0 on; it alone decides what is on it.
        side: in pixels.
    """
    random = np.random.default_rng([list(PHOTOGRAPHS).index(part), number])
    picture = _background(random, part, side)
    figures: list[Figure] = []
    for _ in range(random.integers(2, 6)):
        kind, coverage = int(random.integers(len(KINDS))), np.zeros((side, side), np.float32)
        tile = _tile(random, kind, round(side * random.uniform(0.28, 0.52)))
        top, left = (random.integers(side - length + 1) for length in tile.shape)
        coverage[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
        mask = coverage >= 0.5
        rest = [Figure(figure.kind, figure.mask & ~mask) for figure in figures]
        if any(new.mask.sum() < (1 - _MOST_COVERED) * old.mask.sum() for new, old in zip(rest, figures, strict=True)):
            continue  # too much of another one would be covered
        figures = [*rest, Figure(kind, mask)]
        picture += coverage[..., None] * (_paint(random, picture[mask].mean(0), side) - picture)
    picture += random.uniform(0, 8) * random.standard_normal(picture.shape, np.float32)
    return Scene(np.clip(picture, 0, 255).astype(np.uint8), tuple(figures))


def _background(random: np.random.Generator, part: str, side: int) -> npt.NDArray[np.float32]:
    """A part of a photograph in other colours, (side, side, 3)."""
    names = PHOTOGRAPHS[part]
    photograph = _photograph(names[random.integers(len(names))])
    taken = random.uniform(0.3, 1) * min(photograph.size)
    left, top = (random.uniform(0, length - taken) for length in photograph.size)
    box = (left, top, left + taken, top + taken)
    pixels = np.asarray(photograph.resize((side, side), Image.Resampling.BILINEAR, box), np.float32)
    if random.random() < 0.5:
        pixels = pixels[:, ::-1]
    mean = pixels.mean()
    contrast, colors = random.uniform(0.5, 1), random.uniform(0.7, 1.2, 3).astype(np.float32)
    changed: npt.NDArray[np.float32] = np.float32(mean + (pixels - mean) * np.float32(contrast)) * colors
    return changed


@functools.cache
def _photograph(name: str) -> Image.Image:
    [path] = Path(skimage.__file__).with_name("data").glob(f"{name}.*")
    with Image.open(path) as image:
        photograph = image.convert("RGB")
    photograph.thumbnail((640, 640))
    return photograph


def _tile(random: np.random.Generator, kind: int, size: int) -> npt.NDArray[np.float32]:
    """How much of each pixel a figure covers, about ``size`` pixels down and across, with nothing around it."""
    length = _FINER * size
    middle = 3 * length // 4  # a figure of any angle is within 1.5 times its length
    tile = Image.new("L", (2 * middle, 2 * middle))
    pen = ImageDraw.Draw(tile)
    if kind < len(_SHAPES):
        pen.polygon([(middle + length * x / 2, middle + length * y / 2) for x, y in _SHAPES[kind]], fill=255)
        angle = random.uniform(-180, 180)
    else:
        font = _font(_FONTS[random.integers(len(_FONTS))], length)
        pen.text((middle, middle), KINDS[kind], fill=255, font=font, anchor="mm")
        angle = random.uniform(-15, 15)
    turned = tile.rotate(angle, Image.Resampling.BILINEAR)
    turned = turned.crop(turned.getbbox())
    small = turned.resize([max(1, round(length / _FINER)) for length in turned.size], Image.Resampling.BOX)
    return np.asarray(small, np.float32) / np.float32(255)


def _on_circle(*turns: float, radius: float = 1.0) -> list[tuple[float, float]]:
    """Points of a circle, from its top on."""
    return [(radius * math.sin(math.tau * turn), -radius * math.cos(math.tau * turn)) for turn in turns]


_SHAPES = (
    _on_circle(*(turn / 60 for turn in range(60))),
    [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)],
    [point for turn in range(5) for point in _on_circle(turn / 5) + _on_circle((turn + 0.5) / 5, radius=0.42)],
)
"""The corners of the first kinds, x to the right and y down, within -1 and 1."""


@functools.cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", f"{name}.ttf"), size)


def _paint(random: np.random.Generator, covered: npt.NDArray[np.float32], side: int) -> npt.NDArray[np.float32]:
    """A colour that stands out, a little brighter towards one side: (side, side, 3)."""
    while True:
        color = random.uniform(0, 255, 3)
        if np.linalg.norm(color - covered) >= _LEAST_CONTRAST:
            break
    slope = random.uniform(-60, 60, 2)
    down, across = np.mgrid[0:side, 0:side] / side - 0.5
    return (color + (slope[0] * down + slope[1] * across)[..., None]).astype(np.float32)


def write_files(folder: Path, part: str = "test") -> int:
    """The pictures of a part as PNG files, and what is on them in COCO's format, as FOLDER.json; how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    scenes = [scene("training" if part == "calibration" else part, number, SIDE) for number in range(COUNTS[part])]
    for number, made in enumerate(scenes):
        Image.fromarray(made.picture).save(folder / f"{number:03}.png")
    folder.with_suffix(".json").write_text(json.dumps(coco_of(scenes)), encoding="utf-8")
    return len(scenes)


def coco_of(scenes: list[Scene]) -> dict[str, Any]:
    """What is on pictures in COCO's format: pictures are numbered from 0 on, categories as in ``KINDS``."""
    images = [
        {"id": number, "file_name": f"{number:03}.png", "height": len(made.picture), "width": len(made.picture)}
        for number, made in enumerate(scenes)
    ]
    found: list[dict[str, Any]] = []
    for number, made in enumerate(scenes):
        for figure in made.figures:
            left, top, right, bottom = figure.box
            rle = pycocotools.mask.encode(np.asfortranarray(figure.mask))
            found.append(
                {
                    "id": len(found) + 1,
                    "image_id": number,
                    "category_id": figure.kind,
                    "bbox": [left, top, right - left, bottom - top],
                    "area": int(figure.mask.sum()),
                    "segmentation": {"size": rle["size"], "counts": rle["counts"].decode("ascii")},
                    "iscrowd": 0,
                }
            )
    categories = [{"id": number, "name": name} for number, name in enumerate(KINDS)]
    return {"images": images, "annotations": found, "categories": categories}


if __name__ == "__main__":
    print(f"{write_files(Path(sys.argv[1]), *sys.argv[2:])} pictures in {sys.argv[1]}")
