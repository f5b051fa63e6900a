"""How a picture becomes a model's input: what the weights were evaluated with."""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from vimdeploy.errors import ConfigError
from vimdeploy.text import shortened

OPENCV = "opencv-bilinear"
"""Between the four pixels around each place, however much smaller the picture gets: OpenCV's resize, and mmcv's. The
others are Pillow's, which average over all pixels that become one."""
INTERPOLATIONS = ("bicubic", "bilinear", "lanczos", "nearest", OPENCV)
CROP, SLIDE, PAD = FITS = ("crop", "slide", "pad")
"""How a picture of other proportions comes into an input: its middle alone, window by window, or with a margin."""
_LEAST_CROP = 0.01
"""A smaller part of a picture is less than a pixel of most."""
_MOST = 1e30
"""What float32 holds with room to spare; values of pixels are in [0, 1]."""


@dataclass(frozen=True)
class Recipe:
    """Resize, what is taken of the resized picture, and normalisation.

    Raises:
        ConfigError: if no picture can be prepared like this.
    """

    crop: float = 0.875
    """Part of the resized picture's side that the centre crop keeps."""
    interpolation: str = "bicubic"
    """How pictures are resized: one of ``INTERPOLATIONS``."""
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    """One value per channel, of values in [0, 1]: one for grey pictures, three for RGB."""
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    """One value per channel; the mean is subtracted, then this divides."""
    fit: str = CROP
    """One of ``FITS``: ``crop`` resizes the short side to the input's / ``crop`` and takes the middle; ``slide``
    resizes it to the input's, the long side to four times that at most, and takes windows at a stride of two thirds;
    ``pad`` resizes the long side to the input's. If a window is larger than the picture, as always with ``pad``, it
    has zeros on the right and below, put there after normalisation: segmenters are trained with such margins too. Among
    bytes the mean, rounded, stands for them."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "crop", _number("crop", self.crop))
        for name in ("mean", "std"):
            values = getattr(self, name)
            if isinstance(values, str) or not isinstance(values, Iterable):
                raise ConfigError(f"{name} must be a list of numbers, one per channel, found {_short(values)}.")
            object.__setattr__(self, name, tuple(_number(name, value) for value in values))
        if not _LEAST_CROP <= self.crop <= 1:
            raise ConfigError(f"crop must be at least {_LEAST_CROP} and at most 1, found {self.crop}.")
        for name, known in (("interpolation", INTERPOLATIONS), ("fit", FITS)):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} must be one of {', '.join(known)}, found {_short(getattr(self, name))}.")
        if len(self.mean) != len(self.std) or not self.std or min(self.std) <= 0:
            raise ConfigError(
                "mean and std want as many values each, one per channel, std above 0; found "
                f"{_short(self.mean)} and {_short(self.std)}."
            )

    @property
    def margin(self) -> tuple[int, ...]:
        """The colour, in bytes, that stands for zeros behind a picture, in files that normalise pictures themselves and
        do not crop them: the mean, rounded. A pixel of a picture that has this colour becomes zeros too; it is no more
        than half a level of 255 from them.
        """
        return tuple(min(max(round(255 * mean), 0), 255) for mean in self.mean)


def _number(name: str, value: Any) -> float:
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not -_MOST <= value <= _MOST:  # nor NaN
        raise ConfigError(f"{name} wants numbers up to {_MOST:g}, found {_short(value)}.")
    return float(value)


def _short(value: Any) -> str:
    return shortened(repr(value), 100)
