"""The sizes that are checked and measured, random operands for them, and what each costs at least."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vimdeploy.models.vim.config import VARIANTS, VimConfig
from vimdeploy.models.vim.layers import REVERSE
from vimdeploy.ops.contract import BIDIRECTIONAL_SCAN, LOW_RANK_SCAN, SELECTIVE_SCAN, Operator

MODELS = {
    "Vim-Ti": "vim_tiny_patch16_224",
    "Vim-S": "vim_small_patch16_224",
    "Vim-B": "vim_base_patch16_224",
}

LARGE = (1248, 1248)
"""An image size of 6085 tokens."""


@dataclass(frozen=True)
class Problem:
    """Both bidirectional operators in one block of a Vim, as ``vimdeploy.ops.contract`` names the sizes."""

    operator: ClassVar = BIDIRECTIONAL_SCAN
    delta_softplus: ClassVar = True

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
class GroupProblem:
    """CausalConv1d and a scan of groups in one block of a model of others: SelectiveScan, or with a rank
    LowRankSelectiveScan.
    """

    model: str
    batch: int
    tokens: int
    channels: int
    rank: int
    states: int
    reverse: tuple[int, ...]
    """One flag a group."""
    width: int = 4
    delta_softplus: bool = True
    scale: ClassVar = 1.0

    @property
    def operator(self) -> Operator:
        """Which of the two scans it is."""
        return LOW_RANK_SCAN if self.rank else SELECTIVE_SCAN

    @property
    def name(self) -> str:
        """For tables."""
        steps = f"R {self.rank}" if self.rank else "given"
        return f"{self.model} {self.batch} x {len(self.reverse)} x {self.tokens}, N {self.states}, {steps}"

    @property
    def positions(self) -> int:
        """Tokens times channels of all groups of the whole batch: the numbers of y."""
        return self.batch * len(self.reverse) * self.tokens * self.channels

    @property
    def decays(self) -> int:
        """exp(step size * A): one a state of every position."""
        return self.positions * self.states

    @property
    def special_functions(self) -> int:
        """What the special-function units may be asked for: decays, and exp and log of softplus."""
        return self.decays + 2 * self.positions * self.delta_softplus


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
class GroupScanOperands:
    """The inputs of SelectiveScan or LowRankSelectiveScan, in the contract's order."""

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor
    delta_bias: Tensor
    delta_weight: Tensor | None = None

    def tensors(self) -> tuple[Tensor, ...]:
        """In the contract's order."""
        every = (getattr(self, field.name) for field in dataclasses.fields(self))
        return tuple(tensor for tensor in every if tensor is not None)


@dataclass(frozen=True)
class ConvOperands:
    """The inputs of BidirectionalConv1d or CausalConv1d, in the contract's order."""

    x: Tensor
    weight: Tensor
    bias: Tensor

    def tensors(self) -> tuple[Tensor, ...]:
        """In the contract's order."""
        return self.x, self.weight, self.bias


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


def group_problems(quick: bool) -> list[GroupProblem]:
    """What is checked and measured of models of others, with either scan: VMamba's four groups of one state, a
    MambaVision's 8 states, a Mamba's single group.
    """
    four = (0, 1, 0, 1)
    low_rank = [
        GroupProblem("VMamba-T", 1, 3136, 96, 6, 1, four),
        GroupProblem("VMamba-T", 32, 3136, 96, 6, 1, four),
        GroupProblem("MambaVision-T", 32, 196, 160, 20, 8, (0,)),
        GroupProblem("Mamba-130M", 1, 2048, 1536, 48, 16, (0,)),
    ]
    chosen = low_rank[::2] if quick else low_rank
    return [p for problem in chosen for p in (problem, dataclasses.replace(problem, rank=0))]


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


def group_scan_operands(problem: GroupProblem, dtype: torch.dtype, generator: torch.Generator) -> GroupScanOperands:
    """Random operands, like those of ``scan_operands``; without softplus the step sizes are positive."""
    p, G = problem, len(problem.reverse)
    normal = _normal_on(generator)
    rows = p.batch, G, p.tokens
    delta = normal(*rows, p.rank or p.channels, dtype=dtype)
    delta_weight = normal(G, p.channels, p.rank, dtype=dtype) * 0.3 if p.rank else None
    if not p.delta_softplus:
        delta = delta.abs() * 0.2
        delta_weight = None if delta_weight is None else delta_weight.abs()
    return GroupScanOperands(
        u=normal(*rows, p.channels, dtype=dtype),
        delta=delta,
        A=-torch.arange(1, p.states + 1, device=generator.device) + 0.1 * normal(G, p.channels, p.states),
        B=normal(*rows, p.states, dtype=dtype),
        C=normal(*rows, p.states, dtype=dtype),
        D=1 + 0.2 * normal(G, p.channels),
        delta_bias=normal(G, p.channels) - 2 if p.delta_softplus else torch.full_like(normal(G, p.channels), 0.1),
        delta_weight=delta_weight,
    )


def conv_operands(problem: Problem | GroupProblem, dtype: torch.dtype, generator: torch.Generator) -> ConvOperands:
    """Random operands; x has no more channels than are read for a problem of groups, as many again for a Vim's."""
    p, K = problem, len(problem.reverse)
    normal = _normal_on(generator)
    row = 2 * p.channels if isinstance(p, Problem) else p.channels
    return ConvOperands(
        x=normal(p.batch, p.tokens, row, dtype=dtype),
        weight=normal(K, p.channels, p.width, dtype=dtype) * 0.5,
        bias=normal(K, p.channels, dtype=dtype) * 0.5,
    )


def scan_bytes(problem: Problem | GroupProblem, bytes_of_t: int) -> int:
    """The fewest bytes that the scan moves: each input read once (z alone of xz), y written once."""
    p, K = problem, len(problem.reverse)
    if isinstance(p, Problem):
        per_token = (K + 2) * p.channels + K * (p.rank + 2 * p.states)  # u, z and y; dt_bc
    else:
        per_token = K * (2 * p.channels + (p.rank or p.channels) + 2 * p.states)  # u and y; delta; B and C
    parameters = K * p.channels * (p.rank * bytes_of_t + (p.states + 2) * 4)
    return p.batch * p.tokens * per_token * bytes_of_t + parameters


def conv_bytes(problem: Problem | GroupProblem, bytes_of_t: int) -> int:
    """The fewest bytes that the convolution moves: the channels of x read once, u written once."""
    p, K = problem, len(problem.reverse)
    return (p.batch * p.tokens * p.channels * (1 + K) + K * p.channels * (p.width + 1)) * bytes_of_t


def floor_us(
    problem: Problem | GroupProblem, bytes_of_t: int, bytes_per_s: float, exp2_per_s: float
) -> tuple[float, float]:
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
