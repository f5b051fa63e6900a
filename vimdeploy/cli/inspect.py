"""``vimdeploy inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vimdeploy.cli.console import print_json, print_table
from vimdeploy.cli.options import NamedSize, artifact_argument, json_option

SHOWN = 10
"""Items of a list, in a table."""


@click.command()
@artifact_argument
@click.option(
    "--expect",
    metavar="GPU",
    help="Tell how our CUDA kernels would divide each scan of an ONNX file on this GPU, such as H100, L4, 'AGX Orin' "
    "or 'RTX 4090', and what they are expected to take. The GPU need not be here; no GPU has confirmed these times.",
)
@click.option(
    "--shape",
    type=NamedSize(),
    multiple=True,
    help="With --expect, set the size of a free dimension, such as batch=8, or height=1248 in pixels; repeat the "
    "option for more. Default: batch=1.",
)
@json_option
def inspect(artifact: Path, expect: str | None, shape: tuple[tuple[str, int], ...], as_json: bool) -> None:
    """Show what a file is: model, inputs and outputs, recipe, origin, operators.

    ARTIFACT is an ONNX file, also of another program, or an engine. An engine is compared with the SHA-256 that it was
    built with.

    \b
    vimdeploy inspect vim_tiny_fp16.onnx --expect H100 --shape batch=8
    """
    from vimdeploy.api.inspect import inspect as inspect_artifact

    if shape and expect is None:
        raise click.UsageError("--shape is for --expect GPU.")
    facts = inspect_artifact(artifact, expect, dict(shape))
    if as_json:
        return print_json(facts)
    expected = facts.pop("expected", None)
    print_table(("what", "value"), _rows(facts))
    if expected is not None:
        _print_expected(expected)
    return None


def _print_expected(expected: dict[str, Any]) -> None:
    """Equal scans in one row."""
    alike: dict[tuple[str, str, str], list[float]] = {}
    for scan in expected["scans"]:
        sizes = " ".join([scan["type"], *(f"{letter}={size}" for letter, size in scan["sizes"].items())])
        alike.setdefault((scan["operator"], sizes, scan["plan"]), []).append(scan["us"])
    rows = [
        (f"{len(us)} x {name}", sizes, plan, f"{us[0]:.1f}", f"{sum(us):.0f}")
        for (name, sizes, plan), us in alike.items()
    ]
    click.echo()
    print_table(("scans", "sizes", f"on {expected['gpu']}", "us each", "us"), rows)
    click.echo(f"All scans: {expected['us']:.0f} us, expected by a model of time that no GPU has confirmed.")


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
