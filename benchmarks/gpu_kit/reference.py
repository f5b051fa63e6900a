"""The operators in float64, from the contract's formulas: all at once but for the tokens, which take turns."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gpu_kit.problems import ConvOperands, ScanOperands

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


def conv1d(operands: ConvOperands, reverse: tuple[int, ...]) -> Tensor:
    """BidirectionalConv1d -> u (K, B, L, E) float64."""
    xz, weight, bias = (tensor.double() for tensor in operands.tensors())
    _, channels, width = weight.shape
    length = xz.shape[1]
    x = xz[..., :channels]
    directions = []
    for k, is_reversed in enumerate(reverse):
        padded = F.pad(x, (0, 0, 0, width - 1) if is_reversed else (0, 0, width - 1, 0))  # (B, L + W - 1, E)
        starts = [width - 1 - w if is_reversed else w for w in range(width)]
        directions.append(bias[k] + sum(weight[k, :, w] * padded[:, s : s + length] for w, s in enumerate(starts)))
    return F.silu(torch.stack(directions))


def selective_scan(operands: ScanOperands, reverse: tuple[int, ...], scale: float) -> Tensor:
    """BidirectionalSelectiveScan -> y (B, L, E) float64."""
    u, xz, dt_bc, dt_weight, dt_bias, A, D = (tensor.double() for tensor in operands.tensors())
    _, batch, length, channels = u.shape
    rank, states = dt_weight.shape[-1], A.shape[-1]
    low_rank, B, C = dt_bc.split([rank, states, states], dim=-1)
    dt = F.softplus(torch.einsum("kblr,ker->kble", low_rank, dt_weight) + dt_bias[:, None, None], threshold=20)
    y = torch.einsum("ke,kble->ble", D, u)
    for k, is_reversed in enumerate(reverse):
        h = u.new_zeros(batch, channels, states)
        for token in reversed(range(length)) if is_reversed else range(length):
            step = dt[k, :, token]  # (B, E)
            h = torch.exp(step[..., None] * A[k]) * h + (step * u[k, :, token])[..., None] * B[k, :, token, None]
            y[:, token] += (h @ C[k, :, token, :, None])[..., 0]
    return scale * F.silu(xz[..., channels:]) * y
