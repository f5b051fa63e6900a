"""What a Vim is, in numbers: ``VimConfig``, and the table of released variants. Needs no torch."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from vimdeploy.errors import ConfigError
from vimdeploy.models.variant import Variant, check_fields, check_image_size, check_weights

CLASS_TOKENS = ("middle", "first", "none")
BLOCK_FEATURES = ("residual", "mixer", "rotated")


@dataclass(frozen=True)
class VimConfig:
    """A Vision Mamba.

    Raises:
        ConfigError: if no model can have these numbers.
    """

    image_size: tuple[int, int] = (224, 224)
    """Height and width in pixels that it was trained at."""
    patch_size: int = 16
    """Side of a patch in pixels."""
    stride: int = 16
    """Pixels from one patch to the next; smaller than patch_size if patches overlap."""
    in_channels: int = 3
    """Channels of a picture: 1 for grey, 3 for RGB."""
    dim: int = 192
    """Channels of a token."""
    depth: int = 24
    """Number of blocks."""
    num_classes: int = 1000
    """Classes of the classifier."""
    class_token: str = "middle"
    """``middle`` (index M // 2 of M patches), ``first``, or ``none``: the mean of all tokens is classified."""
    direction_scale: float = 0.5
    """Factor on the sum of the two directions; 0.5 is their mean, as in the released weights."""
    state_size: int = 16
    """N, the states of a channel."""
    conv_width: int = 4
    """Taps of the causal convolution."""
    expand: int = 2
    """Channels inside a block, in multiples of dim."""
    dt_rank: int = 0
    """Rank of the step size; 0 stands for dim / 16, rounded up."""
    norm_eps: float = 1e-5
    """What RMSNorm adds to the mean square."""
    rotary: bool = False
    """Whether the residual is turned by each token's row and column before every block (backbones of hustvl/Vim's seg
    and det folders)."""
    final_norm: bool = True
    """Whether the tokens are normalised after the last block."""
    block_feature: str = "residual"
    """What the map of a block is: the ``residual`` after it; what its ``mixer`` gave; or the residual ``rotated`` as
    the next block reads it, as upstream's segmentation scripts have it for Vim-S."""

    def __post_init__(self) -> None:
        if self.dt_rank == 0 and isinstance(self.dim, int):
            object.__setattr__(self, "dt_rank", math.ceil(self.dim / 16))
        check_fields(self)
        if self.norm_eps <= 0:
            raise ConfigError(f"norm_eps must be above 0, found {self.norm_eps}.")
        if self.class_token not in CLASS_TOKENS:
            raise ConfigError(f"class_token must be one of {', '.join(CLASS_TOKENS)}, found {self.class_token!r}.")
        if self.block_feature not in BLOCK_FEATURES:
            raise ConfigError(
                f"block_feature must be one of {', '.join(BLOCK_FEATURES)}, found {self.block_feature!r}."
            )
        if self.rotary and (self.dim % 4 or self.class_token != "none"):
            raise ConfigError("A rotary embedding wants a dim that is a multiple of 4 and no class token.")
        if self.block_feature == "rotated" and not self.rotary:
            raise ConfigError("The block_feature rotated wants a rotary embedding.")
        if self.stride > self.patch_size:
            raise ConfigError(f"stride must not pass patch_size {self.patch_size}, found {self.stride}.")
        check_image_size(self.image_size, self.patch_size, self.stride)
        check_weights(self)

    @property
    def grid(self) -> tuple[int, int]:
        """Patches down and across at the trained size."""
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
    def channels(self) -> int:
        """E, the channels inside a block."""
        return self.expand * self.dim

    @property
    def parameters(self) -> int:
        """Number of trained values of the classifier, as in the checkpoint."""
        d, e, n, r, w = self.dim, self.channels, self.state_size, self.dt_rank, self.conv_width
        direction = e * w + e + e * (r + 2 * n) + r * e + e + e * n + e
        block = 2 * e * d + 2 * direction + e * d + d
        embedding = self.in_channels * self.patch_size**2 * d + d + self.tokens * d
        norm = d if self.final_norm else 0
        return embedding + (self.class_token != "none") * d + self.depth * block + norm + (d + 1) * self.num_classes

    def replace(self, **changes: Any) -> VimConfig:
        """A copy with some numbers changed."""
        return dataclasses.replace(self, **changes)


_MIDDLE = "bimambav2_final_pool_mean_abs_pos_embed_with_midclstok_div2"
_BASE = "bimambav2_final_pool_mean_abs_pos_embed_with_middle_cls_token_div2"


def _variant(name: str, dim: int, stride: int, suffix: str, weights: str, top1: float) -> Variant:
    return Variant(
        name,
        "vim",
        VimConfig(dim=dim, stride=stride),
        upstream_name=f"{name}_{suffix}",
        checkpoint=f"hf://hustvl/{weights}",
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
