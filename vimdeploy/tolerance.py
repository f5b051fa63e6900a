"""How far answers may differ, and why."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tolerance:
    """A bound on an error, and why it is what it is."""

    limit: float
    """In parts of the spread of what is compared."""
    reason: str


_UNIT = {"fp16": 2.0**-11, "bf16": 2.0**-8}
"""The largest part by which rounding to the type changes a number."""


def tolerance_for(operators: str, precision: str) -> Tolerance:
    """The bound for an artifact against PyTorch in float32.

    fp32: both sides compute the same sums in another order. Float32 rounds to 6e-8; a matrix product over 192 to 1536
    values and a scan's state, a sum whose older terms decay, collect some tens of that; 24 blocks feed one residual,
    and what they add grows about as their square root: some 1e-5 of the logits' spread.

    fp16 and bf16: a number passes some six roundings on its way through a block, weights included, each by up to a unit
    u of the type and by u / sqrt(3) in the root of the mean square: 1.4 u in all. The residual, in float32, rounds
    nothing and adds blocks whose errors know nothing of each other, so the part stays what it is at any depth. Measured
    with both types: 1.0 u to 1.4 u for Vim-Ti of 1 to 48 blocks and for widths of 192 to 768, 0.5 u for the trained
    digits, 0.8 u to 2.2 u for models of two narrow blocks. The largest of thousands of logits lies four times as far
    out: 4 u to 6 u, and up to 11 u in the narrow ones.

    Args:
        operators: what computes our operators: ``library``, ``plugin`` or ``function body``.
        precision: of the artifact, one of ``PRECISIONS``.
    """
    if precision in _UNIT:
        return Tolerance(16 * _UNIT[precision], f"some six roundings to {precision} in a row, at the worst logit")
    if operators in ("library", "plugin"):
        return Tolerance(1e-4, "float32 sums in another order, through all blocks")
    return Tolerance(1e-3, "as with the library, and step sizes and states pass through more roundings in the body")
