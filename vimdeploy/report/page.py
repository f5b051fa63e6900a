"""The page of ``vimdeploy verify --report``."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vimdeploy.errors import require
from vimdeploy.files import check_writable
from vimdeploy.parity.results import Side, Verification
from vimdeploy.report.depth import DepthChart, depth_chart
from vimdeploy.report.histogram import HistogramChart, histogram_chart
from vimdeploy.report.scale import BOTTOM, TOP
from vimdeploy.report.text import bounds_of, exact, percent, quantity, scientific

if TYPE_CHECKING:
    from jinja2 import Environment


def check_report(path: Path) -> None:
    """Ask before long work whether a page can be made and written.

    Raises:
        MissingPackageError: without jinja2.
        OutputError: where the page cannot be written.
    """
    require("jinja2", "export")
    check_writable(path)


def page_of(verifications: Sequence[Verification], machine: Mapping[str, Any], date: datetime) -> str:
    """A whole HTML page; it refers to nothing outside, and its policy forbids a browser to load or to run anything.

    Args:
        verifications: at least one, of candidates that were compared with the same reference on the same inputs.
        machine: as of ``bench.machine.describe_machine``.
        date: of the comparison, with its time zone.
    """
    style = _text("style.css")
    page = (
        _environment()
        .get_template("page.html")
        .render(
            verifications=verifications,
            verdict=next((v for v in verifications if not v.passed), verifications[0]),
            sides=_sides(verifications),
            heading="h3" if len(verifications) > 1 else "h2",
            machine=machine,
            date=date,
            style=style,
            style_hash=_policy_hash(style),
        )
    )
    return page.encode(errors="replace").decode()  # a file's name may hold bytes that are no text


def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_text), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals |= {"top": TOP, "bottom": BOTTOM}
    environment.filters |= {
        "bounds": bounds_of,
        "data_uri": _data_uri,
        "depth": _depth,
        "exact": exact,
        "headline": _headline,
        "histogram": _histogram,
        "not_finite": _not_finite,
        "percent": percent,
        "quantity": quantity,
        "scientific": scientific,
        "sentence": _sentence,
    }
    return environment


def _text(name: str) -> str:
    return (files("vimdeploy.report") / "templates" / name).read_text(encoding="utf-8")


def _policy_hash(style: str) -> str:
    """What a content security policy knows a style sheet by."""
    return f"sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}"


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _sides(verifications: Sequence[Verification]) -> list[tuple[str, Side]]:
    return [("Reference", verifications[0].reference), *(("Candidate", v.candidate) for v in verifications)]


def _headline(verification: Verification) -> str:
    """What a reader has to know, behind pass or fail."""
    return verification.fault.where if verification.fault else "Every error is within its bounds"


def _sentence(verification: Verification) -> str:
    """What came out, with the numbers."""
    if verification.fault is not None:
        return f"{verification.fault.what[:1].upper()}{verification.fault.what[1:]}."
    same = verification.answers.top1
    return (
        f"{verification.candidate.description} answers as {verification.reference.description}: {same.count:,} of "
        f"{same.total:,} first answers are the same, and the largest error of a logit is "
        f"{scientific(verification.logits.relative)} of their spread, where "
        f"{scientific(verification.logits.tolerance.limit)} is allowed."
    )


def _failing(verification: Verification) -> int | None:
    """The number of the stage that the fault names, or else of the first that has not passed."""
    failed = [n for n, stage in enumerate(verification.stages) if not stage.passed]
    where = verification.fault.where if verification.fault else ""
    named = [n for n in failed if verification.stages[n].title == where]
    return next(iter(named or failed), None)


def _depth(verification: Verification) -> DepthChart | None:
    return depth_chart(verification.stages, _failing(verification))


def _histogram(verification: Verification) -> HistogramChart | None:
    return histogram_chart(verification.logits)


def _not_finite(verification: Verification) -> Iterator[tuple[str, int, int]]:
    """Where the candidate has NaN or infinity: the place, and how many of each."""
    for stage in verification.stages:
        if stage.nan or stage.infinite:
            yield stage.title, stage.nan, stage.infinite
    if verification.logits.nan or verification.logits.infinite:
        yield "Logits", verification.logits.nan, verification.logits.infinite
