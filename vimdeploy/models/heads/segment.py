"""Pictures to the class of each pixel: UperNet (https://arxiv.org/abs/1807.10221), as mmsegmentation has it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vimdeploy.models.backbone import Backbone, StoringModule
from vimdeploy.models.heads.pyramid import BatchNorm, Pyramid

SCALES = (1, 2, 3, 6)
"""Places down and across that the coarsest level is averaged to."""


class Segmenter(Pyramid):
    """A pyramid and a ``UperHead``: (B, C, H, W) float32 -> logits (B, classes, H / 4, W / 4), classes (B, H, W)."""

    def __init__(
        self, backbone: Backbone, neck: nn.Module, blocks: Sequence[int], dim: int, channels: int, classes: int
    ) -> None:
        """Put a head on a pyramid.

        Args:
            backbone: as of ``Pyramid``, as are ``neck`` and ``blocks``.
            neck: gives four levels.
            blocks: that the neck reads.
            dim: channels of the levels.
            channels: within the head.
            classes: how many there are.
        """
        super().__init__(backbone, neck, blocks)
        self.decode_head = UperHead(dim, channels, classes)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The logits as the head gives them, and the largest of each pixel once they are as large as the picture."""
        logits = self.decode_head(super().forward(images))
        return logits, _resized(logits, images).argmax(dim=1)


class UperHead(nn.Module):
    """Four levels (B, D, rows, columns), the finest first -> logits at the finest one's resolution."""

    def __init__(self, dim: int, channels: int, classes: int) -> None:
        super().__init__()
        pooled = (nn.Sequential(AveragePool(scale), NormedConv(dim, channels, 1)) for scale in SCALES)
        self.psp_modules = nn.ModuleList(pooled)
        self.bottleneck = NormedConv(dim + len(SCALES) * channels, channels, 3)
        self.lateral_convs = nn.ModuleList(NormedConv(dim, channels, 1) for _ in range(3))
        self.fpn_convs = nn.ModuleList(NormedConv(channels, channels, 3) for _ in range(3))
        self.fpn_bottleneck = NormedConv(4 * channels, channels, 3)
        self.conv_seg = nn.Conv2d(channels, classes, 1)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Sums from coarse to fine, then all levels together."""
        *finer, coarsest = levels
        pooled = [_resized(module(coarsest), coarsest) for module in self.psp_modules]
        sums = [self.bottleneck(torch.cat([coarsest, *pooled], dim=1))]
        for lateral, level in zip(reversed(self.lateral_convs), reversed(finer), strict=True):
            own = lateral(level)
            sums.insert(0, own + _resized(sums[0], own))
        finest, *others = [conv(level) for conv, level in zip(self.fpn_convs, sums, strict=False)] + sums[3:]
        together = torch.cat([finest, *(_resized(other, finest) for other in others)], dim=1)
        logits: Tensor = self.conv_seg(self.fpn_bottleneck(together))
        return logits


class NormedConv(StoringModule):
    """A convolution, a norm that is folded into it, and ReLU; sizes stay."""

    def __init__(self, inner: int, channels: int, side: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inner, channels, side, padding=side // 2, bias=False)
        self.bn = BatchNorm(channels)

    def stored_tensors(self) -> dict[str, Tensor]:
        """The convolution with the norm folded in."""
        weight, bias = self.bn.folded(self.conv.weight, None)
        return {"folded.weight": weight, "folded.bias": bias}

    def forward(self, x: Tensor) -> Tensor:
        """(B, inner, rows, columns) -> (B, channels, rows, columns)."""
        return F.relu(F.conv2d(x, *self.bn.folded(self.conv.weight, None), padding=self.conv.padding))


class AveragePool(nn.Module):
    """Means of ``scale`` x ``scale`` parts of a map of any size, as two products: one down, one across."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, rows, columns) -> (B, D, scale, scale)."""
        down = self._parts(x.shape[2], x) @ x  # (B, D, scale, columns)
        return (self._parts(x.shape[3], x) @ down.transpose(2, 3)).transpose(2, 3)

    def _parts(self, side: int, like: Tensor) -> Tensor:
        """(scale, side): what each value adds to each mean; parts overlap if ``scale`` does not divide ``side``."""
        part, place = torch.arange(self.scale, device=like.device), torch.arange(side, device=like.device)
        first, after = part * side // self.scale, -(-(part + 1) * side // self.scale)
        inside = (place >= first[:, None]) & (place < after[:, None])
        return inside.to(like.dtype) / (after - first)[:, None].to(like.dtype)


def _resized(x: Tensor, like: Tensor) -> Tensor:
    """A map with as many rows and columns as another."""
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)
