"""The selective scan as ``mamba_ssm`` and the compiled extensions lay it out: channels before tokens.

Dimensions as in ``ops/contract.py``; ``D`` in a shape is all channels, G groups of E. What an extension's ``fwd`` is
given and gives was read from the Python code that calls it.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vimdeploy.errors import ConfigError
from vimdeploy.ops import torch_ops

_TOKENS_OF_A_CHUNK = 2048
"""The extensions keep a state for each so many tokens."""


def selective_scan_fn(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """``mamba_ssm.ops.selective_scan_interface.selective_scan_fn``.

    Args:
        u: (B, D, L).
        delta: (B, D, L).
        A: (D, N).
        B: (B, N, L), (B, G, N, L), or constant (D, N).
        C: as B.
        D: (D,).
        z: (B, D, L), the gate.
        delta_bias: (D,).
        delta_softplus: whether the step sizes pass a softplus.
        return_last_state: whether to give the state after the last token as well.

    Returns:
        y (B, D, L) in u's type, or that and the state (B, D, N) float32.
    """
    y, state = _scanned(u, delta, A, B, C, D, delta_bias, delta_softplus, with_state=return_last_state)
    y = y if z is None else gated(y, z)
    return y if state is None else (y, state)


def selective_scan_without_gate(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    nrows: int = 1,
    backnrows: int = -1,
) -> Tensor:
    """``selective_scan.selective_scan_fn``, of VMamba's older package: no z, and counts of rows that only tune."""
    return _scanned(u, delta, A, B, C, D, delta_bias, delta_softplus)[0]


def selective_scan_of_transformers(
    *arguments: Any, use_mambapy: bool = False, use_associative_scan: bool = False, **options: Any
) -> Tensor | tuple[Tensor, Tensor]:
    """``mamba_selective_scan`` of ``transformers``: ``selective_scan_fn``, with choices of how to compute it."""
    return selective_scan_fn(*arguments, **options)


def gated(y: Tensor, z: Tensor) -> Tensor:
    """y * silu(z), computed in float32, in y's type."""
    return (y.float() * F.silu(z.float())).to(y.dtype)


def check_real(A: Tensor) -> None:
    """Refuse an A of complex numbers, which mamba_ssm offers.

    Raises:
        ConfigError: if it is one.
    """
    if A.is_complex():
        raise ConfigError("The model's A is complex, and vimdeploy's selective scan is real: train it with a real A.")


def fwd(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
) -> list[Tensor]:
    """``selective_scan_cuda.fwd``: y, what the backward pass wants, and the gated y if there is a z."""
    y, intermediates = _answer(u, delta, A, B, C, D, delta_bias, delta_softplus)
    return [y, intermediates] if z is None else [y, intermediates, gated(y, z)]


def fwd_core(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    nrows: int,
) -> list[Tensor]:
    """``selective_scan_cuda_core.fwd`` and ``selective_scan_cuda_nrow.fwd``."""
    return _answer(u, delta, A, B, C, D, delta_bias, delta_softplus)


def fwd_oflex(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    nrows: int,
    out_float: bool,
) -> list[Tensor]:
    """``selective_scan_cuda_oflex.fwd``, whose y is float32 if asked for."""
    return _answer(u, delta, A, B, C, D, delta_bias, delta_softplus, torch.float32 if out_float else u.dtype)


