"""Mamba blocks written in the manner of other people's code: channels first, with flips and writes in place.

What the published blocks call of ``mamba_ssm`` and ``causal_conv1d`` are the stand-ins.
"""

import torch
import torch.nn.functional as F
from torch import nn

from vimdeploy.compat.conv import causal_conv1d_fn
from vimdeploy.compat.scan import selective_scan_fn

E, N, R, W = 8, 4, 2, 4
"""Channels, states, rank and width, as in ``vimdeploy.ops.contract``."""


def parameter(*shape):
    return nn.Parameter(torch.rand(shape) * 0.5 + 0.1)


class Scan(nn.Module):
    """``selective_scan_fn`` with weights of its own, for any number of groups."""

    def __init__(self, groups=1, states=N):
        super().__init__()
        self.A, self.D, self.bias = parameter(groups * E, states), parameter(groups * E), parameter(groups * E)

    def forward(self, u, delta, B, C, z=None):
        return selective_scan_fn(u, delta, -self.A, B, C, self.D, z, self.bias, delta_softplus=True)


def cross_scan(x):
    """VMamba's, in place: (B, C, H, W) -> (B, 4, C, L)."""
    B, C, H, W = x.shape
    xs = x.new_empty((B, 4, C, H * W))
    xs[:, 0] = x.flatten(2, 3)
    xs[:, 1] = x.transpose(2, 3).flatten(2, 3)
    xs[:, 2:4] = torch.flip(xs[:, 0:2], dims=[-1])
    return xs


def stacked_cross_scan(x):
    """MambaIR's and VM-UNet's, from stack and cat."""
    B, C = x.shape[:2]
    both = torch.stack([x.view(B, C, -1), x.transpose(2, 3).contiguous().view(B, C, -1)], dim=1)
    return torch.cat([both, torch.flip(both, dims=[-1])], dim=1)


def cross_merge(ys, H, W):
    """VMamba's: (B, 4, C, L) -> (B, C, L)."""
    B, _, D, L = ys.shape
    y = ys[:, 0:2] + ys[:, 2:4].flip(dims=[-1]).view(B, 2, D, L)
    return y[:, 0] + y[:, 1].view(B, -1, W, H).transpose(2, 3).contiguous().view(B, D, L)


def summed_merge(ys, H, W):
    """MambaIR's and VM-UNet's."""
    B, L = ys.shape[0], ys.shape[-1]
    inverse = torch.flip(ys[:, 2:4], dims=[-1]).view(B, 2, -1, L)
    columns = ys[:, 1].view(B, -1, W, H).transpose(2, 3).contiguous().view(B, -1, L)
    inverse_columns = inverse[:, 1].view(B, -1, W, H).transpose(2, 3).contiguous().view(B, -1, L)
    return ys[:, 0] + inverse[:, 0] + columns + inverse_columns


