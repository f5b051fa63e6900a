"""DeiT (https://arxiv.org/abs/2012.12877), the attention model that Vim is compared with: the baseline of benchmarks.

Parameter names are those of the released DeiT checkpoints (without distillation token).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vimdeploy.errors import ConfigError


@dataclass(frozen=True)
class DeiTConfig:
    """A DeiT classifier.

    Raises:
        ConfigError: where the patches do not divide the image.
    """

    dim: int
    heads: int
    image_size: tuple[int, int] = (224, 224)
    patch_size: int = 16
    depth: int = 12
    num_classes: int = 1000

    def __post_init__(self) -> None:
        if any(side < 1 or side % self.patch_size for side in self.image_size):
            raise ConfigError(
                f"Patches of {self.patch_size} pixels do not divide an image of {self.image_size[0]}x"
                f"{self.image_size[1]}; both sides must be multiples of {self.patch_size}."
            )


DEIT_VARIANTS = {
    "deit_tiny_patch16_224": DeiTConfig(192, 3),
    "deit_small_patch16_224": DeiTConfig(384, 6),
    "deit_base_patch16_224": DeiTConfig(768, 12),
}


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, config: DeiTConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.dim, 3 * config.dim)
        self.proj = nn.Linear(config.dim, config.dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, L, D / heads)
        attended = F.scaled_dot_product_attention(q, k, v)
        return self.proj(attended.transpose(1, 2).flatten(2))


class FusedAttention(Attention):
    """The same with the same weights, in ONNX one node of ONNX Runtime's own: com.microsoft MultiHeadAttention."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        if not torch.onnx.is_in_onnx_export():
            return super().forward(x)
        weights, biases = self.qkv.weight.unflatten(0, (3, -1)), self.qkv.bias.unflatten(0, (3, -1))
        qkv = [F.linear(x, weights[i], biases[i]) for i in range(3)]
        attended = torch.onnx.ops.symbolic(
            "com.microsoft::MultiHeadAttention",
            qkv,
            {"num_heads": self.heads},
            dtype=x.dtype,
            shape=x.shape,
            version=1,
        )
        return self.proj(attended)


class Mlp(nn.Module):
    """Two linear layers, four times as wide between them."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Norm, attend, add; norm, mix channels, add."""

    def __init__(self, config: DeiTConfig, attention: type[Attention]) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.dim, eps=1e-6)
        self.attn = attention(config)
        self.norm2 = nn.LayerNorm(config.dim, eps=1e-6)
        self.mlp = Mlp(config.dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    """Picture to patches."""

    def __init__(self, config: DeiTConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.dim, config.patch_size, config.patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, M, D)."""
        return self.proj(images).flatten(2).transpose(1, 2)


class DeiT(nn.Module):
    """A DeiT classifier: (B, 3, H, W) float32 -> logits (B, classes) float32."""

    def __init__(self, config: DeiTConfig, attention: type[Attention] = Attention) -> None:
        super().__init__()
        self.config = config
        height, width = config.image_size
        patches = (height // config.patch_size) * (width // config.patch_size)
        self.patch_embed = PatchEmbed(config)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.dim))
        self.pos_embed = nn.Parameter(torch.randn(1, patches + 1, config.dim) * 0.02)
        self.blocks = nn.ModuleList(Block(config, attention) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.dim, eps=1e-6)
        self.head = nn.Linear(config.dim, config.num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, classes)."""
        x = self.patch_embed(images)  # (B, M, D)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1) + self.pos_embed  # (B, L, D)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, 0]))
