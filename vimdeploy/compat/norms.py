"""The norms that ``mamba_ssm`` computes by Triton, in plain PyTorch: add the residual, then RMSNorm or LayerNorm.

Releases 1 and 2 of ``mamba_ssm`` order their arguments differently; what follows ``residual`` by position tells which.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vimdeploy.errors import ConfigError

_NEWER = ("x1", "weight1", "bias1", "eps", "dropout_p", "rowscale", "prenorm", "residual_in_fp32")
_RMS_NORM_BEFORE = ("prenorm", "residual_in_fp32", "eps")
_LAYER_NORM_BEFORE = ("eps", "prenorm", "residual_in_fp32", "is_rms_norm")
_UNSUPPORTED = ("x1", "weight1", "bias1", "dropout_p", "rowscale", "return_dropout_mask")


def normed(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, *, is_rms_norm: bool) -> Tensor:
    """RMSNorm or LayerNorm over the last dimension, in float32."""
    weight, bias = weight.float(), None if bias is None else bias.float()
    if not is_rms_norm:
        return F.layer_norm(x.float(), x.shape[-1:], weight, bias, eps)
    y = F.rms_norm(x.float(), x.shape[-1:], weight, eps)
    return y if bias is None else y + bias


def rms_norm_fn(
    x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None = None, *rest: Any, **options: Any
) -> Tensor | tuple[Tensor, Tensor]:
    """``rms_norm_fn`` of both releases.

    Args:
        x: (..., C).
        weight: (C,).
        bias: (C,).
        residual: (..., C), added to x before the norm.
        rest: release 1: prenorm, residual_in_fp32, eps; release 2: x1, weight1, bias1, eps, dropout_p, ...
        options: the same by name.

    Returns:
        y in x's type; with prenorm that and the sum, in the residual's type, else in float32 with residual_in_fp32,
        else in x's type.
    """
    options |= _named(rest, _RMS_NORM_BEFORE, (*_NEWER, "return_dropout_mask"))
    return _added_and_normed("rms_norm_fn", x, weight, bias, residual, **options | {"is_rms_norm": True})


def layer_norm_fn(
    x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None = None, *rest: Any, **options: Any
) -> Tensor | tuple[Tensor, Tensor]:
    """``layer_norm_fn`` of both releases.

    Args:
        x: (..., C).
        weight: (C,).
        bias: (C,).
        residual: (..., C), added to x before the norm.
        rest: release 1: eps, prenorm, residual_in_fp32, is_rms_norm; release 2: x1, weight1, bias1, eps, ...
        options: the same by name.

    Returns:
        As ``rms_norm_fn``.
    """
    options |= _named(rest, _LAYER_NORM_BEFORE, (*_NEWER, "is_rms_norm", "return_dropout_mask"))
    return _added_and_normed("layer_norm_fn", x, weight, bias, residual, **options)


class RMSNorm(nn.Module):
    """``RMSNorm``: the parameters of both releases, ``weight`` and a ``bias`` that is None."""

    bias: None

    def __init__(
        self,
        hidden_size: int,
        eps: float = 1e-5,
        dropout_p: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if dropout_p:
            raise ConfigError("RMSNorm with dropout_p is not supported.")
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(hidden_size, device=device, dtype=dtype))
        self.register_parameter("bias", None)

    def forward(
        self, x: Tensor, residual: Tensor | None = None, prenorm: bool = False, residual_in_fp32: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """As ``rms_norm_fn``."""
        return rms_norm_fn(
            x,
            self.weight,
            self.bias,
            residual,
            prenorm=prenorm,
            residual_in_fp32=residual_in_fp32,
            eps=self.eps,
        )


def layer_norm_fwd(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    eps: float,
    residual: Tensor | None = None,
    *,
    out_dtype: torch.dtype | None = None,
    residual_dtype: torch.dtype | None = None,
    is_rms_norm: bool = False,
    **options: Any,
) -> tuple[Tensor | None, ...]:
    """``_layer_norm_fwd`` of release 2, without what only its backward pass reads."""
    _refuse_unsupported("_layer_norm_fwd", options)
    y, total = _sum_and_norm(x, weight, bias, residual, eps, is_rms_norm, residual_dtype)
    return y.to(out_dtype or x.dtype), None, None, None, total, None, None, None


def layer_norm_fwd_before(*arguments: Any, **options: Any) -> tuple[Tensor | None, ...]:
    """``_layer_norm_fwd`` of release 1, which gives four results."""
    y, _, mean, rstd, total, *_ = layer_norm_fwd(*arguments, **options)
    return y, mean, rstd, total


def _added_and_normed(
    name: str,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    *,
    eps: float = 1e-6,
    prenorm: bool = False,
    residual_in_fp32: bool = False,
    is_rms_norm: bool = False,
    **options: Any,
) -> Tensor | tuple[Tensor, Tensor]:
    _refuse_unsupported(name, options)
    dtype = torch.float32 if residual_in_fp32 else None
    y, total = _sum_and_norm(x, weight, bias, residual, eps, is_rms_norm, dtype)
    return (y.to(x.dtype), total) if prenorm else y.to(x.dtype)


def _sum_and_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    eps: float,
    is_rms_norm: bool,
    dtype: torch.dtype | None,
) -> tuple[Tensor, Tensor]:
    """The norm, in float32, and the sum: in the residual's type, else in that one, else in x's."""
    total = x.float() if residual is None else x.float() + residual.float()
    dtype = (dtype or x.dtype) if residual is None else residual.dtype
    return normed(total, weight, bias, eps, is_rms_norm=is_rms_norm), total.to(dtype)


def _named(rest: tuple[Any, ...], before: tuple[str, ...], newer: tuple[str, ...]) -> dict[str, Any]:
    """The arguments by name; a number or flag in the first place is release 1, a tensor or None release 2."""
    names = before if rest and isinstance(rest[0], (bool, int, float)) else newer
    if len(rest) > len(names):
        raise TypeError(f"{4 + len(rest)} positional arguments, and no release of mamba_ssm takes so many")
    return dict(zip(names, rest, strict=False))


def _refuse_unsupported(name: str, options: dict[str, Any]) -> None:
    """Only what is switched off passes."""
    if unknown := options.keys() - set(_UNSUPPORTED):
        raise TypeError(f"{name} has no argument {min(unknown)!r}")
    used = [option for option, value in options.items() if isinstance(value, Tensor) or value]
    if used:
        raise ConfigError(f"The model calls {name} with {' and '.join(used)}, which vimdeploy does not compute.")
