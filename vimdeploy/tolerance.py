"""How far answers may differ, and why."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tolerance:
    """A bound on the largest logit error, as a part of the logits' standard deviation."""

    logits: float
    reason: str


def tolerance_for(operators: str) -> Tolerance:
    """The bound for a float32 artifact against PyTorch in float32.

    Both sides compute the same sums in another order. Float32 rounds to 6e-8; a matrix product over 192 to 1536 values
    and a scan's state, a sum whose older terms decay, collect some tens of that; 24 blocks feed one residual, and what
    they add grows about as their square root: some 1e-5 of the logits' spread.

    Args:
        operators: what computes our operators: ``library`` or ``function body``.
    """
    if operators == "library":
        return Tolerance(1e-4, "float32 sums in another order, through all blocks")
    return Tolerance(1e-3, "as with the library, and step sizes and states pass through more roundings in the body")
