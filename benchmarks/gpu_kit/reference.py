"""The operators in float64, from the contract's formulas: all at once but for the tokens, which take turns."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gpu_kit.problems import ConvOperands, GroupScanOperands, ScanOperands

FLOAT32_BOUND = 1e-5
"""The bound on the relative error: float32 rounds to 6e-8, and a state, whose older terms decay, collects some tens of
that."""

HALF_UNITS = {torch.float32: 0.0, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
"""The largest relative error of rounding once to T; float32's is within FLOAT32_BOUND."""


def error_bound(dtype: torch.dtype) -> float:
    """The largest relative error of an operator: its float32 arithmetic, and the result rounded once to T."""
    return FLOAT32_BOUND + HALF_UNITS[dtype]


def relative_error(found: Tensor, wanted: Tensor) -> float:
    """||found - wanted|| / ||wanted||; NaN if ``found`` has one, and NaN is within no bound."""
    return float((found.double() - wanted).norm() / wanted.norm())


def conv1d(operands: ConvOperands, reverse: tuple[int, ...], silu: bool = True) -> Tensor:
    """BidirectionalConv1d or CausalConv1d -> u (K, B, L, E) float64."""
    x, weight, bias = (tensor.double() for tensor in operands.tensors())
    _, channels, width = weight.shape
    length = x.shape[1]
    x = x[..., :channels]
    directions = []
    for k, is_reversed in enumerate(reverse):
        padded = F.pad(x, (0, 0, 0, width - 1) if is_reversed else (0, 0, width - 1, 0))  # (B, L + W - 1, E)
        starts = [width - 1 - w if is_reversed else w for w in range(width)]
        directions.append(bias[k] + sum(weight[k, :, w] * padded[:, s : s + length] for w, s in enumerate(starts)))
    u = torch.stack(directions)
    return F.silu(u) if silu else u


def selective_scan(operands: ScanOperands, reverse: tuple[int, ...], scale: float) -> Tensor:
    """BidirectionalSelectiveScan -> y (B, L, E) float64."""
    u, xz, dt_bc, dt_weight, dt_bias, A, D = (tensor.double() for tensor in operands.tensors())
    rank, states = dt_weight.shape[-1], A.shape[-1]
    low_rank, B, C = dt_bc.split([rank, states, states], dim=-1)
    dt = F.softplus(torch.einsum("kblr,ker->kble", low_rank, dt_weight) + dt_bias[:, None, None], threshold=20)
    y = _scan(u, dt, A, B, C, D, reverse).sum(0)
    return scale * F.silu(xz[..., u.shape[-1] :]) * y


def group_scan(operands: GroupScanOperands, reverse: tuple[int, ...], delta_softplus: bool) -> Tensor:
    """SelectiveScan or LowRankSelectiveScan -> y (B, G, L, E) float64."""
    u, delta, A, B, C, D, delta_bias, *delta_weight = (tensor.double() for tensor in operands.tensors())
    dt = torch.einsum("bglr,ger->bgle", delta, delta_weight[0]) if delta_weight else delta
    dt = dt + delta_bias[:, None]
    dt = F.softplus(dt, threshold=20) if delta_softplus else dt
    u, dt, B, C = (tensor.transpose(0, 1) for tensor in (u, dt, B, C))
    return _scan(u, dt, A, B, C, D, reverse).transpose(0, 1)


def _scan(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, reverse: tuple[int, ...]) -> Tensor:
    """y (K, B, L, E) of every direction; tensors of tokens are (K, B, L, ·)."""
    _, batch, length, channels = u.shape
    y = D[:, None, None] * u
    for k, is_reversed in enumerate(reverse):
        h = u.new_zeros(batch, channels, A.shape[-1])
        for token in reversed(range(length)) if is_reversed else range(length):
            step = dt[k, :, token]  # (B, E)
            h = torch.exp(step[..., None] * A[k]) * h + (step * u[k, :, token])[..., None] * B[k, :, token, None]
            y[k, :, token] += (h @ C[k, :, token, :, None])[..., 0]
    return y
