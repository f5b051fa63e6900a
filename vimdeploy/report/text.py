"""Numbers as people read them."""

from __future__ import annotations

import math

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_THIN = "\N{NARROW NO-BREAK SPACE}"
_TIMES = "\N{MULTIPLICATION SIGN}"
_MINUS = "\N{MINUS SIGN}"


def power_of_ten(exponent: int) -> str:
    """``10⁻⁵``."""
    return "10" + str(exponent).translate(_SUPERSCRIPTS)


def scientific(value: float) -> str:
    """Two digits and a power of ten: errors of all sizes have the same width."""
    if not value or not math.isfinite(value):
        return _special(value)
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa}{_THIN}{_TIMES}{_THIN}{power_of_ten(int(exponent))}".replace("-", _MINUS)


def quantity(value: float) -> str:
    """Four digits; for values far from 1, two digits and a power of ten."""
    return scientific(value) if _far_from_one(value) else f"{value:,.4g}".replace("-", _MINUS)


def exact(value: float) -> str:
    """Seven digits, as many as float32 has, for two values that hardly differ."""
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
