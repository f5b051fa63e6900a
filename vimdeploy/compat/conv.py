"""The causal convolution as ``causal_conv1d`` and its extension lay it out: channels before tokens."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vimdeploy.errors import ConfigError
from vimdeploy.ops import torch_ops


def causal_conv1d_fn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    seq_idx: Tensor | str | None = None,
    initial_states: Tensor | str | None = None,
    return_final_states: bool = False,
    final_states_out: Tensor | None = None,
    activation: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """``causal_conv1d.causal_conv1d_fn`` of every release.

    Args:
        x: (B, D, L).
        weight: (D, W), the last tap on the current token.
        bias: (D,).
        seq_idx: refused; an activation in releases before 1.1.
        initial_states: (B, D, W - 1), the tokens before the first; an activation in release 1.1.
        return_final_states: whether to give the last W - 1 tokens as well.
        final_states_out: where to write them.
        activation: ``"silu"``, ``"swish"`` or None.

    Returns:
        (B, D, L) in x's type, or that and the last W - 1 tokens (B, D, W - 1).
    """
    if isinstance(seq_idx, str):
        seq_idx, activation = None, seq_idx
    if isinstance(initial_states, str):
        initial_states, activation = None, initial_states
    if activation not in (None, "silu", "swish"):
        raise ConfigError(f"causal_conv1d has the activations silu and swish, found {activation!r}.")
    if return_final_states and final_states_out is None:
        final_states_out = x.new_empty(*x.shape[:2], weight.shape[1] - 1)
    u = _convolved(x, weight, bias, seq_idx, initial_states, final_states_out, activation is not None)
    return (u, final_states_out) if return_final_states and final_states_out is not None else u


def causal_conv1d_fwd(*arguments: Any) -> Tensor | None:
    """``causal_conv1d_cuda.causal_conv1d_fwd`` of every release, which is told by where the flag for SiLU stands.

    x, weight, bias, SiLU (4 arguments); a seq_idx before the flag (5); behind that initial_states and
    final_states_out (7); between those two the place for the result, and nothing returned (8).
    """
    match arguments:
        case (x, weight, bias, bool(silu)):
            return _convolved(x, weight, bias, None, None, None, silu)
        case (x, weight, bias, seq_idx, bool(silu)):
            return _convolved(x, weight, bias, seq_idx, None, None, silu)
        case (x, weight, bias, seq_idx, initial_states, final_states_out, bool(silu)):
            return _convolved(x, weight, bias, seq_idx, initial_states, final_states_out, silu)
        case (x, weight, bias, seq_idx, initial_states, Tensor() as out, final_states_out, bool(silu)):
            causal_conv1d_fwd_into(x, weight, bias, seq_idx, initial_states, out, final_states_out, silu)
            return None
    raise ConfigError(
        "The model calls causal_conv1d_fwd as no release of causal_conv1d known here does: "
        f"with {len(arguments)} arguments, the last one of type {type(arguments[-1]).__name__}."
    )


def causal_conv1d_fwd_into(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    seq_idx: Tensor | None,
    initial_states: Tensor | None,
    out: Tensor,
    final_states_out: Tensor | None,
    silu_activation: bool,
) -> None:
    """``causal_conv1d_cuda.causal_conv1d_fwd`` since release 1.5.4: the result is written into ``out``."""
    out.copy_(_convolved(x, weight, bias, seq_idx, initial_states, final_states_out, silu_activation))


def causal_conv1d_fwd_function(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    seq_idx: Tensor | None,
    initial_states: Tensor | None,
    final_states_out: Tensor | None,
    silu_activation: bool,
) -> Tensor:
    """``causal_conv1d.cpp_functions.causal_conv1d_fwd_function``."""
    return _convolved(x, weight, bias, seq_idx, initial_states, final_states_out, silu_activation)


def causal_conv1d_update(
    x: Tensor,
    conv_state: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | bool | None = None,
    cache_seqlens: Tensor | None = None,
    conv_state_indices: Tensor | None = None,
) -> Tensor:
    """``causal_conv1d.causal_conv1d_update``: the next token or tokens; the state is changed in place.

    Args:
        x: (B, D) or (B, D, tokens).
        conv_state: (B, D, W - 1 or more), the tokens before, the latest one last.
        weight: (D, W).
        bias: (D,).
        activation: ``"silu"``, ``"swish"``, True or None.
        cache_seqlens: refused.
        conv_state_indices: refused.
    """
    if cache_seqlens is not None or conv_state_indices is not None:
        raise ConfigError("causal_conv1d_update with cache_seqlens or conv_state_indices is not supported.")
    tokens = x[..., None] if x.dim() == 2 else x
    seen = torch.cat([conv_state, tokens.to(conv_state.dtype)], dim=-1)
    conv_state.copy_(seen[..., -conv_state.shape[-1] :])
    window = seen[..., -(tokens.shape[-1] + weight.shape[1] - 1) :]
    taps, bias = weight.float()[:, None], None if bias is None else bias.float()
    y = F.conv1d(window.float(), taps, bias, groups=len(weight))
    y = (F.silu(y) if activation else y).to(x.dtype)
    return y[..., 0] if x.dim() == 2 else y


def _convolved(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    seq_idx: Tensor | None,
    initial_states: Tensor | None,
    final_states_out: Tensor | None,
    silu: bool,
) -> Tensor:
    """(B, D, L) -> (B, D, L)."""
    if seq_idx is not None:
        raise ConfigError("The model packs several sequences into one (seq_idx), which vimdeploy's convolution cannot.")
    before = weight.shape[1] - 1
    seen = x if initial_states is None else torch.cat([initial_states.to(x.dtype), x], dim=-1)
    if final_states_out is not None:
        final_states_out.copy_(F.pad(seen, (before, 0))[..., seen.shape[-1] :])
    bias = weight.new_zeros(len(weight)) if bias is None else bias
    weight, bias = weight.to(x.dtype), bias.to(x.dtype)
    u = torch_ops.causal_conv1d(seen.transpose(1, 2), weight[None], bias[None], silu=silu).squeeze(0)
    u = u if initial_states is None else u[:, before:]
    return u.transpose(1, 2).contiguous()  # callers take views of it
