"""What a DeiT is, in numbers, and the table of released variants. Needs no torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from vimdeploy.errors import ConfigError
from vimdeploy.models.variant import Variant, check_fields, check_image_size, check_weights


@dataclass(frozen=True)
class DeiTConfig:
    """A DeiT (https://arxiv.org/abs/2012.12877) without distillation token.

    Raises:
        ConfigError: if no model can have these numbers.
    """

    dim: int
    heads: int
    image_size: tuple[int, int] = (224, 224)
    """Height and width in pixels that it was trained at."""
    in_channels: int = 3
    patch_size: int = 16
    depth: int = 12
    num_classes: int = 1000
    fused_attention: bool = False
    """Whether its attention is exported as one node of ONNX Runtime's own: com.microsoft MultiHeadAttention."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.dim % self.heads:
            raise ConfigError(f"dim must be a multiple of heads, found {self.dim} and {self.heads}.")
        check_image_size(self.image_size, self.patch_size, self.patch_size)
        check_weights(self)

    @property
    def stride(self) -> int:
        """Pixels from one patch to the next."""
        return self.patch_size

    @property
    def grid(self) -> tuple[int, int]:
        """Patches down and across at the trained size."""
        return self.image_size[0] // self.patch_size, self.image_size[1] // self.patch_size

    @property
    def tokens(self) -> int:
        """L, the patches and the class token."""
        return self.grid[0] * self.grid[1] + 1

    @property
    def parameters(self) -> int:
        """Number of trained values of the classifier."""
        d = self.dim
        block = 12 * d * d + 13 * d
        embedding = self.in_channels * self.patch_size**2 * d + d + d + self.tokens * d
        return embedding + self.depth * block + 2 * d + (d + 1) * self.num_classes

    def replace(self, **changes: Any) -> DeiTConfig:
        """A copy with some numbers changed."""
        return dataclasses.replace(self, **changes)


VARIANTS = {
    name: Variant(name, "deit", DeiTConfig(dim, heads), top1=top1)
    for name, dim, heads, top1 in (
        ("deit_tiny_patch16_224", 192, 3, 72.2),
        ("deit_small_patch16_224", 384, 6, 79.9),
        ("deit_base_patch16_224", 768, 12, 81.8),
    )
}
