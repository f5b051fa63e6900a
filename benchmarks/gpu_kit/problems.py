"""The sizes that are checked and measured, random operands for them, and what each costs at least."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vimdeploy.models.vim.config import VARIANTS, VimConfig
from vimdeploy.models.vim.layers import REVERSE

MODELS = {
    "Vim-Ti": "vim_tiny_patch16_224",
    "Vim-S": "vim_small_patch16_224",
    "Vim-B": "vim_base_patch16_224",
}

LARGE = (1248, 1248)
"""An image size of 6085 tokens."""


@dataclass(frozen=True)
class Problem:
    """Both operators in one block of a Vim, as ``vimdeploy.ops.contract`` names the sizes."""

    model: str
    batch: int
    tokens: int
    channels: int
    rank: int
    states: int
    width: int
    scale: float
    reverse: tuple[int, ...] = REVERSE

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.model} {self.batch} x {self.tokens}"

    @property
    def positions(self) -> int:
        """Tokens times channels of the whole batch: the numbers of y."""
        return self.batch * self.tokens * self.channels

    @property
    def decays(self) -> int:
        """exp(step size * A): one a state of every position and direction."""
        return len(self.reverse) * self.positions * self.states

    @property
    def special_functions(self) -> int:
        """What the special-function units may be asked for: decays, exp and log of softplus, exp and 1 / x of silu."""
        return self.decays + 2 * len(self.reverse) * self.positions + 2 * self.positions


@dataclass(frozen=True)
class ScanOperands:
    """The inputs of BidirectionalSelectiveScan, in the contract's order."""

    u: Tensor
    xz: Tensor
    dt_bc: Tensor
    dt_weight: Tensor
    dt_bias: Tensor
    A: Tensor
    D: Tensor

    def tensors(self) -> tuple[Tensor, ...]:
        """In the contract's order."""
        return tuple(getattr(self, field.name) for field in dataclasses.fields(self))


@dataclass(frozen=True)
class ConvOperands:
    """The inputs of BidirectionalConv1d, in the contract's order."""

    xz: Tensor
    weight: Tensor
    bias: Tensor

    def tensors(self) -> tuple[Tensor, ...]:
        """In the contract's order."""
        return self.xz, self.weight, self.bias


def problem_in(config: VimConfig, batch: int, model: str = "Vim") -> Problem:
    """The problem that a block of a Vim sets."""
    c = config
    return Problem(
        model, batch, c.tokens, c.channels, c.dt_rank, c.state_size, c.conv_width, c.direction_scale, REVERSE
    )


def problem_of(model: str, batch: int, image_size: tuple[int, int] = (224, 224)) -> Problem:
    """The problem that a block of one of MODELS sets."""
    return problem_in(VARIANTS[MODELS[model]].config.replace(image_size=image_size), batch, model)


def problems(quick: bool) -> list[Problem]:
    """What is measured: Vim-Ti at 224 and 1248, Vim-S and Vim-B at 224."""
    tiny = [problem_of("Vim-Ti", batch) for batch in (1, 8, 128)]
    large = [problem_of("Vim-Ti", batch, LARGE) for batch in (1, 8)]
    others = [problem_of(model, batch) for model in ("Vim-S", "Vim-B") for batch in (1, 8, 128)]
    return tiny + large + ([] if quick else others)


def scan_operands(problem: Problem, dtype: torch.dtype, generator: torch.Generator) -> ScanOperands:
    """Random operands: step sizes around 0.01 to 1 and decays of -1 to -N, as trained models have them."""
    p, K = problem, len(problem.reverse)
    normal = _normal_on(generator)
    A = -torch.arange(1, p.states + 1, device=generator.device) + 0.1 * normal(K, p.channels, p.states)
    return ScanOperands(
        u=normal(K, p.batch, p.tokens, p.channels, dtype=dtype),
        xz=normal(p.batch, p.tokens, 2 * p.channels, dtype=dtype),
        dt_bc=normal(K, p.batch, p.tokens, p.rank + 2 * p.states, dtype=dtype),
        dt_weight=normal(K, p.channels, p.rank, dtype=dtype) * 0.3,
        dt_bias=normal(K, p.channels) - 2,
        A=A,
        D=1 + 0.2 * normal(K, p.channels),
    )


def conv_operands(problem: Problem, dtype: torch.dtype, generator: torch.Generator) -> ConvOperands:
    """Random operands."""
    p, K = problem, len(problem.reverse)
    normal = _normal_on(generator)
    return ConvOperands(
        xz=normal(p.batch, p.tokens, 2 * p.channels, dtype=dtype),
        weight=normal(K, p.channels, p.width, dtype=dtype) * 0.5,
        bias=normal(K, p.channels, dtype=dtype) * 0.5,
    )


def scan_bytes(problem: Problem, bytes_of_t: int) -> int:
    """The fewest bytes that the scan moves: each input read once (z alone of xz), y written once."""
    p, K = problem, len(problem.reverse)
    per_token = (K + 2) * p.channels + K * (p.rank + 2 * p.states)  # u, z and y; dt_bc
    parameters = K * p.channels * (p.rank * bytes_of_t + (p.states + 2) * 4)
    return p.batch * p.tokens * per_token * bytes_of_t + parameters


def conv_bytes(problem: Problem, bytes_of_t: int) -> int:
    """The fewest bytes that the convolution moves: x of xz read once, u written once."""
    p, K = problem, len(problem.reverse)
    return (p.positions * (1 + K) + K * p.channels * (p.width + 1)) * bytes_of_t


def floor_us(problem: Problem, bytes_of_t: int, bytes_per_s: float, exp2_per_s: float) -> tuple[float, float]:
    """No scan is faster than these two times, in microseconds.

    Args:
        problem: what is computed.
        bytes_of_t: of one number.
        bytes_per_s: of a copy from the device to itself, bytes read and bytes written counted.
        exp2_per_s: of the special-function units. A kernel that takes a part of the decays from a polynomial may be
            faster than the second time.

    Returns:
        Microseconds to move the bytes, microseconds to compute the decays.
    """
    return scan_bytes(problem, bytes_of_t) / bytes_per_s * 1e6, problem.decays / exp2_per_s * 1e6


def _normal_on(generator: torch.Generator) -> Callable[..., Tensor]:
    def normal(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(shape, dtype=dtype, device=generator.device, generator=generator)

    return normal
