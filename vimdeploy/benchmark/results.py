"""Numbers from what was measured."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from vimdeploy.bench.measure import Series
from vimdeploy.bench.profile import OperatorTime

TIMED = "Timed: from a float32 array of random values in memory to logits in memory, one call after the other."
RATIO = "Ratio: p50 in parts of the first artifact's at the same image size and batch."
LOAD = "Load: from a file in the page cache to a session, in a process that has imported all that it needs."
MEMORY = "Memory: the peak while it answers, above the same process before it loaded the session; {method}."

EAGER = (
    "PyTorch: eager, a loop over the tokens; one thread, the fastest for it, unless --threads says otherwise; load is "
    "reading a checkpoint, or making random weights."
)


@dataclass(frozen=True)
class Result:
    """One row: an artifact at one batch and image size. Where it failed, the numbers are None."""

    artifact: str
    batch: int
    image_size: tuple[int, int] | None
    """Height and width in pixels; None where it failed before that was known."""
    error: str = ""
    calls: int = 0
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    images_per_second: float | None = None
    """At the median."""
    ratio: float | None = None
    """p50 in parts of the first artifact's at the same batch; None where that one failed or has another image size."""
    load_seconds: float | None = None
    loaded_bytes: int | None = None
    """Memory of the session that has not run yet."""
    peak_bytes: int | None = None
    """Memory of the session at work, at most; of a GPU for those that run there, None where it does not tell."""
    memory_method: str = ""
    device: str = ""
    operators: str = ""
    """What computes our operators; empty for models that have none."""
    precision: str = ""
    profile: tuple[OperatorTime, ...] = ()
    """Where the time goes; empty where that was not asked."""
    profile_error: str = ""
    """Why there is no profile, in a sentence."""


def results_of(group: Sequence[Series]) -> list[Result]:
    """The rows of subjects that were measured together; subjects that had no turn and did not fail are left out."""
    return [_result(series, group[0]) for series in group if series.milliseconds or series.error]


def explanations(results: Sequence[Result]) -> list[str]:
    """What the numbers mean, a sentence each."""
    methods = sorted({result.memory_method for result in results if result.memory_method})
    eager = [EAGER] if any(result.operators == "eager" for result in results) else []
    return [TIMED, RATIO, LOAD, *(MEMORY.format(method=method) for method in methods), *eager]


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of the values that so many percent of them do not pass."""
    return sorted(values)[max(math.ceil(len(values) * percent / 100), 1) - 1]


def _median(series: Series) -> float | None:
    return statistics.median(series.milliseconds) if series.milliseconds and not series.error else None


def _ratio(series: Series, first: Series) -> float | None:
    median, other = _median(series), _median(first)
    if median is None or other is None or series.facts["image_size"] != first.facts["image_size"]:
        return None
    return median / other


def _result(series: Series, first: Series) -> Result:
    subject, facts = series.subject, series.facts
    size = facts.get("image_size") or subject.image_size
    image_size = None if size is None else (size[0], size[1])
    median = _median(series)
    if median is None:
        return Result(subject.name, subject.batch, image_size, series.error)
    return Result(
        artifact=subject.name,
        batch=subject.batch,
        image_size=image_size,
        calls=len(series.milliseconds),
        p50_ms=median,
        p90_ms=percentile(series.milliseconds, 90),
        p99_ms=percentile(series.milliseconds, 99),
        images_per_second=subject.batch * 1e3 / median,
        ratio=_ratio(series, first),
        load_seconds=facts["load_seconds"],
        loaded_bytes=facts["loaded_bytes"],
        peak_bytes=series.peak_bytes,
        memory_method=facts["memory_method"],
        device=facts["device"],
        operators=facts["operators"],
        precision=facts["precision"],
        profile=tuple(series.profile),
        profile_error=series.profile_error,
    )
