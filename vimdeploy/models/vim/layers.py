"""The layers of a Vim, small to large. Parameter names are those of the released checkpoints."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vimdeploy.models.vim.config import VimConfig
from vimdeploy.ops.torch_ops import bidirectional_conv1d, bidirectional_selective_scan

_ROTARY_SIDE, _ROTARY_BASE = 14, 10000.0
REVERSE = (0, 1)
"""The two directions of a Vim block: first to last, and last to first."""


class PatchEmbed(nn.Module):
    """Picture to patches: a convolution whose stride may be smaller than its kernel."""

    def __init__(self, config: VimConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(config.in_channels, config.dim, config.patch_size, config.stride)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, M, D)."""
        return self.proj(images).flatten(2).transpose(1, 2)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight, in the order that ONNX Runtime recognises and fuses."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


class MixerOperands(NamedTuple):
    """The parameters of a mixer as our operators and the one matrix product between them read them.

    K = 2 directions, E channels, W taps, R rank of the step size, N states. An exported file stores them like this.
    """

    conv_weight: Tensor
    """(K, E, W)."""
    conv_bias: Tensor
    """(K, E)."""
    x_weight: Tensor
    """(K, 1, E, R + 2N): one matrix per direction, to be multiplied from the right."""
    dt_weight: Tensor
    """(K, E, R)."""
    dt_bias: Tensor
    """(K, E)."""
    A: Tensor
    """(K, E, N), negative."""
    D: Tensor
    """(K, E)."""


class BidirectionalMamba(nn.Module):
    """The mixer of a Vim block: one projection in, a convolution and a selective scan each way, one projection out.

    The plain names belong to the forward direction, those with ``_b`` to the backward one.
    """

    def __init__(self, config: VimConfig) -> None:
        super().__init__()
        dim, channels, states, rank = config.dim, config.channels, config.state_size, config.dt_rank
        a_log = torch.log(torch.arange(1.0, states + 1)).repeat(channels, 1)  # (E, N)
        self.direction_scale = config.direction_scale
        self.in_proj = nn.Linear(dim, 2 * channels, bias=False)
        self.conv1d = nn.Conv1d(channels, channels, config.conv_width, groups=channels)
        self.conv1d_b = nn.Conv1d(channels, channels, config.conv_width, groups=channels)
        self.x_proj = nn.Linear(channels, rank + 2 * states, bias=False)
        self.x_proj_b = nn.Linear(channels, rank + 2 * states, bias=False)
        self.dt_proj = nn.Linear(rank, channels)
        self.dt_proj_b = nn.Linear(rank, channels)
        self.A_log = nn.Parameter(a_log.clone())
        self.A_b_log = nn.Parameter(a_log.clone())
        self.D = nn.Parameter(torch.ones(channels))
        self.D_b = nn.Parameter(torch.ones(channels))
        self.out_proj = nn.Linear(channels, dim, bias=False)
        # Values that no module computes pass through one of these, so that hooks see every stage.
        self.after_conv1d, self.after_x_proj, self.after_scan = nn.Identity(), nn.Identity(), nn.Identity()

    def reset_parameters(self, depth: int) -> None:
        """Initialise as Mamba does: step sizes log-uniform in [0.001, 0.1], out_proj scaled down with the depth."""
        nn.init.kaiming_uniform_(self.out_proj.weight, a=math.sqrt(5))
        with torch.no_grad():
            self.out_proj.weight /= math.sqrt(depth)
            for dt_proj in (self.dt_proj, self.dt_proj_b):
                nn.init.uniform_(dt_proj.weight, -(dt_proj.in_features**-0.5), dt_proj.in_features**-0.5)
                dt = torch.empty_like(dt_proj.bias).uniform_(math.log(0.001), math.log(0.1)).exp()
                dt_proj.bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # the inverse of softplus

    def operands(self) -> MixerOperands:
        """The parameters of both directions, put together."""
        return MixerOperands(
            conv_weight=torch.cat([self.conv1d.weight, self.conv1d_b.weight], dim=1).transpose(0, 1),
            conv_bias=torch.stack([conv.get_parameter("bias") for conv in (self.conv1d, self.conv1d_b)]),
            x_weight=torch.stack([self.x_proj.weight.T, self.x_proj_b.weight.T])[:, None],
            dt_weight=torch.stack([self.dt_proj.weight, self.dt_proj_b.weight]),
            dt_bias=torch.stack([self.dt_proj.bias, self.dt_proj_b.bias]),
            A=-torch.exp(torch.stack([self.A_log, self.A_b_log])),
            D=torch.stack([self.D, self.D_b]),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        conv_weight, conv_bias, x_weight, dt_weight, dt_bias, A, D = self.operands()
        xz = self.in_proj(x)  # (B, L, 2E)
        u = self.after_conv1d(bidirectional_conv1d(xz, conv_weight, conv_bias, REVERSE))  # (K, B, L, E)
        dt_bc = self.after_x_proj(u @ x_weight)  # (K, B, L, R + 2N)
        y = bidirectional_selective_scan(
            u, xz, dt_bc, dt_weight, dt_bias, A, D, REVERSE, self.direction_scale
        )  # (B, L, E)
        return self.out_proj(self.after_scan(y))


class Block(nn.Module):
    """Norm, mix, add. The sum, called the residual, is never normalised itself."""

    def __init__(self, config: VimConfig) -> None:
        super().__init__()
        self.mixer = BidirectionalMamba(config)
        self.norm = RMSNorm(config.dim, config.norm_eps)

    def forward(self, residual: Tensor) -> tuple[Tensor, Tensor]:
        """(B, L, D) -> the residual after the block, and what its mixer gave to it, (B, L, D) both."""
        mixed = self.mixer(self.norm(residual))
        return residual + mixed, mixed


class Rotation(nn.Module):
    """The angles by which the rotary embedding of hustvl/Vim's seg and det folders turns the channels of each token.

    Neighbouring channels are turned together, those of the first half by the token's row, those of the second half by
    its column; rows and columns are counted from 0 to 14 on every grid.
    """

    def __init__(self, dim: int, any_size: bool) -> None:
        super().__init__()
        self._dim, self._any_size = dim, any_size

    def forward(self, rows: int, columns: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """The cosines and the signed sines of a grid, (M, D) each.

        In float64, because 24 turns add up what is rounded; a graph that computes them at run time does with float32.
        """
        half = self._dim // 2
        frequencies = _ROTARY_BASE ** (-torch.arange(0, half, 2, dtype=torch.float64, device=device) / half)  # (D / 4,)
        if self._any_size:
            frequencies = frequencies.float()
        down, across = (
            torch.arange(n, device=device)[:, None] * _ROTARY_SIDE / n * frequencies for n in (rows, columns)
        )
        both = [down[:, None].expand(rows, columns, -1), across[None].expand(rows, columns, -1)]
        angles = torch.cat(both, dim=-1).flatten(0, 1)  # (M, D / 2)
        cos, sin = angles.cos().float(), angles.sin().float()
        return cos.repeat_interleave(2, dim=-1), torch.stack([-sin, sin], dim=-1).flatten(-2)


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """(B, M, D) -> (B, M, D): neighbouring channels turned together."""
    neighbour = torch.arange(x.shape[-1], device=x.device) ^ 1
    return x * cos + x.index_select(-1, neighbour) * sin
