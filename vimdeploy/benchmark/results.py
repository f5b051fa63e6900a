"""Numbers from what was measured."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from vimdeploy.benchmark.measure import Series
from vimdeploy.benchmark.profile import OperatorTime

TIMED = "Timed: from arrays of random values in memory to all outputs in memory, one call after the other."
RATIO = "Ratio: p50 divided by the first artifact's at the same image size and batch."
LOAD = "Load: from a file in the page cache to a session, in a process that has imported everything it needs."
MEMORY = "Memory: the peak during calls, above the same process before it loaded the session; {method}."
EAGER = (
    "PyTorch: eager; our models by a loop over the tokens on one thread, the fastest for it, FILE.py:FUNCTION by the "
    "compiled kernels on as many as torch chooses, unless --threads says otherwise; load is reading a checkpoint, "
    "making random weights, or running the file."
)
DRIFT = "{name}'s times drifted by {percent:.0f} % during the run; close other programs or raise --rounds."

_LARGE_DRIFT = 0.2


@dataclass(frozen=True)
class Result:
    """One row: an artifact at one batch and image size. If it failed, the numbers are None."""

    artifact: str
    batch: int
    image_size: tuple[int, int] | None
    """Height and width in pixels; None if the model takes no pictures, or failed before that was known."""
    error: str = ""
    """Why it failed, in a sentence; empty if it did not."""
    task: str = ""
    """What the model is for; empty if it failed, or its file does not say."""
    calls: int = 0
    """How many were timed."""
    p50_ms: float | None = None
    """Median time of a call in milliseconds."""
    p90_ms: float | None = None
    p99_ms: float | None = None
    images_per_second: float | None = None
    """At the median."""
    ratio: float | None = None
    """p50 divided by the first artifact's at the same batch; None if that one failed or has another image size."""
    drift: float | None = None
    """Change of the median from the first third of the rounds to the last, as a part of the first: 0.25 is 25 % slower;
    None for fewer than three rounds."""
    load_seconds: float | None = None
    loaded_bytes: int | None = None
    """Memory of the session that has not run yet."""
    peak_bytes: int | None = None
    """Memory of the session at work, at most; of a GPU for those that run there, None if it does not tell."""
    memory_method: str = ""
    """How memory was counted, in words."""
    device: str = ""
    operators: str = ""
    """What computes our operators; empty for models that have none."""
    precision: str = ""
    profile: tuple[OperatorTime, ...] = ()
    """Where the time goes; empty if that was not asked for."""
    profile_error: str = ""
    """Why there is no profile, in a sentence."""


def results_of(group: Sequence[Series]) -> list[Result]:
    """The rows of subjects that were measured together; subjects that had no turn and did not fail are left out."""
    return [_result(series, group[0]) for series in group if series.turns or series.error]


def explanations(results: Sequence[Result]) -> list[str]:
    """What the numbers mean, and which are not to be trusted, a sentence each."""
    methods = sorted({result.memory_method for result in results if result.memory_method})
    eager = [EAGER] if any(result.operators == "eager" for result in results) else []
    drifts = [
        DRIFT.format(name=_name(result, results), percent=100 * abs(result.drift))
        for result in results
        if result.drift is not None and abs(result.drift) > _LARGE_DRIFT
    ]
    return [TIMED, RATIO, LOAD, *(MEMORY.format(method=method) for method in methods), *eager, *drifts]


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of the values that at least so many percent of them do not exceed."""
    return sorted(values)[max(math.ceil(len(values) * percent / 100), 1) - 1]


def drift_of(turns: Sequence[Sequence[float]]) -> float | None:
    """Change of the median from the first third of some turns to the last, as a part of the first.

    None for fewer than three turns.
    """
    third = len(turns) // 3
    if not third:
        return None
    first, last = (
        statistics.median(call for turn in part for call in turn) for part in (turns[:third], turns[-third:])
    )
    return last / first - 1


def _name(result: Result, results: Sequence[Result]) -> str:
    """The artifact, and which of its rows it is, if there are several."""
    if sum(other.artifact == result.artifact for other in results) == 1:
        return result.artifact
    size = "" if result.image_size is None else f"{'x'.join(map(str, result.image_size))}, "
    return f"{result.artifact} ({size}batch {result.batch})"


def _median(series: Series) -> float | None:
    return statistics.median(series.milliseconds) if series.turns and not series.error else None


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
        task=facts["task"],
        calls=len(series.milliseconds),
        p50_ms=median,
        p90_ms=percentile(series.milliseconds, 90),
        p99_ms=percentile(series.milliseconds, 99),
        images_per_second=subject.batch * 1e3 / median,
        ratio=_ratio(series, first),
        drift=drift_of(series.turns),
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
