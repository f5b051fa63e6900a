"""How a picture becomes a model's input: what the weights were evaluated with."""

from __future__ import annotations

from dataclasses import dataclass

from vimdeploy.errors import ConfigError

INTERPOLATIONS = ("bicubic", "bilinear", "lanczos", "nearest")


@dataclass(frozen=True)
class Recipe:
    """Resize, centre crop and normalisation.

    Raises:
        ConfigError: if no picture can be prepared like this.
    """

    crop: float = 0.875
    """Part of the resized picture's side that the centre crop keeps."""
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    """Per channel, of values in [0, 1]; one value for grey pictures, three for RGB."""
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            object.__setattr__(self, name, tuple(float(value) for value in getattr(self, name)))
        if not 0 < self.crop <= 1:
            raise ConfigError(f"crop must be above 0 and at most 1, found {self.crop}.")
        if self.interpolation not in INTERPOLATIONS:
            raise ConfigError(
                f"interpolation must be one of {', '.join(INTERPOLATIONS)}, found {self.interpolation!r}."
            )
        if len(self.mean) != len(self.std) or len(self.mean) not in (1, 3) or min(self.std) <= 0:
            raise ConfigError(f"mean and std want 1 or 3 values each, std above 0; found {self.mean} and {self.std}.")
