"""The operators in PyTorch: what the models call.

Eagerly a plain loop over the tokens, the reference that every other implementation is held against (differentiable, so
that small models can be trained with it). While ``torch.onnx.export`` traces, one opaque node of domain ``vimdeploy``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vimdeploy.ops.contract import CONV1D, DOMAIN, SELECTIVE_SCAN, VERSION, Operator


def bidirectional_conv1d(xz: Tensor, weight: Tensor, bias: Tensor, reverse: Sequence[int]) -> Tensor:
    """Causal depthwise convolution and SiLU, for K directions: ``contract.CONV1D``.

    Args:
        xz: (B, L, 2E); x is the first half.
        weight: (K, E, W), the last tap on the current token.
        bias: (K, E).
        reverse: K flags; 1 reads the tokens last to first.

    Returns:
        u (K, B, L, E) in xz's type; position l is token l in every direction.
    """
    _, _, width = weight.shape
    channels = xz.shape[-1] // 2
    if torch.onnx.is_in_onnx_export():
        shape = (len(reverse), xz.shape[0], xz.shape[1], channels)
        return _node(CONV1D, (xz, weight, bias), {"reverse": list(reverse)}, shape)
    x = xz[..., :channels].float().transpose(1, 2)  # (B, E, L)
    directions = []
    for k, is_reversed in enumerate(reverse):
        taps = weight[k].float()[:, None, :]  # (E, 1, W)
        padded = F.pad(x, (0, width - 1) if is_reversed else (width - 1, 0))
        taps = taps.flip(-1) if is_reversed else taps
        directions.append(F.conv1d(padded, taps, bias[k].float(), groups=channels))
    return F.silu(torch.stack(directions)).transpose(2, 3).to(xz.dtype)  # (K, B, L, E)


def bidirectional_selective_scan(
    u: Tensor,
    xz: Tensor,
    dt_bc: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    reverse: Sequence[int],
    scale: float,
) -> Tensor:
    """The selective scan of K directions, gated and summed: ``contract.SELECTIVE_SCAN``.

    Args:
        u: (K, B, L, E).
        xz: (B, L, 2E); z, the gate, is the second half.
        dt_bc: (K, B, L, R + 2N): low-rank step size, B and C.
        dt_weight: (K, E, R).
        dt_bias: (K, E) float32.
        A: (K, E, N) float32, negative.
        D: (K, E) float32.
        reverse: K flags; 1 scans the tokens last to first.
        scale: factor on the sum of the directions.

    Returns:
        y (B, L, E) in u's type.
    """
    if torch.onnx.is_in_onnx_export():
        inputs = (u, xz, dt_bc, dt_weight, dt_bias, A, D)
        return _node(SELECTIVE_SCAN, inputs, {"reverse": list(reverse), "scale": scale}, u.shape[1:])
    channels, rank, states = u.shape[-1], dt_weight.shape[-1], A.shape[-1]

    def in_scan_order(tensor: Tensor) -> Tensor:
        return torch.stack([t.flip(1) if r else t for t, r in zip(tensor, reverse, strict=True)])

    u_scan = in_scan_order(u).float()
    low_rank, b, c = in_scan_order(dt_bc).float().split([rank, states, states], dim=-1)
    dt = low_rank @ dt_weight.float().transpose(1, 2)[:, None] + dt_bias[:, None, None]  # (K, B, L, E)
    dt = F.softplus(dt, threshold=20.0)
    y = in_scan_order(scan_of_tokens(dt, dt * u_scan, A, b, c)) + D[:, None, None] * u.float()
    z = xz[..., channels:].float()
    return (scale * F.silu(z) * y.sum(0)).to(u.dtype)


def scan_of_tokens(dt: Tensor, dt_u: Tensor, A: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The recurrence of the scan alone, token by token: h = exp(dt A) h + dt_u b, y = c h.

    Args:
        dt: (K, B, L, E), the step sizes.
        dt_u: (K, B, L, E), the step sizes times the input.
        A: (K, E, N).
        b: (K, B, L, N).
        c: (K, B, L, N).

    Returns:
        y (K, B, L, E).
    """
    h = torch.zeros_like(dt[:, :, 0, :, None]).expand(-1, -1, -1, A.shape[-1])  # (K, B, E, N)
    steps = []
    for t in range(dt.shape[2]):
        decay = torch.exp(dt[:, :, t, :, None] * A[:, None])
        h = decay * h + dt_u[:, :, t, :, None] * b[:, :, t, None, :]
        steps.append((h @ c[:, :, t, :, None])[..., 0])  # (K, B, E)
    return torch.stack(steps, dim=2)


def _node(op: Operator, inputs: Sequence[Tensor], attributes: dict[str, Any], shape: Sequence[int]) -> Tensor:
    """One opaque node of the operator, in the graph that is being traced."""
    attributes |= {a.name: a.default for a in op.attributes if a.default is not None}
    node: Tensor = torch.onnx.ops.symbolic(
        f"{DOMAIN}::{op.name}", inputs, attributes, dtype=inputs[0].dtype, shape=shape, version=VERSION
    )
    return node
