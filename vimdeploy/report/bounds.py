"""The bounds on errors that a comparison was held to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vimdeploy.parity.results import Verification
from vimdeploy.tolerance import Tolerance


@dataclass(frozen=True)
class Bound:
    """How large an error may be in one or several places, and why."""

    where: str
    lowest: float
    highest: float
    reason: str
    """The reason for the highest."""


def bounds_of(verification: Verification) -> list[Bound]:
    """All tolerances of a comparison; places with the same reason share one bound."""
    outputs = {output.name: [output.tolerance] for output in verification.outputs}
    own: dict[str, list[Tolerance]] = {}
    for stage in verification.stages:
        if stage.own is not None:
            own.setdefault(stage.kind, []).append(stage.own.tolerance)
    carried = [stage.carried.tolerance for stage in verification.stages]
    checks = {check.name: [check.tolerance] for check in verification.determinism}
    return [
        *_by_reason(outputs, before="Outputs " if len(outputs) > 1 else "Output "),
        *_by_reason(own, behind=" alone"),
        *_by_reason({"Stages with the errors of earlier stages": carried} if carried else {}),
        *_by_reason(checks),
    ]


def _by_reason(places: Mapping[str, Sequence[Tolerance]], before: str = "", behind: str = "") -> list[Bound]:
    groups: dict[str, list[str]] = {}
    for where, tolerances in places.items():
        groups.setdefault(max(tolerances, key=_limit).reason, []).append(where)
    bounds = []
    for reason, wheres in groups.items():
        limits = [tolerance.limit for where in wheres for tolerance in places[where]]
        bounds.append(Bound(f"{before}{', '.join(wheres)}{behind}", min(limits), max(limits), reason))
    return bounds


def _limit(tolerance: Tolerance) -> float:
    return tolerance.limit
