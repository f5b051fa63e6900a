"""How far answers and inner values may differ, and why.

Every bound is a multiple of the unit roundoff u of the type: the largest relative error of rounding to it. The bounds
were measured on sound files and set to at least 2.4 times the largest error that was seen: Vim-Ti and narrow models
with random weights, trained ones (digits, fashion), and these with weights of one kind 10 or 100 times as large; with
the library and with the function bodies, in float32, float16 and bfloat16. What was seen stands beside each number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vimdeploy.tasks import task_of

if TYPE_CHECKING:
    from vimdeploy.model_info import ModelInfo
    from vimdeploy.models.stages import StageSpec
    from vimdeploy.runtimes.base import Session


@dataclass(frozen=True)
class Tolerance:
    """A bound on an error, and why it is what it is."""

    limit: float
    """Relative to the size of what is compared."""
    reason: str


_UNIT = {"fp32": 2.0**-24, "fp16": 2.0**-11, "bf16": 2.0**-8, "int8": 2.0**-5}
"""u; for int8, what ``tolerance_for`` says."""
_WIDEST = 0.5
"""No band is wider: values that have nothing to do with each other differ by more than half of their magnitude."""


def tolerance_for(precision: str, times: float = 1.0) -> Tolerance:
    """The bound on an output of an artifact against PyTorch in float32, relative to the output's standard deviation.

    fp32: both sides compute the same sums in another order. A matrix product over 192 to 1536 values and a scan's
    state, a sum whose older terms decay, collect some tens of units; 24 blocks feed one residual, and what they add
    grows about as their square root: some 1e-5 standard deviations of the logits. Seen: 54 u = 3e-6, with the function
    bodies as with the library.

    fp16 and bf16: a number passes some six roundings on its way through a block, weights included, each of up to u and
    of u / sqrt(3) in the root mean square: 1.4 u in all. The residual, in float32, rounds nothing and adds blocks whose
    errors are independent, so the relative error is the same at any depth. Measured with both types: 1.0 u to 1.4 u for
    Vim-Ti of 1 to 48 blocks and for widths of 192 to 768, 0.5 u for the trained digits, 0.8 u to 2.2 u for models of
    two narrow blocks. The largest of thousands of logits is four times as far off: 4 u to 6 u, and up to 11 u in the
    narrow ones.

    int8: a level is the same for all values of a tensor, so small ones lose all. u stands for the root mean square
    error of a product, 2^-5 of its values (30 dB, measured at the layers behind the scan); the sum over a block is as
    above. Seen at the worst logit of thousands: 4 u to 8 u for the trained digits, 11 u for the trained fashion, 13 u
    at the worst of 100,000; in the mean 0.5 u and 0.8 u. The bound only tells a broken file from a sound one: what int8
    costs, the accuracy tells.

    Args:
        precision: of the artifact, as of ``ModelInfo``.
        times: how much wider the bound is, as of ``Task.rounding`` and ``Task.rounding_float32``.
    """
    if precision == "fp32":
        return Tolerance(times * 1e-4, "float32 sums in another order, through all blocks")
    units = times * (32 if precision == "int8" else 16)
    return Tolerance(units * _UNIT[precision], f"some six roundings to {precision} in a row, at the worst element")


def tolerance_of(info: ModelInfo) -> Tolerance:
    """The bound of ``tolerance_for`` on the outputs of a file."""
    task = task_of(info)
    if task is None:
        return tolerance_for(info.precision)
    times = task.rounding_float32 if info.precision == "fp32" else task.rounding(info)
    return tolerance_for(info.precision, times)


def output_tolerance(reference: Session, candidate: Session) -> Tolerance:
    """The bound on the outputs of two sessions: a reference that is not PyTorch has errors of its own."""
    found = tolerance_of(candidate.info)
    if reference.operators == "eager":
        return found
    right = tolerance_of(reference.info)
    return Tolerance(found.limit + right.limit, f"{found.reason}; and the same of the reference: {right.reason}")


def own_tolerance(stage: StageSpec, precision: str) -> Tolerance:
    """The band of a stage that is fed with the values of PyTorch in float32.

    Args:
        stage: its kind and how many terms it sums up.
        precision: of the artifact.
    """
    in_float32 = precision == "fp32" or precision in stage.float32_in
    if stage.is_foreign:
        units = 1024.0 if in_float32 else 96.0
        why = "an operator, and all that stands between it and the one before"  # seen: 99, in float16 3
        return Tolerance(min(units * _UNIT[precision], _WIDEST), f"{units:.0f} units of {precision}: {why}")
    if stage.is_choice:
        return Tolerance(0.03 if in_float32 else 0.2, "the part of what it chooses that is on one side alone")
    if in_float32:
        units, why = _float32_units(stage)
    else:
        units, why = {
            "scan": (96.0, "roundings of u, xz, dt_bc and y; a step size stands in an exponent"),  # seen: 25
            "conv1d": (16.0, "roundings of xz, taps and u, at the worst element"),  # 4.7
        }.get(stage.kind, (12.0, "roundings of the input, the weights and the sum, at the worst element"))  # 3.3
        if stage.more_units:
            units, why = 32.0, f"{why} of thousands of boxes"  # 10.9
    type_ = "fp32" if in_float32 else precision
    return Tolerance(min(units * _UNIT[type_], _WIDEST), f"{units:.0f} units of {type_}: {why}")


def _float32_units(stage: StageSpec) -> tuple[float, str]:
    if stage.kind == "scan":
        return 256.0, "softplus, exp and a sum of decaying terms, which may be smaller than they are"  # seen: 46
    if stage.kind == "conv1d":
        return 64.0, f"a sum of {stage.terms} terms, and SiLU"  # seen: 14
    why = f"a sum of {stage.terms} terms in another order"  # seen: 38 of 768 terms
    if stage.more_units:
        why += ", and coordinates that are rounded before they are interpolated at"
    return 32 + 4 * math.sqrt(stage.terms) + stage.more_units, why


def carried_tolerance(stage: StageSpec, stages: Sequence[StageSpec], precision: str) -> Tolerance:
    """The band of a stage that is fed with the artifact's own values: the errors of all blocks before come along.

    They are those of the first sum, over a whole patch, and the independent ones of the blocks, which grow as the
    square root of their number; if a block outweighs the residual, its errors grow faster. Seen: 121 u at a scan of
    Vim-Ti in float32 (block 20), where 7039 u are allowed; a third of the band at block 6 of digits whose in_proj is
    ten times too large. The narrow bands that name a fault are those of ``own_tolerance``. In int8 files all
    stages come behind layers in int8, also those that are in float32 themselves.

    Args:
        stage: one of the stages.
        stages: all of the network, in order.
        precision: of the artifact.
    """
    if stage.is_choice:
        return Tolerance(_WIDEST, "the part of what it chooses that is on one side alone")
    depth = 1 + max((other.block for other in stages if other.block is not None), default=-1)
    blocks = stage.block if stage.block is not None else 0 if stage.before_blocks else depth
    first = stages[0]
    coarse = [replace(first, kind="in_proj", float32_in=())] if precision == "int8" and not stage.before_blocks else []
    own = max(own_tolerance(s, precision).limit for s in (stage, first, *coarse))
    limit = min(6 * own * math.sqrt(1 + blocks), _WIDEST)
    return Tolerance(limit, f"six times {own:.1e}, the band of one stage, times the square root of {1 + blocks} blocks")


def stage_tolerance(
    stage: StageSpec, stages: Sequence[StageSpec], reference: Session, candidate: Session, apart: bool
) -> Tolerance:
    """The band of a stage of two sessions.

    Args:
        stage: one of the stages.
        stages: all of the network, in order.
        reference: one that is not PyTorch has errors of its own.
        candidate: the session to compare.
        apart: whether the candidate's stage is fed with the reference's values.
    """

    def of(session: Session) -> Tolerance:
        precision = session.info.precision
        return own_tolerance(stage, precision) if apart else carried_tolerance(stage, stages, precision)

    found = of(candidate)
    if reference.operators == "eager":
        return found
    right = of(reference)
    return Tolerance(found.limit + right.limit, f"{found.reason}; and as much of the reference: {right.limit:.1e}")