def selective_state_update(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    state_batch_indices: Tensor | None = None,
) -> Tensor:
    """``mamba_ssm.ops.triton.selective_state_update``: one token, in plain PyTorch; the state is changed in place.

    Args:
        state: (B, D, N) or (B, heads, D, N).
        x: (B, D) or (B, heads, D); dt and z as well.
        dt: the step sizes.
        A: (D, N) or (heads, D, N).
        B: (B, N) or (B, groups of heads, N).
        C: as B.
        D: (D,) or (heads, D); dt_bias as well.
        z: the gate.
        dt_bias: bias of the step sizes.
        dt_softplus: whether the step sizes pass a softplus.
        state_batch_indices: refused.
    """
    if state_batch_indices is not None:
        raise ConfigError("selective_state_update with state_batch_indices is not supported; pass each batch's state.")
    dt = dt.float() if dt_bias is None else dt.float() + dt_bias.float()
    dt = (F.softplus(dt, threshold=20.0) if dt_softplus else dt)[..., None]  # (B, ..., D, 1)
    if state.dim() == 4:  # each head reads the B and C of its group
        B, C = (t.repeat_interleave(state.shape[1] // t.shape[1], dim=1) for t in (B, C))
    elif B.dim() == 3:
        B, C = B[:, 0], C[:, 0]
    state.copy_(torch.exp(dt * A) * state + dt * B.float()[..., None, :] * x.float()[..., None])
    y = (state.float() @ C.float()[..., None])[..., 0]
    y = y if D is None else y + D * x.float()
    return (y if z is None else gated(y, z)).to(x.dtype)


def _answer(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    dtype: torch.dtype | None = None,
) -> list[Tensor]:
    """y, and in the extensions' shape the states of the chunks (B, D, chunks, 2N).

    Callers read the last chunk's odd places, the last state, whether they use it or not. The rest is for a backward
    pass, which there is not: it is no number. While a model is exported, nothing of it is a number.
    """
    exporting = torch.onnx.is_in_onnx_export()
    y, state = _scanned(u, delta, A, B, C, D, delta_bias, delta_softplus, dtype=dtype, with_state=not exporting)
    chunks = 1 if exporting else -(-u.shape[-1] // _TOKENS_OF_A_CHUNK)
    states = u.new_full((*u.shape[:2], chunks, 2 * A.shape[1]), float("nan"), dtype=torch.float32)
    if state is not None:
        states[:, :, -1, 1::2] = state
    return [y, states]


def _scanned(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    *,
    dtype: torch.dtype | None = None,
    with_state: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """y (B, D, L) in that type, u's if none, and the last state (B, D, N) if asked for."""
    check_real(A)
    (batch, channels, length), dtype = u.shape, dtype or u.dtype
    b, c = (_of_groups(t, batch, length) for t in (B, C))
    groups = max(b.shape[1], c.shape[1])

    def token_major(tensor: Tensor) -> Tensor:
        """(B, D, L) -> (B, G, L, E)."""
        return tensor.unflatten(1, (groups, channels // groups)).transpose(2, 3)

    def of_channels(vector: Tensor | None) -> Tensor:
        """(D,) -> (G, E) float32; zeros if the model has none."""
        vector = A.new_zeros(channels) if vector is None else _repeated(vector, channels, dim=0)
        return vector.reshape(groups, -1).float()

    values = (
        token_major(u),
        token_major(_repeated(delta, channels, dim=1)),
        *(_repeated(t, groups, dim=1).transpose(2, 3) for t in (b, c)),  # (B, G, L, N)
    )
    wide = reduce(torch.promote_types, (value.dtype for value in values), dtype)
    u4, delta4, b4, c4 = (value.to(wide) for value in values)
    scan = torch_ops.selective_scan_with_state if with_state else torch_ops.selective_scan
    result = scan(
        u4,
        delta4,
        A.reshape(groups, -1, A.shape[1]).float(),
        b4,
        c4,
        of_channels(D),
        of_channels(delta_bias),
        reverse=(0,) * groups,
        delta_softplus=bool(delta_softplus),
    )
    y, state = result if isinstance(result, tuple) else (result, None)
    y = y.transpose(2, 3).flatten(1, 2).contiguous().to(dtype)  # callers take views of it
    return y, None if state is None else state.flatten(1, 2)


def _of_groups(tensor: Tensor, batch: int, length: int) -> Tensor:
    """B or C as (B, groups, N, L): a constant (D, N) is a group for each channel, (B, N, L) is one group."""
    if tensor.dim() == 2:
        return tensor[None, :, :, None].expand(batch, -1, -1, length)
    return tensor[:, None] if tensor.dim() == 3 else tensor


def _repeated(tensor: Tensor, size: int, dim: int) -> Tensor:
    """Each entry of the dimension several times, until there are ``size``."""
    times = size // tensor.shape[dim]
    return tensor if times == 1 else tensor.repeat_interleave(times, dim)
