"""What ``export`` and ``convert`` say of the file that they make."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vimdeploy.cli.console import print_table
from vimdeploy.errors import ParityError

if TYPE_CHECKING:
    from vimdeploy.artifact import ModelInfo
    from vimdeploy.parity.results import Verification


def refuse_other_answers(results: Sequence[Verification], source: str, output: Path) -> None:
    """End the command where a file that is not written yet does not answer as its source.

    Raises:
        ParityError: names what differs, and by how much.
    """
    for result in results:
        if not result.passed:
            rounded = result.candidate.precision != "fp32"
            cure = " Further nodes can be kept in float32: vimdeploy convert --keep NODE." if rounded else ""
            raise ParityError(
                f"The file does not answer as {source} does; {result.candidate.description} gives logits with "
                f"{result.logits.complaint}; {output} was not written.{cure}"
            )


def print_kept(info: ModelInfo) -> None:
    """The nodes that a file keeps in float32, and why."""
    if info.kept_in_float32:
        print_table(("kept in float32", "because"), info.kept_in_float32.items())


def print_answers(results: Sequence[Verification], source: str) -> None:
    """How near a file's answers are to its source's."""
    errors = ", ".join(f"{result.candidate.description} {result.logits.relative:.1e}" for result in results)
    click.echo(f"Largest logit error against {source}, in parts of the logits' standard deviation: {errors}")
