"""``mamba_ssm.modules.mamba_simple``: the Mamba block as ``mamba_ssm`` publishes it, without its forks' changes."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from vimdeploy.compat.inner import inner
from vimdeploy.errors import ConfigError

_FORKS = {
    "nslices": "SegMamba (ge-xing/SegMamba)",
    "bimamba": "VideoMamba (OpenGVLab/VideoMamba)",
    "if_divide_out": "Vision Mamba (hustvl/Vim)",
    "if_devide_out": "Vision Mamba (hustvl/Vim, before 2024-03)",
    "init_layer_scale": "Vision Mamba (hustvl/Vim)",
    "bimamba_type": "Vision Mamba (hustvl/Vim)",
}
"""Whose ``Mamba`` takes the keyword, the surest sign first."""


class Mamba(nn.Module):
    """The block of one direction: its constructor, the names of its parameters, its forward pass.

    Args:
        d_model: channels M outside the block.
        d_state: states N of a channel.
        d_conv: width W of the convolution.
        expand: E = expand * M channels inside.
        dt_rank: rank R of the step size; ``"auto"`` is M / 16.
        dt_min: smallest step size at the start.
        dt_max: largest step size at the start.
        dt_init: ``"random"`` or ``"constant"``, the step size's weights at the start.
        dt_scale: their scale.
        dt_init_floor: no step size starts below.
        conv_bias: whether the convolution has a bias.
        bias: whether the projections in and out have one.
        use_fast_path: no matter here; both ways compute the same.
        layer_idx: no matter here.
        device: of the parameters.
        dtype: of the parameters but A_log and D, which are float32.
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: float = 2,
        dt_rank: int | str = "auto",
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        dt_init: str = "random",
        dt_scale: float = 1.0,
        dt_init_floor: float = 1e-4,
        conv_bias: bool = True,
        bias: bool = False,
        use_fast_path: bool = True,
        layer_idx: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **of_a_fork: Any,
    ) -> None:
        super().__init__()
        if of_a_fork:
            raise ConfigError(_refusal(of_a_fork))
        if dt_init not in ("random", "constant"):
            raise ConfigError(f"Mamba's dt_init must be 'random' or 'constant', found {dt_init!r}.")
        placed: dict[str, Any] = {"device": device, "dtype": dtype}
        inner_channels = int(expand * d_model)
        rank = math.ceil(d_model / 16) if isinstance(dt_rank, str) else dt_rank
        self.d_model, self.d_state, self.d_conv, self.expand = d_model, d_state, d_conv, expand
        self.d_inner, self.dt_rank = inner_channels, rank
        self.use_fast_path, self.layer_idx = use_fast_path, layer_idx
        self.in_proj = nn.Linear(d_model, 2 * inner_channels, bias=bias, **placed)
        self.conv1d = nn.Conv1d(
            inner_channels,
            inner_channels,
            d_conv,
            groups=inner_channels,
            padding=d_conv - 1,
            bias=conv_bias,
            **placed,
        )
        self.x_proj = nn.Linear(inner_channels, rank + 2 * d_state, bias=False, **placed)
        self.dt_proj = nn.Linear(rank, inner_channels, **placed)
        self.A_log = nn.Parameter(
            torch.arange(1.0, d_state + 1, device=device).log().repeat(inner_channels, 1)
        )  # A = -1, -2, ..., -N in every channel
        self.D = nn.Parameter(torch.ones(inner_channels, device=device))
        self.out_proj = nn.Linear(inner_channels, d_model, bias=bias, **placed)
        with torch.no_grad():
            spread = dt_scale / math.sqrt(rank)
            if dt_init == "constant":
                self.dt_proj.weight.fill_(spread)
            else:
                self.dt_proj.weight.uniform_(-spread, spread)
            step = torch.empty_like(self.dt_proj.bias).uniform_(math.log(dt_min), math.log(dt_max)).exp()
            step = step.clamp(min=dt_init_floor)
            self.dt_proj.bias.copy_(step + torch.log(-torch.expm1(-step)))  # whose softplus is the step

    def forward(self, hidden_states: Tensor, inference_params: object | None = None) -> Tensor:
        """(B, L, M) -> (B, L, M)."""
        if inference_params is not None:
            raise ConfigError("Mamba with inference_params, token by token with a state, is not supported.")
        y = inner(
            self.in_proj(hidden_states),
            self.conv1d.weight,
            self.conv1d.bias,
            self.x_proj.weight,
            self.dt_proj.weight,
            (-torch.exp(self.A_log.float()),),
            None,
            None,
            self.D.float(),
            self.dt_proj.bias.float(),
            None,
            None,
            delta_softplus=True,
        )
        return self.out_proj(y)


def _refusal(keywords: dict[str, Any]) -> str:
    fork = next((fork for keyword, fork in _FORKS.items() if keyword in keywords), None)
    named = ", ".join(f"{keyword}={value!r}" for keyword, value in keywords.items())
    whose = f"is that of {fork}" if fork else "is that of a fork of mamba_ssm"
    return (
        f"The Mamba that the model builds with {named} {whose}, and vimdeploy stands in for the published one only; "
        "put the folder of the fork's mamba_ssm on the Python path before the import."
    )
