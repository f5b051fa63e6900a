"""DeiT (https://arxiv.org/abs/2012.12877), the attention model that Vim is compared with: the baseline of benchmarks.

Parameter names are those of the released DeiT checkpoints (without distillation token).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vimdeploy.models.backbone import Backbone, Features
from vimdeploy.models.deit.config import DeiTConfig


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

    def __init__(self, config: DeiTConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.dim, eps=1e-6)
        self.attn = FusedAttention(config) if config.fused_attention else Attention(config)
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
        self.proj = nn.Conv2d(config.in_channels, config.dim, config.patch_size, config.patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, M, D)."""
        return self.proj(images).flatten(2).transpose(1, 2)


class DeiT(Backbone):
    """A DeiT without a head: pictures (B, C, H, W) float32 -> tokens (B, L, D) float32, the class token first."""

    def __init__(self, config: DeiTConfig, any_size: bool = False) -> None:
        """Make the modules, with random weights.

        Args:
            config: of the model; its image size is that of the stored position embedding.
            any_size: take pictures of every size, and resize the position embedding to each.
        """
        super().__init__()
        self.config = config
        self.any_size = any_size
        self.patch_embed = PatchEmbed(config)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.dim))
        self.pos_embed = nn.Parameter(torch.randn(1, config.tokens, config.dim) * 0.02)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.dim, eps=1e-6)

    def features(self, images: Tensor, blocks: Sequence[int] = ()) -> Features:
        """(B, C, H, W) -> maps (B, D, rows, columns) and the pooled vector (B, D)."""
        tokens, of_blocks = self._tokens(images)
        normed = self.norm(tokens)
        maps = [self._map(of_blocks[block], images) for block in blocks]
        return Features(self._map(normed, images), normed[:, 0], maps)

    def pooled(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D): the class token after the last norm."""
        tokens, _ = self._tokens(images)
        return self.norm(tokens[:, 0])

    def _tokens(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The tokens after the last block, and after each, (B, L, D)."""
        x = self.patch_embed(images)  # (B, M, D)
        positions: Tensor = self.pos_embed
        if self.any_size:
            positions = resize_pos_embed(positions, self.config, *self._grid(images))
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1) + positions  # (B, L, D)
        after = []
        for block in self.blocks:
            x = block(x)
            after.append(x)
        return x, after

    def _grid(self, images: Tensor) -> tuple[int, int]:
        """Patches down and across."""
        return images.shape[2] // self.config.patch_size, images.shape[3] // self.config.patch_size

    def _map(self, tokens: Tensor, images: Tensor) -> Tensor:
        """(B, L, D) -> (B, D, rows, columns): the patches' tokens in their places."""
        return tokens[:, 1:].transpose(1, 2).unflatten(2, self._grid(images))


def resize_pos_embed(pos_embed: Tensor, config: DeiTConfig, rows: int, columns: int) -> Tensor:
    """Fit a position embedding to another grid of patches, at export or inside the exported graph.

    The grid is interpolated (bicubic); the class token's row stays first.

    Args:
        pos_embed: (1, L of the trained size, D) float32.
        config: of the model that it belongs to.
        rows: of the new grid.
        columns: of the new grid.

    Returns:
        (1, L of the new size, D).
    """
    grid = pos_embed[:, 1:].transpose(1, 2).unflatten(2, config.grid)
    resized = F.interpolate(grid, size=(rows, columns), mode="bicubic", align_corners=False)
    return torch.cat([pos_embed[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)
