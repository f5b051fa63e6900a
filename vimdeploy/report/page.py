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
from vimdeploy.report.bounds import bounds_of
from vimdeploy.report.depth import DepthChart, depth_chart
from vimdeploy.report.histogram import histogram_chart
from vimdeploy.report.scale import BOTTOM, TOP
from vimdeploy.report.text import exact, percent, quantity, scientific

if TYPE_CHECKING:
    from jinja2 import Environment


def check_report(path: Path) -> None:
    """Check, before long work, that a page can be made and written.

    Raises:
        MissingPackageError: without jinja2.
        OutputError: if the page cannot be written.
    """
    require("jinja2", "export")
    check_writable(path)


def page_of(verifications: Sequence[Verification], machine: Mapping[str, Any], date: datetime) -> str:
    """A whole HTML page. It refers to no other file, and its policy forbids the browser to load or run anything.

    Args:
        verifications: at least one; all with the same reference and the same inputs.
        machine: as ``vimdeploy.machine.describe_machine`` returns it.
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
    return page.encode(errors="replace").decode()  # file names may contain bytes that are not text


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
        "histogram": histogram_chart,
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
    """The hash by which a content security policy allows a style sheet."""
    return f"sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}"


def _data_uri(picture: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def _sides(verifications: Sequence[Verification]) -> list[tuple[str, Side]]:
    return [("Reference", verifications[0].reference), *(("Candidate", v.candidate) for v in verifications)]


def _headline(verification: Verification) -> str:
    """The verdict in a few words, written after pass or fail."""
    return verification.fault.where if verification.fault else "Every error is within its bounds"


def _sentence(verification: Verification) -> str:
    """The verdict as a sentence with numbers."""
    if verification.fault is not None:
        return f"{verification.fault.what[:1].upper()}{verification.fault.what[1:]}."
    worst = verification.worst
    same = "".join(
        f"{measure.name} for {measure.candidate.count:,} of {measure.candidate.total:,} images; "
        for measure in verification.answers.measures[:1]
    )
    output = f"of output {worst.name} " if len(verification.outputs) > 1 else ""
    return (
        f"{verification.candidate.description} agrees with {verification.reference.description}: {same}the largest "
        f"error {output}is {scientific(worst.relative)} {worst.unit}, {scientific(worst.tolerance.limit)} is "
        "allowed."
    )


def _failing(verification: Verification) -> int | None:
    """The number of the stage that the fault names; else of the first stage that failed; None if none did."""
    failed = [n for n, stage in enumerate(verification.stages) if not stage.passed]
    where = verification.fault.where if verification.fault else ""
    named = [n for n in failed if verification.stages[n].title == where]
    return next(iter(named or failed), None)


def _depth(verification: Verification) -> DepthChart | None:
    return depth_chart(verification.stages, _failing(verification))


def _not_finite(verification: Verification) -> Iterator[tuple[str, int, int]]:
    """The stages and outputs in which the candidate has NaN or infinity, and how many of each."""
    for stage in verification.stages:
        if stage.nan or stage.infinite:
            yield stage.title, stage.nan, stage.infinite
    for output in verification.outputs:
        if output.nan or output.infinite:
            yield f"Output {output.name}", output.nan, output.infinite
