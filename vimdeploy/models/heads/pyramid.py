"""Pictures to pyramids of feature maps, by the necks of hustvl/Vim's seg and det folders."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vimdeploy.models.backbone import Backbone, StoringModule

_EPS = 1e-6
"""The epsilon of the norms of channels in a ``SimplePyramid``."""
_BATCH_EPS = 1e-5
"""The epsilon of a ``BatchNorm``, as torch has it."""


class Pyramid(nn.Module):
    """A neck on a backbone: (B, C, H, W) float32 -> maps (B, D, rows, columns), the finest first."""

    def __init__(self, backbone: Backbone, neck: nn.Module, blocks: Sequence[int] = ()) -> None:
        """Put a neck on a backbone.

        Args:
            backbone: gives the maps.
            neck: takes the maps of ``blocks``, or the last map if there are none.
            blocks: numbers of the blocks, from 0 on.
        """
        super().__init__()
        self.backbone, self.neck = backbone, neck
        self.blocks = tuple(blocks)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The levels of the pyramid."""
        features = self.backbone.features(images, self.blocks)
        levels: tuple[Tensor, ...] = self.neck(*(features.blocks or [features.map]))
        return levels


class ConvTransposePyramid(nn.Module):
    """Four maps of four blocks (hustvl/Vim's seg folder): transposed convolutions make them finer, pooling coarser."""

    def __init__(self, dim: int, patch_size: int) -> None:
        """Make the modules.

        Args:
            dim: channels of the maps, which all levels keep.
            patch_size: 16 or 8; of smaller patches, maps are half as much enlarged.
        """
        super().__init__()
        if patch_size == 16:
            self.fpn1: nn.Module = _FourTimes(dim)
            self.fpn2: nn.Module = nn.Sequential(_twice(dim, dim))
            self.fpn3: nn.Module = nn.Identity()
            self.fpn4 = nn.MaxPool2d(2)
        else:
            self.fpn1 = nn.Sequential(_twice(dim, dim))
            self.fpn2 = nn.Identity()
            self.fpn3 = nn.MaxPool2d(2)
            self.fpn4 = nn.MaxPool2d(4)

    def forward(self, *maps: Tensor) -> tuple[Tensor, ...]:
        """Four maps (B, D, rows, columns) -> four levels."""
        levels = (self.fpn1, self.fpn2, self.fpn3, self.fpn4)
        return tuple(level(map_) for level, map_ in zip(levels, maps, strict=True))


class SimplePyramid(nn.Module):
    """Five maps of the last one (ViTDet's, hustvl/Vim's det folder)."""

    def __init__(self, dim: int, channels: int, level: int) -> None:
        """Make the modules.

        Args:
            dim: channels of the map.
            channels: of the levels.
            level: of the map; level n has a value every 2**n pixels.
        """
        super().__init__()

        def output(inner: int) -> list[nn.Module]:
            return [ChannelNormedConv(inner, channels, 1), ChannelNormedConv(channels, channels, 3)]

        half, quarter = dim // 2, dim // 4
        finest = [_twice(dim, half), _ChannelNorm(half, eps=_EPS), nn.GELU(), _twice(half, quarter), *output(quarter)]
        levels = (finest, [_twice(dim, half), *output(half)], output(dim), [nn.MaxPool2d(2), *output(dim)])
        self._names = [f"simfp_{number}" for number in range(level - 2, level + 2)]
        for name, modules in zip(self._names, levels, strict=True):
            self.add_module(name, nn.Sequential(*modules))
        self.last = nn.MaxPool2d(1, 2)

    def forward(self, map_: Tensor) -> tuple[Tensor, ...]:
        """(B, D, rows, columns) -> five levels."""
        levels = [self.get_submodule(name)(map_) for name in self._names]
        return (*levels, self.last(levels[-1]))


class BatchNorm(nn.Module):
    """What a trained norm knows, under the names of torch's own, without the counter of its steps."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def folded(self, weight: Tensor, bias: Tensor | None, axis: int = 0) -> tuple[Tensor, Tensor]:
        """Weight and bias of a convolution that does what one and this norm do in turn.

        In float64, because the difference of a bias and a mean may be much smaller than they are.

        Args:
            weight: of the convolution before.
            bias: of it; None if it has none.
            axis: of the weight that has this norm's channels: 1 of a transposed convolution.
        """
        scale = self.weight.double() / torch.sqrt(self.running_var.double() + _BATCH_EPS)
        before = -self.running_mean.double() if bias is None else bias.double() - self.running_mean.double()
        along = [1] * weight.dim()
        along[axis] = -1
        return (weight.double() * scale.view(along)).float(), (before * scale + self.bias.double()).float()


class _FourTimes(nn.Sequential, StoringModule):
    """A map at four times the resolution: transposed convolution, norm, GELU, transposed convolution."""

    def __init__(self, dim: int) -> None:
        super().__init__(_twice(dim, dim), BatchNorm(dim), nn.GELU(), _twice(dim, dim))

    def stored_tensors(self) -> dict[str, Tensor]:
        """The first convolution with the norm folded in."""
        weight, bias = self._folded()
        return {"folded.weight": weight, "folded.bias": bias}

    def forward(self, x: Tensor) -> Tensor:
        _, _, gelu, last = self.children()
        enlarged: Tensor = last(gelu(F.conv_transpose2d(x, *self._folded(), stride=2)))
        return enlarged

    def _folded(self) -> tuple[Tensor, Tensor]:
        first, norm, *_ = self.children()
        assert isinstance(first, nn.ConvTranspose2d)
        assert isinstance(norm, BatchNorm)
        return norm.folded(first.weight, first.bias, axis=1)


def _twice(inner: int, channels: int) -> nn.ConvTranspose2d:
    """A map at twice the resolution."""
    return nn.ConvTranspose2d(inner, channels, 2, 2)


class _ChannelNorm(nn.LayerNorm):
    """Normalises the channels of each place: (B, D, rows, columns) in and out."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ChannelNormedConv(nn.Conv2d):
    """A convolution without bias, and its norm within, as detectron2 has them; sizes stay."""

    def __init__(self, inner: int, channels: int, side: int) -> None:
        super().__init__(inner, channels, side, padding=side // 2, bias=False)
        self.norm = _ChannelNorm(channels, eps=_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inner, rows, columns) -> (B, channels, rows, columns)."""
        return self.norm(super().forward(x))
