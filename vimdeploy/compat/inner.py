"""The fused functions of ``mamba_ssm``: convolution, projections, scan and gate in one call.

They compute token-major, xz as (B, L, 2E), so that nothing but their arguments is transposed and that a step size of
low rank remains one.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from vimdeploy.compat.norms import normed
from vimdeploy.compat.scan import check_real, gated, selective_scan_fn
from vimdeploy.errors import ConfigError
from vimdeploy.ops import torch_ops


def mamba_inner_fn(
    xz: Tensor,
    conv1d_weight: Tensor,
    conv1d_bias: Tensor | None,
    x_proj_weight: Tensor,
    delta_proj_weight: Tensor,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    A: Tensor,
    B: Tensor | None = None,
    C: Tensor | None = None,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    B_proj_bias: Tensor | None = None,
    C_proj_bias: Tensor | None = None,
    delta_softplus: bool = True,
    checkpoint_lvl: int = 1,
    b_rms_weight: Tensor | None = None,
    c_rms_weight: Tensor | None = None,
    dt_rms_weight: Tensor | None = None,
    b_c_dt_rms_eps: float = 1e-6,
) -> Tensor:
    """``mamba_inner_fn``: as ``inner``, with xz (B, 2E, L) and a projection (M, E) behind.

    Returns:
        (B, L, M).
    """
    y = inner(
        xz.transpose(1, 2),
        conv1d_weight,
        conv1d_bias,
        x_proj_weight,
        delta_proj_weight,
        (A,),
        B,
        C,
        D,
        delta_bias,
        B_proj_bias,
        C_proj_bias,
        delta_softplus,
        norm_weights=(b_rms_weight, c_rms_weight, dt_rms_weight),
        eps=b_c_dt_rms_eps,
    )
    return F.linear(y, out_proj_weight, out_proj_bias)


def mamba_inner_fn_no_out_proj(
    xz: Tensor,
    conv1d_weight: Tensor,
    conv1d_bias: Tensor | None,
    x_proj_weight: Tensor,
    delta_proj_weight: Tensor,
    A: Tensor,
    B: Tensor | None = None,
    C: Tensor | None = None,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    B_proj_bias: Tensor | None = None,
    C_proj_bias: Tensor | None = None,
    delta_softplus: bool = True,
    checkpoint_lvl: int = 1,
) -> Tensor:
    """``mamba_inner_fn_no_out_proj``: as ``inner``, with xz (B, 2E, L).

    Returns:
        (B, E, L).
    """
    y = inner(
        xz.transpose(1, 2),
        conv1d_weight,
        conv1d_bias,
        x_proj_weight,
        delta_proj_weight,
        (A,),
        B,
        C,
        D,
        delta_bias,
        B_proj_bias,
        C_proj_bias,
        delta_softplus,
    )
    return y.transpose(1, 2).contiguous()  # callers take views of it


def bimamba_inner_fn(
    xz: Tensor,
    conv1d_weight: Tensor,
    conv1d_bias: Tensor | None,
    x_proj_weight: Tensor,
    delta_proj_weight: Tensor,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    A: Tensor,
    A_b: Tensor,
    B: Tensor | None = None,
    C: Tensor | None = None,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    B_proj_bias: Tensor | None = None,
    C_proj_bias: Tensor | None = None,
    delta_softplus: bool = True,
    checkpoint_lvl: int = 1,
) -> Tensor:
    """``bimamba_inner_fn``: ``mamba_inner_fn`` with a second scan, last token to first, that has an A of its own.

    Returns:
        (B, L, M).
    """
    y = inner(
        xz.transpose(1, 2),
        conv1d_weight,
        conv1d_bias,
        x_proj_weight,
        delta_proj_weight,
        (A, A_b),
        B,
        C,
        D,
        delta_bias,
        B_proj_bias,
        C_proj_bias,
        delta_softplus,
    )
    return F.linear(y, out_proj_weight, out_proj_bias)


def inner(
    xz: Tensor,
    conv1d_weight: Tensor,
    conv1d_bias: Tensor | None,
    x_proj_weight: Tensor,
    delta_proj_weight: Tensor,
    directions: tuple[Tensor, ...],
    B: Tensor | None,
    C: Tensor | None,
    D: Tensor | None,
    delta_bias: Tensor | None,
    B_proj_bias: Tensor | None,
    C_proj_bias: Tensor | None,
    delta_softplus: bool,
    *,
    norm_weights: tuple[Tensor | None, Tensor | None, Tensor | None] = (None, None, None),
    eps: float = 1e-6,
) -> Tensor:
    """Convolution, projections, scan and gate.

    Args:
        xz: (B, L, 2E); x is the first half, z, the gate, the second.
        conv1d_weight: (E, 1, W).
        conv1d_bias: (E,).
        x_proj_weight: (R + 2N, E); N fewer for a B or a C that is given.
        delta_proj_weight: (E, R).
        directions: A (E, N) of the scan; a second one scans last token to first, and is added.
        B: as ``selective_scan_fn`` takes it; None if x_proj gives it.
        C: as B.
        D: (E,).
        delta_bias: (E,).
        B_proj_bias: (N,), added to the B that x_proj gives.
        C_proj_bias: (N,), added to the C that x_proj gives.
        delta_softplus: whether the step sizes pass a softplus.
        norm_weights: for RMSNorms of B (N,), C (N,) and the step sizes (E,).
        eps: of those norms.

    Returns:
        (B, L, E) in xz's type.
    """
    for A in directions:
        check_real(A)
    channels, rank = delta_proj_weight.shape
    states = directions[0].shape[-1]
    b_norm, c_norm, delta_norm = norm_weights
    z = xz[..., channels:]
    taps = conv1d_weight[:, 0].to(xz.dtype)
    conv1d_bias = taps.new_zeros(channels) if conv1d_bias is None else conv1d_bias.to(xz.dtype)
    u = torch_ops.causal_conv1d(xz, taps[None], conv1d_bias[None]).squeeze(0)  # (B, L, E)
    projected = F.linear(u, x_proj_weight).to(u.dtype)  # (B, L, R + 2N); autocast gives another type
    low_rank = projected[..., :rank]

    def biased_and_normed(tensor: Tensor, bias: Tensor | None, norm_weight: Tensor | None) -> Tensor:
        tensor = tensor if bias is None else tensor + bias.to(tensor.dtype)
        if norm_weight is None:
            return tensor
        return normed(tensor, norm_weight, None, eps, is_rms_norm=True).to(tensor.dtype)

    b = biased_and_normed(projected[..., rank : rank + states], B_proj_bias, b_norm)
    c = biased_and_normed(projected[..., -states:], C_proj_bias, c_norm)
    if B is not None or C is not None or delta_norm is not None:
        if len(directions) > 1:
            raise ConfigError("bimamba_inner_fn with a B or a C that is given is not supported.")
        delta = biased_and_normed(F.linear(low_rank, delta_proj_weight), None, delta_norm)
        u, delta, b, c, z = (t.transpose(1, 2) for t in (u, delta, b, c, z))
        B, C = (b if B is None else B), (c if C is None else C)
        y = selective_scan_fn(u, delta, directions[0], B, C, D, z, delta_bias, delta_softplus)
        assert isinstance(y, Tensor)
        return y.transpose(1, 2)

    each = partial(_each_direction, count=len(directions))
    D, delta_bias = (directions[0].new_zeros(channels) if t is None else t for t in (D, delta_bias))
    y = torch_ops.selective_scan(
        each(u, dim=1),
        each(low_rank, dim=1),
        torch.stack(directions).float(),
        each(b, dim=1),
        each(c, dim=1),
        each(D.float(), dim=0),
        each(delta_bias.float(), dim=0),
        delta_weight=each(delta_proj_weight.to(u.dtype), dim=0),
        reverse=(0, 1)[: len(directions)],
        delta_softplus=delta_softplus,
    )  # (B, directions, L, E)
    return gated(y.squeeze(1) if len(directions) == 1 else y.sum(1), z)


def _each_direction(tensor: Tensor, count: int, dim: int) -> Tensor:
    """The tensor for each direction, along a new dimension."""
    return tensor.unsqueeze(dim) if count == 1 else torch.stack([tensor] * count, dim)