class ConvSS2D(nn.Module):
    """VMamba v2: grouped convolutions of single tokens, one state."""

    def __init__(self, states=1):
        super().__init__()
        self.states = states
        self.x_proj = nn.Conv1d(4 * E, 4 * (R + 2 * states), 1, groups=4, bias=False)
        self.dt_projs = nn.Conv1d(4 * R, 4 * E, 1, groups=4, bias=False)
        self.scan = Scan(groups=4, states=states)
        self.norm = nn.LayerNorm(E)

    def forward(self, x):
        B, D, H, W = x.shape
        N = self.states
        xs = cross_scan(x)
        x_dbl = self.x_proj(xs.view(B, -1, H * W))
        dts, Bs, Cs = torch.split(x_dbl.view(B, 4, -1, H * W), [R, N, N], dim=2)
        dts = self.dt_projs(dts.contiguous().view(B, -1, H * W))
        ys = self.scan(xs.view(B, -1, H * W), dts, Bs.contiguous().view(B, 4, N, -1), Cs.contiguous())
        y = cross_merge(ys.view(B, 4, D, H * W), H, W)
        return self.norm(y.view(B, -1, H, W).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class EinsumSS2D(nn.Module):
    """VMamba v0, MambaIR, VM-UNet, Swin-UMamba: products by einsum."""

    def __init__(self):
        super().__init__()
        self.x_proj_weight, self.dt_projs_weight = parameter(4, R + 2 * N, E), parameter(4, E, R)
        self.scan = Scan(groups=4)
        self.norm = nn.LayerNorm(E)

    def forward(self, x):
        x = x.permute(0, 3, 1, 2).contiguous()
        B, D, H, W = x.shape
        xs = stacked_cross_scan(x)
        x_dbl = torch.einsum("b k d l, k c d -> b k c l", xs, self.x_proj_weight)
        dts, Bs, Cs = torch.split(x_dbl, [R, N, N], dim=2)
        dts = torch.einsum("b k r l, k d r -> b k d l", dts, self.dt_projs_weight)
        ys = self.scan(xs.view(B, -1, H * W), dts.contiguous().view(B, -1, H * W), Bs.contiguous(), Cs.contiguous())
        y = summed_merge(ys.view(B, 4, D, H * W), H, W)
        return self.norm(y.transpose(1, 2).contiguous()).view(B, H, W, -1)


class Path(nn.Module):
    """Convolution, projections, scan and gate of a direction, as the forks of mamba_ssm compute them."""

    def __init__(self, width=W):
        super().__init__()
        self.conv1d = nn.Conv1d(E, E, width, groups=E, padding=width - 1)
        self.x_proj = nn.Linear(E, R + 2 * N, bias=False)
        self.dt_proj = nn.Linear(R, E, bias=False)
        self.scan = Scan()

    def forward(self, xz, z=None):
        B, _, L = xz.shape
        x, own_z = xz.chunk(2, dim=1)
        u = causal_conv1d_fn(x, self.conv1d.weight[:, 0], self.conv1d.bias, activation="silu")
        x_dbl = self.x_proj(u.transpose(1, 2).reshape(B * L, E))
        delta = (self.dt_proj.weight @ x_dbl[:, :R].t()).view(E, B, L).permute(1, 0, 2)
        b, c = (t.reshape(B, L, N).transpose(1, 2)[:, None] for t in (x_dbl[:, R : R + N], x_dbl[:, -N:]))
        return self.scan(u, delta, b.contiguous(), c.contiguous(), own_z if z is None else z)

    def of_tokens(self, xz):
        """The same as mambapy writes it, xz being (B, L, 2E)."""
        x, z = xz.chunk(2, dim=-1)
        x = F.silu(self.conv1d(x.transpose(1, 2))[:, :, : xz.shape[1]].transpose(1, 2))
        delta, b, c = torch.split(self.x_proj(x), [R, N, N], dim=-1)
        delta = self.dt_proj.weight @ delta.transpose(1, 2)
        return self.scan(*(t.transpose(1, 2) if t is not delta else t for t in (x, delta, b, c, z))).transpose(1, 2)


class Block(nn.Module):
    """in_proj, one or more paths, out_proj; in_proj as mamba_ssm writes it."""

    def __init__(self, paths):
        super().__init__()
        self.in_proj, self.out_proj = nn.Linear(6, 2 * E, bias=False), nn.Linear(E, 6, bias=False)
        self.paths = nn.ModuleList(paths)

    def xz(self, h):
        B, L, M = h.shape
        return (self.in_proj.weight @ h.permute(2, 0, 1).reshape(M, B * L)).view(-1, B, L).permute(1, 0, 2)


class MambaBlock(Block):
    """mamba_ssm's Mamba."""

    def __init__(self):
        super().__init__([Path()])

    def forward(self, h):
        return self.out_proj(self.paths[0](self.xz(h)).transpose(1, 2))


class VimBlock(Block):
    """Vim v2 as its forks compute it; VideoMamba's without the division."""

    def __init__(self, divide=True, widths=(W, W)):
        super().__init__([Path(width) for width in widths])
        self.divide = divide

    def forward(self, h):
        xz = self.xz(h)
        out = (self.paths[0](xz) + self.paths[1](xz.flip([-1])).flip([-1])).transpose(1, 2)
        return self.out_proj(out / 2 if self.divide else out)


class MambapyBlock(Block):
    """mambapy's Vim: tokens first, and a convolution of the standard."""

    def __init__(self, divide=True):
        super().__init__([Path(), Path()])
        self.divide = divide

    def forward(self, h):
        xz = self.in_proj(h)
        out = self.paths[0].of_tokens(xz) + self.paths[1].of_tokens(xz.flip([1])).flip([1])
        return self.out_proj(out / 2 if self.divide else out)
