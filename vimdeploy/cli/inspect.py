"""``vimdeploy inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vimdeploy.cli.console import print_json, print_table
from vimdeploy.cli.options import artifact_argument, json_option

SHOWN = 10
"""Items of a list, in a table."""


@click.command()
@artifact_argument
@json_option
def inspect(artifact: Path, as_json: bool) -> None:
    """Show what a file is: model, inputs and outputs, recipe, origin, operators.

    ARTIFACT is an ONNX file, also of another program, or an engine. An engine is compared with the SHA-256 that it was
    built with.
    """
    from vimdeploy.api.inspect import inspect as inspect_artifact

    facts = inspect_artifact(artifact)
    if as_json:
        print_json(facts)
    else:
        print_table(("what", "value"), _rows(facts))


def _rows(facts: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """One row per fact; of what has parts, one row per part; of a long list of these, their number."""
    rows: list[tuple[str, str]] = []
    for name, value in facts.items():
        if isinstance(value, dict):
            rows += _rows(value, f"{prefix}{name}.")
        elif isinstance(value, (list, tuple)) and value and isinstance(value[0], dict):
            if len(value) > SHOWN:
                rows.append((prefix + name, str(len(value))))
            else:
                rows += _rows(dict(zip(map(str, range(len(value))), value, strict=True)), f"{prefix}{name}.")
        elif isinstance(value, (list, tuple)):
            rows.append((prefix + name, ", ".join(map(str, value[:SHOWN])) + (" ..." if len(value) > SHOWN else "")))
        else:
            rows.append((prefix + name, str(value)))
    return rows
