"""Numbers as people read them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vimdeploy.parity.results import Verification
from vimdeploy.tolerance import Tolerance

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_THIN = "\N{NARROW NO-BREAK SPACE}"
_TIMES = "\N{MULTIPLICATION SIGN}"
_MINUS = "\N{MINUS SIGN}"


def power_of_ten(exponent: int) -> str:
    """``10⁻⁵``."""
    return "10" + str(exponent).translate(_SUPERSCRIPTS)


def scientific(value: float) -> str:
    """Two digits and a power of ten, so that errors of all sizes align."""
    if not value or not math.isfinite(value):
        return _special(value)
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa}{_THIN}{_TIMES}{_THIN}{power_of_ten(int(exponent))}".replace("-", _MINUS)


def quantity(value: float) -> str:
    """Four digits, for values of everyday size; a power of ten for others."""
    return scientific(value) if _far_from_one(value) else f"{value:,.4g}".replace("-", _MINUS)


def exact(value: float) -> str:
    """Seven digits, as many as float32 has: for two values that hardly differ."""
    return _special(value) if not value or not math.isfinite(value) else f"{value:.7g}".replace("-", _MINUS)


def percent(part: float) -> str:
    """``99.78 %``."""
    return "NaN" if math.isnan(part) else f"{100 * part:.2f}{_THIN}%"


def _far_from_one(value: float) -> bool:
    return not 1e-3 <= abs(value) < 1e4


def _special(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return ("∞" if value > 0 else _MINUS + "∞") if value else "0"


@dataclass(frozen=True)
class Bound:
    """What was allowed where, and why."""

    where: str
    lowest: float
    highest: float
    reason: str
    """Of the highest."""


def bounds_of(verification: Verification) -> list[Bound]:
    """All tolerances that a comparison was held to; places of the same reason together."""
    places: dict[str, list[Tolerance]] = {}
    for stage in verification.stages:
        if stage.own is not None:
            places.setdefault(stage.kind, []).append(stage.own.tolerance)
    carried = [stage.carried.tolerance for stage in verification.stages]
    checks = {check.name: [check.tolerance] for check in verification.determinism}
    return [
        *_by_reason({"Logits": [verification.logits.tolerance]}),
        *_by_reason(places, " alone"),
        *_by_reason({"Stages with all before them": carried} if carried else {}),
        *_by_reason(checks),
    ]


def _by_reason(places: Mapping[str, Sequence[Tolerance]], suffix: str = "") -> list[Bound]:
    groups: dict[str, list[str]] = {}
    for where, tolerances in places.items():
        groups.setdefault(max(tolerances, key=_limit).reason, []).append(where)
    bounds = []
    for reason, wheres in groups.items():
        limits = [tolerance.limit for where in wheres for tolerance in places[where]]
        bounds.append(Bound(", ".join(wheres) + suffix, min(limits), max(limits), reason))
    return bounds


def _limit(tolerance: Tolerance) -> float:
    return tolerance.limit
