"""The commands that only look: ``vimdeploy models``, ``inspect`` and ``doctor``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vimdeploy.cli.console import print_json, print_table
from vimdeploy.cli.options import artifact_argument, json_option

if TYPE_CHECKING:
    from vimdeploy.artifact import ModelInfo


@click.command()
@json_option
def models(as_json: bool) -> None:
    """The released variants, and where their weights live."""
    from vimdeploy.models.config import VARIANTS

    if as_json:
        derived = [{"parameters": v.config.parameters, "tokens": v.config.tokens} for v in VARIANTS.values()]
        print_json([dataclasses.asdict(v) | d for v, d in zip(VARIANTS.values(), derived, strict=True)])
        return
    rows = [
        (
            v.name,
            f"{v.config.parameters:,}",
            v.config.tokens,
            "x".join(map(str, v.config.image_size)),
            v.top1,
            v.weights,
        )
        for v in VARIANTS.values()
    ]
    print_table(("variant", "parameters", "tokens", "image size", "top-1 %", "released weights"), rows)


@click.command()
@artifact_argument
@json_option
def inspect(artifact: Path, as_json: bool) -> None:
    """What a file is: model, recipe, origin, operators.

    An engine is compared with the SHA-256 that it was built with.
    """
    from vimdeploy.engine_file import is_engine

    facts = _engine_facts(artifact) if is_engine(artifact) else _onnx_facts(artifact)
    if as_json:
        print_json(facts)
    else:
        print_table(("what", "value"), _rows(facts))


def _onnx_facts(artifact: Path) -> dict[str, object]:
    from vimdeploy.artifact import operator_counts, read_onnx
    from vimdeploy.ops.contract import DOMAIN

    model, info = read_onnx(artifact)
    return {
        **_file_facts(artifact, info),
        **dataclasses.asdict(info),
        "opset": {entry.domain or "onnx": entry.version for entry in model.opset_import},
        "nodes": len(model.graph.node),
        "operators": operator_counts(model),
        "function bodies": [function.name for function in model.functions if function.domain == DOMAIN],
    }


def _engine_facts(artifact: Path) -> dict[str, object]:
    from vimdeploy.engine_file import read_engine

    _, engine = read_engine(artifact)
    profile = {name: dict(zip(("min", "opt", "max"), shapes, strict=True)) for name, shapes in engine.profile.items()}
    facts = {field.name: getattr(engine, field.name) for field in dataclasses.fields(engine) if field.name != "model"}
    return {
        **_file_facts(artifact, engine.model),
        **facts,
        "profile": profile,
        "operators": engine.operators,
        "carries_code": engine.carries_code,
        "model": dataclasses.asdict(engine.model),
    }


def _file_facts(artifact: Path, info: ModelInfo) -> dict[str, object]:
    size = "x".join(map(str, info.config.image_size))
    return {"file": str(artifact), "bytes": artifact.stat().st_size, "image_size": size}


def _rows(facts: dict[str, object], prefix: str = "") -> list[tuple[str, str]]:
    """A row a fact; what has parts, a row a part."""
    rows: list[tuple[str, str]] = []
    for name, value in facts.items():
        if isinstance(value, dict):
            rows += _rows(value, f"{prefix}{name}.")
        elif isinstance(value, (list, tuple)):
            rows.append((prefix + name, ", ".join(map(str, value[:10])) + (" ..." if len(value) > 10 else "")))
        else:
            rows.append((prefix + name, str(value)))
    return rows


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """What this machine can run, and what is missing.

    For what is missing, the command that brings it.

    Exits with 1 when something that is installed does not work.
    """
    from vimdeploy.doctor import PROBLEM, examine

    findings = examine()
    if as_json:
        print_json([dataclasses.asdict(finding) for finding in findings])
    else:
        rows = [
            (f.name, f.state, f.found + (f"; get it with: {f.cure}" if f.cure and f.state != "ready" else ""))
            for f in findings
        ]
        print_table(("what", "state", "found"), rows)
    if any(finding.state == PROBLEM for finding in findings):
        click.get_current_context().exit(1)
