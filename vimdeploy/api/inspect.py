"""``vimdeploy.inspect``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from vimdeploy.artifact import Artifact, open_artifact
from vimdeploy.ops.contract import DOMAIN


def inspect(artifact: str | Path | Artifact) -> dict[str, Any]:
    """What a file is: model, inputs and outputs, recipe, origin, operators.

    An engine is compared with the SHA-256 that it was built with.

    Args:
        artifact: an ONNX file, of ours or of another program, or an engine.

    Returns:
        A document for JSON. ``operators`` is an object in every file: ``computed_by``, and ``nodes``, how many nodes of
        each of our operators an ONNX file has.

    Raises:
        ModelFileError: if the file cannot be read.
    """
    opened = open_artifact(artifact, foreign=True)
    facts: dict[str, Any] = {
        "file": str(opened),
        "bytes": opened.bytes,
        "sha256": opened.sha256,
        "kind": "onnx" if opened.engine is None else "engine",
        "made_by_vimdeploy": opened.ours,
        "image_size": opened.info.size_text,
        "model": _model(opened),
    }
    return facts | (_onnx(opened) if opened.engine is None else _engine(opened))


def _model(artifact: Artifact) -> dict[str, Any]:
    info = artifact.info
    origin = {} if info.origin is None else {"is": str(info.origin), **dataclasses.asdict(info.origin)}
    document = dataclasses.asdict(info) | {"origin": origin}
    for specs in ("inputs", "outputs"):
        document[specs] = {spec.name: {"dims": list(spec.dims), "type": spec.type} for spec in getattr(info, specs)}
    return document


def _onnx(artifact: Artifact) -> dict[str, Any]:
    model = artifact.model
    bodies = [function.name for function in model.functions if function.domain == DOMAIN]
    ways = ["library", *(["function body"] if artifact.has_bodies else [])] if artifact.has_operators else []
    return {
        "opset": {entry.domain or "onnx": entry.version for entry in model.opset_import},
        "nodes": len(model.graph.node),
        "operators": {"computed_by": ways, "nodes": dict(artifact.operators)},
        "function_bodies": bodies,
        "changed": list(artifact.changes),
    }


def _engine(artifact: Artifact) -> dict[str, Any]:
    engine = artifact.engine
    assert engine is not None
    names = [field.name for field in dataclasses.fields(engine) if field.name not in ("model", "profiles")]
    profiles = [
        {name: dict(zip(("min", "opt", "max"), shapes, strict=True)) for name, shapes in profile.items()}
        for profile in engine.profiles
    ]
    return {
        **{name: getattr(engine, name) for name in names},
        "profiles": profiles,
        "operators": {"computed_by": [engine.operators], "nodes": {}},
        "carries_code": engine.carries_code,
    }
