"""``vimdeploy.inspect``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vimdeploy.artifact import Artifact, open_artifact
from vimdeploy.ops.contract import DOMAIN
from vimdeploy.scan_times import GpuFacts, expected_scans, gpu_named


def inspect(
    artifact: str | Path | Artifact, expect: str | GpuFacts | None = None, shape: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """What a file is: model, inputs and outputs, recipe, origin, operators.

    An engine is compared with the SHA-256 that it was built with.

    Args:
        artifact: an ONNX file, of ours or of another program, or an engine.
        expect: a GPU, by its name or its facts, that need not be here: what the scans are expected to take on it.
        shape: of the free axes, for ``expect``: ``{"batch": 8, "height": 1248, "width": 1248}``; a batch that is not
            named is 1.

    Returns:
        A document for JSON. ``operators`` is an object in every file: ``computed_by``, and ``nodes``, how many nodes of
        each of our operators an ONNX file has. With ``expect`` also ``expected``: the scans, how the kernels divide
        each, and its microseconds, from a model of time that no GPU has confirmed.

    Raises:
        ModelFileError: if the file cannot be read.
        InputError: if it has no scans to expect anything of, or if the GPU or a free axis is not known.
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
    facts |= _onnx(opened) if opened.engine is None else _engine(opened)
    if expect is not None:
        facts["expected"] = _expected(opened, expect, shape or {})
    return facts


def _expected(artifact: Artifact, gpu: str | GpuFacts, shape: Mapping[str, int]) -> dict[str, Any]:
    facts = gpu_named(gpu) if isinstance(gpu, str) else gpu
    scans = expected_scans(artifact, facts, shape)
    return {
        "gpu": gpu if isinstance(gpu, str) else dataclasses.asdict(gpu),
        "confirmed": False,
        "us": sum(scan.us for scan in scans),
        "scans": [dataclasses.asdict(scan) for scan in scans],
    }


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
