"""What a Vim is, in numbers: ``VimConfig``, its ``Recipe``, and the table of released variants. Needs no torch."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vimdeploy.errors import ConfigError

CLASS_TOKENS = ("middle", "first", "none")
INTERPOLATIONS = ("bicubic", "bilinear", "lanczos", "nearest")


@dataclass(frozen=True)
class VimConfig:
    """A Vision Mamba classifier.

    Raises:
        ConfigError: where no model can have these numbers.
    """

    image_size: tuple[int, int] = (224, 224)
    """Height and width in pixels."""
    patch_size: int = 16
    """Side of a patch in pixels."""
    stride: int = 16
    """Pixels from one patch to the next; smaller than patch_size where patches overlap."""
    in_channels: int = 3
    dim: int = 192
    depth: int = 24
    num_classes: int = 1000
    class_token: str = "middle"
    """``middle`` (index M // 2 of M patches), ``first``, or ``none``: the mean of all tokens is classified."""
    direction_scale: float = 0.5
    """Factor on the sum of the two directions; 0.5 is their mean, as in the released weights."""
    state_size: int = 16
    conv_width: int = 4
    expand: int = 2
    dt_rank: int = 0
    """Rank of the step size; 0 stands for dim / 16, rounded up."""
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        if self.dt_rank == 0:
            object.__setattr__(self, "dt_rank", math.ceil(self.dim / 16))
        object.__setattr__(self, "image_size", tuple(self.image_size))
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type == "int" and (not isinstance(value, int) or value < 1):
                raise ConfigError(f"{field.name} must be a whole number of at least 1, found {value}.")
        if self.class_token not in CLASS_TOKENS:
            raise ConfigError(f"class_token must be one of {', '.join(CLASS_TOKENS)}, found {self.class_token!r}.")
        if self.stride > self.patch_size:
            raise ConfigError(f"stride must not pass patch_size {self.patch_size}, found {self.stride}.")
        for name, size in zip(("height", "width"), self.image_size, strict=True):
            if size < self.patch_size or (size - self.patch_size) % self.stride:
                below = max(size - (size - self.patch_size) % self.stride, self.patch_size)
                raise ConfigError(
                    f"Patches of {self.patch_size} pixels every {self.stride} do not divide an image {name} of {size}; "
                    f"the nearest that they divide are {below} and {below + self.stride}."
                )

    @property
    def grid(self) -> tuple[int, int]:
        """Patches down and across."""
        height, width = self.image_size
        return (height - self.patch_size) // self.stride + 1, (width - self.patch_size) // self.stride + 1

    @property
    def patches(self) -> int:
        """M, the number of patches."""
        return self.grid[0] * self.grid[1]

    @property
    def tokens(self) -> int:
        """L, the patches and the class token."""
        return self.patches + (self.class_token != "none")

    @property
    def class_token_index(self) -> int | None:
        """Where among the tokens the class token stands."""
        return {"middle": self.patches // 2, "first": 0, "none": None}[self.class_token]

    @property
    def channels(self) -> int:
        """E, the channels inside a block."""
        return self.expand * self.dim

    @property
    def parameters(self) -> int:
        """Number of trained values, as in the checkpoint."""
        d, e, n, r, w = self.dim, self.channels, self.state_size, self.dt_rank, self.conv_width
        direction = e * w + e + e * (r + 2 * n) + r * e + e + e * n + e
        block = 2 * e * d + 2 * direction + e * d + d
        embedding = self.in_channels * self.patch_size**2 * d + d + self.tokens * d
        return embedding + (self.class_token != "none") * d + self.depth * block + d + (d + 1) * self.num_classes

    def replace(self, **changes: Any) -> VimConfig:
        """A copy with some numbers changed."""
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True)
class Recipe:
    """How a picture becomes the model's input: what the weights were evaluated with."""

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


@dataclass(frozen=True)
class Variant:
    """A model that somebody trained: its numbers, its recipe, and where the weights are."""

    name: str
    config: VimConfig
    recipe: Recipe = Recipe()
    labels: tuple[str, ...] = ()
    """Names of the classes, in the order of the logits; empty where nobody named them."""
    upstream_name: str = ""
    """The entry point in hustvl/Vim, accepted as an alias."""
    weights: str = ""
    """Where the released weights live, as ``--checkpoint`` takes it."""
    top1: float | None = None
    """Accuracy in percent on ImageNet-1k, as the authors report it."""


_MIDDLE = "bimambav2_final_pool_mean_abs_pos_embed_with_midclstok_div2"
_BASE = "bimambav2_final_pool_mean_abs_pos_embed_with_middle_cls_token_div2"


def _variant(name: str, dim: int, stride: int, suffix: str, weights: str, top1: float) -> Variant:
    return Variant(
        name,
        VimConfig(dim=dim, stride=stride),
        upstream_name=f"{name}_{suffix}",
        weights=f"hf://hustvl/{weights}",
        top1=top1,
    )


VARIANTS = {
    variant.name: variant
    for variant in (
        _variant("vim_tiny_patch16_224", 192, 16, _MIDDLE, "Vim-tiny-midclstok/vim_t_midclstok_76p1acc.pth", 76.1),
        _variant(
            "vim_tiny_patch16_stride8_224", 192, 8, _MIDDLE, "Vim-tiny-midclstok/vim_t_midclstok_ft_78p3acc.pth", 78.3
        ),
        _variant("vim_small_patch16_224", 384, 16, _MIDDLE, "Vim-small-midclstok/vim_s_midclstok_80p5acc.pth", 80.5),
        _variant(
            "vim_small_patch16_stride8_224", 384, 8, _MIDDLE, "Vim-small-midclstok/vim_s_midclstok_ft_81p6acc.pth", 81.6
        ),
        _variant("vim_base_patch16_224", 768, 16, _BASE, "Vim-base-midclstok/vim_b_midclstok_81p9acc.pth", 81.9),
    )
}


def variant_by_name(name: str) -> Variant:
    """The variant that a command's VARIANT means.

    Args:
        name: a released variant, an entry point of hustvl/Vim, or a file ``NAME.json`` that describes a model of your
            own: ``{"config": {...}, "recipe": {...}, "labels": [...]}`` with the fields of VimConfig and Recipe.

    Raises:
        ConfigError: for any other name (suggests the nearest), or a file that describes no model.
    """
    if name.endswith(".json"):
        return _variant_from_file(Path(name))
    by_name = VARIANTS | {variant.upstream_name: variant for variant in VARIANTS.values()}
    if name in by_name:
        return by_name[name]
    near = difflib.get_close_matches(name, VARIANTS, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise ConfigError(f"There is no variant {name!r}.{hint} The variants are: {', '.join(VARIANTS)}.")


def _variant_from_file(path: Path) -> Variant:
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        return Variant(
            described.get("name", path.stem),
            VimConfig(**described["config"]),
            Recipe(**described.get("recipe", {})),
            tuple(described.get("labels", ())),
        )
    except FileNotFoundError as error:
        raise ConfigError(f"There is no model description {path}.") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(
            f'{path} does not describe a model; wanted {{"config": {{...}}, "recipe": {{...}}, "labels": [...]}} '
            f"with the fields of VimConfig and Recipe, found: {type(error).__name__} {error}."
        ) from error


def labels_from_file(path: Path) -> tuple[str, ...]:
    """Names of classes, one a line, in the order of the logits.

    Raises:
        ConfigError: where the file cannot be read.
    """
    try:
        return tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Wanted a text file of one label a line, but {path} cannot be read: {error}.") from error
