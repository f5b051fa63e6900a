"""A model as Triton Inference Server wants it: config.pbtxt, and the files that it speaks of.

Triton runs the file by itself, by its backends ``onnxruntime`` and ``tensorrt``; vimdeploy is not needed where it runs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vimdeploy.artifact import Artifact
from vimdeploy.engine_file import EngineInfo, sidecar_path
from vimdeploy.errors import ConfigError, ModelFileError
from vimdeploy.gpu import Device
from vimdeploy.libraries import library_info, library_path
from vimdeploy.model_info import BATCH, INT8, ModelInfo, SizeRange, TensorSpec
from vimdeploy.preprocess import Placement
from vimdeploy.runtimes.base import check_threads
from vimdeploy.runtimes.onnxruntime import for_cpu
from vimdeploy.runtimes.operator_library import choose_library, warn_of_slow_operators
from vimdeploy.tasks import task_of
from vimdeploy.tasks.base import Limits

CONFIG, LABELS, WARM_UP = "config.pbtxt", "labels.txt", "warmup"
"""Names in a model's folder; the first and the last are Triton's own."""
_USUAL_BATCH = 8
"""The largest batch of an ONNX file, unless another is asked for: as many as ``Session.predict`` runs together."""
_MOST = 1024
"""More of anything nobody means."""
_MOST_VALUES = 1 << 28
"""Values of an input: pictures of 9000 x 9000 pixels have fewer."""
_KIND_OF = {"auto": "", "cpu": "KIND_CPU", "cuda": "KIND_GPU"}
_DEVICE_OF = {"KIND_CPU": "cpu", "KIND_GPU": "cuda"}
_TYPES = {
    "bool": "TYPE_BOOL",
    **{f"{sign}int{bits}": f"TYPE_{sign.upper()}INT{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"TYPE_FP{bits}" for bits in (16, 32, 64)},
    "bfloat16": "TYPE_BF16",
}
"""Triton's names of types."""
_HEAD = "# A model of vimdeploy for Triton Inference Server. Change what you like but the inputs and outputs.\n"


@dataclass(frozen=True)
class TritonOptions:
    """How a server is to run a model.

    Raises:
        ConfigError: for an option that is none.
    """

    device: str = "auto"
    """``cpu``, ``cuda``, or ``auto``: what the server has, if the model and the library run on both."""
    operators: str = "auto"
    """For ONNX files: ``library``, ``function-body``, or ``auto``: the library if it is installed."""
    max_batch: int | None = None
    """The most requests that the server runs together; None: 8, or as many as an engine was built for."""
    instances: int = 1
    """Sessions side by side, on each GPU or on the CPU."""
    threads: int | None = None
    """For ONNX files: that an operator may use on a CPU; None: all cores."""

    def __post_init__(self) -> None:
        if self.device not in _KIND_OF:
            raise ConfigError(f"device must be one of {', '.join(_KIND_OF)}, found {self.device!r}.")
        for name, count in (("max_batch", self.max_batch), ("instances", self.instances)):
            if count is not None and not 1 <= count <= _MOST:
                raise ConfigError(f"{name} must be from 1 to {_MOST}, found {count}.")
        check_threads(self.threads)


@dataclass(frozen=True)
class TritonModel:
    """What belongs into the folder of a model."""

    config: str
    """Text of ``config.pbtxt``."""
    interface: str
    """The part of it that all versions of a model have in common: inputs and outputs."""
    version: Mapping[str, bytes]
    """Files of a version's own folder."""
    libraries: Mapping[str, bytes]
    """Operator libraries beside it."""
    beside: Mapping[str, bytes]
    """Other files beside it: labels, inputs for the warm-up."""
    server_options: tuple[str, ...]
    """What the server has to be started with, beside the repository."""
    max_batch: int
    """The most requests that run together; 0 if the file has a batch of its own."""
    device: str
    operators: str
    """What computes our operators; empty if the model has none."""


class _Word(str):
    """The name of an enumeration's value, which has no quotes."""


@dataclass(frozen=True)
class _Backend:
    """What differs between the backends of ONNX files and of engines."""

    name: str
    platform: str
    version: Mapping[str, bytes]
    max_batch: int
    shapes: Mapping[str, tuple[int, ...]]
    """Usual ones of all inputs."""
    kind: str
    """The kind of instances; empty: what the server has."""
    operators: str
    libraries: Mapping[str, bytes]
    profiles: int = 1
    """The profiles of an engine; a server takes the first alone, unless told of the others."""
    entries: Mapping[str, Any] = field(default_factory=dict)
    """What the configuration has for this backend alone."""
    server_options: tuple[str, ...] = ()


def triton_model(artifact: Artifact, folder: str, options: TritonOptions) -> TritonModel:
    """What Triton needs to run a file.

    Args:
        artifact: an ONNX file or an engine of ours.
        folder: of the model, as the server will see it.
        options: how the server is to run it.

    Raises:
        ConfigError: for an option that the file, this installation or Triton does not have.
        ModelFileError: if the file has lost what it needs.
    """
    info = artifact.info
    if not info.inputs or not info.outputs:
        raise ConfigError(f"{artifact} takes or gives nothing, so there is nothing to serve.")
    if artifact.engine is None:
        backend = _onnx_backend(artifact, folder, options)
    else:
        backend = _engine_backend(artifact, artifact.engine, folder, options)
    labels = "".join(f"{' '.join(str(label).split())}\n" for label in info.labels)
    interface = {
        "input": [_tensor(spec, backend.max_batch) for spec in info.inputs],
        "output": [
            _tensor(spec, backend.max_batch)
            | ({"label_filename": LABELS} if labels and info.task == "classification" else {})
            for spec in info.outputs
        ],
    }
    warm_up, files = _warm_up(info, backend)
    config = {
        "platform": backend.platform,
        "backend": backend.name,
        "max_batch_size": backend.max_batch,
        **interface,
        **({"dynamic_batching": {}} if backend.max_batch > 1 else {}),
        "instance_group": {
            "count": options.instances,
            **({"kind": _Word(backend.kind)} if backend.kind else {}),
            **({"profile": list(map(str, range(backend.profiles)))} if backend.profiles > 1 else {}),
        },
        **backend.entries,
        "model_warmup": warm_up,
    }
    return TritonModel(
        config=_HEAD + _text(config),
        interface=_text(interface),
        version=backend.version,
        libraries=backend.libraries,
        beside=({LABELS: labels.encode()} if labels else {}) | files,
        server_options=backend.server_options,
        max_batch=backend.max_batch,
        device=_DEVICE_OF.get(backend.kind, "auto"),
        operators=backend.operators,
    )


def _onnx_backend(artifact: Artifact, folder: str, options: TritonOptions) -> _Backend:
    """ONNX Runtime, with our library if there is something for it to compute."""
    libraries, lack = _onnx_library(artifact, options)
    kind = _KIND_OF[options.device]
    on_gpu = not libraries or _has_cuda_kernels()
    is_half = artifact.info.precision not in ("fp32", INT8)
    if options.device == "auto" and (is_half or not on_gpu):  # in float16 and bfloat16, a CPU runs another file
        kind = "KIND_GPU" if on_gpu else "KIND_CPU"
    data = for_cpu(artifact) if kind == "KIND_CPU" else artifact.data
    entries: dict[str, Any] = {}
    if kind != "KIND_CPU":  # TF32 would round the factors of float32 products to 10 bits
        exact = {"name": "cuda", "parameters": {"key": "use_tf32", "value": "0"}}
        entries["optimization"] = {"execution_accelerators": {"gpu_execution_accelerator": exact}}
    if options.threads is not None:
        entries["parameters"] = {"key": "intra_op_thread_count", "value": {"string_value": str(options.threads)}}
    if libraries:
        entries["model_operations"] = {"op_library_filename": [f"{folder}/{name}" for name in libraries]}
    if lack:
        warn_of_slow_operators(lack)
    return _Backend(
        name="onnxruntime",
        platform="onnxruntime_onnx",
        version={"model.onnx": data if isinstance(data, bytes) else artifact.data},
        max_batch=_max_batch_of_onnx(artifact, options),
        shapes={spec.name: tuple(_usual(dim, artifact.info) for dim in spec.dims) for spec in artifact.info.inputs},
        kind=kind,
        operators=("library" if libraries else "function body") if artifact.has_operators else "",
        libraries=libraries,
        entries=entries,
    )


def _onnx_library(artifact: Artifact, options: TritonOptions) -> tuple[dict[str, bytes], str]:
    """The library to register, none for the function bodies; and why ``auto`` does without it, or nothing.

    The server's GPU need not be this machine's, so nobody is asked for one here.
    """
    if not artifact.has_operators:
        return {}, ""
    library, lack = choose_library(options.operators, Device("cpu"))
    if library is not None and options.device == "cuda" and not _has_cuda_kernels():
        library, lack = None, "The operator library has no CUDA kernels; install vimdeploy again where nvcc is"
        if options.operators == "library":
            raise ConfigError(f"{lack}, or package the file for the CPU.")
    if library is not None:
        return {library.name: _read(library)}, ""
    if not artifact.has_bodies:
        raise ModelFileError(
            f"Only the library can run {artifact}: its function bodies are gone. "
            f"{f'{lack}; or export' if lack else 'Export'} it again."
        )
    return {}, lack


def _has_cuda_kernels() -> bool:
    return bool((library_info() or {}).get("cuda_architectures"))


def _usual(dim: int | str, info: ModelInfo) -> int:
    """A dimension as it is, or of the size that is usual if it is free."""
    if isinstance(dim, int):
        return dim
    sizes = info.sizes.get(dim, SizeRange())
    return sizes.typical or sizes.least


def _max_batch_of_onnx(artifact: Artifact, options: TritonOptions) -> int:
    info = artifact.info
    if info.has_batch and all(spec.dims and isinstance(spec.dims[0], str) for spec in (*info.inputs, *info.outputs)):
        most = info.sizes.get(BATCH, SizeRange()).most
        return _max_batch(artifact, options, _MOST if most is None else most, _USUAL_BATCH)
    if options.max_batch is not None:
        raise ConfigError(f"{artifact} takes one batch alone, so there is none to choose; leave max_batch out.")
    return 0


def _max_batch(artifact: Artifact, options: TritonOptions, most: int, usual: int) -> int:
    if options.max_batch is not None and options.max_batch > most:
        raise ConfigError(f"Wanted a largest batch of {options.max_batch}, {artifact} takes up to {most}.")
    return options.max_batch or min(usual, most)


def _engine_backend(artifact: Artifact, engine: EngineInfo, folder: str, options: TritonOptions) -> _Backend:
    """TensorRT; a server loads plugins for all of its models when it starts."""
    if engine.flavor != "tensorrt":
        raise ConfigError(
            f"Triton runs engines of TensorRT; {artifact} is one of TensorRT-RTX. Build one with --flavor tensorrt, or "
            "package the ONNX file."
        )
    wrong = [
        name
        for name, refused in (
            ("device cpu", options.device == "cpu"),
            (f"operators {options.operators}", options.operators != "auto"),
            ("threads", options.threads is not None),
        )
        if refused
    ]
    if wrong:
        raise ConfigError(f"{artifact} is an engine, which has no {' and no '.join(wrong)} to choose; leave it out.")
    libraries: dict[str, bytes] = {}
    server_options = []
    if engine.plugin_version is not None and not engine.plugin_in_engine:
        libraries = _plugin_libraries(artifact)
        server_options.append(f"--backend-config=tensorrt,plugins={folder}/{list(libraries)[-1]}")
    if engine.version_compatible:
        server_options.append("--backend-config=tensorrt,version-compatible=true")
    first = artifact.info.inputs[0]
    has_batch = artifact.info.has_batch and first.dims[:1] == (BATCH,)
    largest = _largest_batch_from_one(engine, first.name) if has_batch else 0
    if not largest and options.max_batch is not None:
        raise ConfigError(f"{artifact} takes one batch alone, so there is none to choose; leave max_batch out.")
    return _Backend(
        name="tensorrt",
        platform="tensorrt_plan",
        version={"model.plan": artifact.data, sidecar_path("model.plan").name: engine.to_json()},
        max_batch=_max_batch(artifact, options, min(largest, _MOST), largest) if largest else 0,
        shapes={spec.name: tuple(engine.profiles[0][spec.name][1]) for spec in artifact.info.inputs},
        kind="KIND_GPU",
        operators=engine.operators,
        libraries=libraries,
        profiles=len(engine.profiles),
        server_options=tuple(server_options),
    )


def _largest_batch_from_one(engine: EngineInfo, name: str) -> int:
    """So many rows of an input, and all fewer ones, run at each size that the profiles take; 0 if one row does not."""
    ranges: dict[Any, list[tuple[int, int]]] = {}
    for smallest, _, largest in (profile[name] for profile in engine.profiles):
        ranges.setdefault((smallest[1:], largest[1:]), []).append((smallest[0], largest[0]))

    def reached(batches: list[tuple[int, int]]) -> int:
        most = 0
        for low, high in sorted(batches):
            most = max(most, high) if low <= most + 1 else most
        return most

    return min(map(reached, ranges.values()))


def _plugin_libraries(artifact: Artifact) -> dict[str, bytes]:
    """The plugin library, and the one that registers it by being loaded."""
    paths = [library_path("tensorrt"), library_path("tensorrt_registered")]
    if None in paths:
        raise ConfigError(
            f"{artifact} needs the plugin library of TensorRT, which this installation of vimdeploy lacks; package it "
            "where it was built, or build it with --version-compatible --plugin-in-engine."
        )
    return {path.name: _read(path) for path in paths if path is not None}


def _read(library: Path) -> bytes:
    try:
        return library.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"The library {library} cannot be read: {error.strerror}; install vimdeploy again."
        ) from error


def _tensor(spec: TensorSpec, max_batch: int) -> dict[str, Any]:
    """An input or an output; Triton puts the batch before its sizes, unless the file has one of its own."""
    if spec.type not in _TYPES:
        raise ConfigError(f"Triton has no tensors of the type {spec.type or 'unknown'}, which {spec.name} is of.")
    sizes = [dim if isinstance(dim, int) else -1 for dim in (spec.dims[1:] if max_batch else spec.dims)]
    if not sizes and not max_batch:
        raise ConfigError(f"Triton takes no single numbers such as {spec.name}; export the model with a batch.")
    shape = {"dims": sizes} if sizes else {"dims": [1], "reshape": {}}
    return {"name": spec.name, "data_type": _Word(_TYPES[spec.type]), **shape}


def _warm_up(info: ModelInfo, backend: _Backend) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """Calls before the first request, of one and of the largest batch, and the files with what is not zeros in them."""
    for name, shape in backend.shapes.items():
        if math.prod(shape) > _MOST_VALUES:
            raise ConfigError(f"No server is asked for inputs as large as {name} {shape}.")
    task, files, entries = task_of(info), {}, []
    beside: dict[str, Any] = {}
    if task is not None and info.picture is not None:
        height, width = info.sides_of(backend.shapes[info.picture.name])
        beside = task.beside(info, Placement((height, width), (height, width)), Limits(score_threshold=0.0))
    for number, spec in enumerate(info.inputs):
        shape = backend.shapes[spec.name]
        value: dict[str, Any] = {"zero_data": True}
        if spec.name in beside:  # a picture of no size is none
            value = {"input_data_file": f"input_{number}"}
            rows = 1 if backend.max_batch else shape[0]
            files[f"{WARM_UP}/input_{number}"] = np.stack([beside[spec.name]] * rows).tobytes()
        dims = list(shape[1:] if backend.max_batch else shape) or [1]
        entries.append({"key": spec.name, "value": {"data_type": _Word(_TYPES[spec.type]), "dims": dims, **value}})
    sizes = sorted({1, backend.max_batch or 1})
    return [{"name": f"batch of {size}", "batch_size": size, "inputs": entries} for size in sizes], files


def _text(message: Mapping[str, Any]) -> str:
    """A message in protobuf's text format."""
    return "".join(f"{line}\n" for line in _lines(message))


def _lines(message: Mapping[str, Any]) -> Iterator[str]:
    for name, value in message.items():
        if isinstance(value, list) and all(isinstance(item, int) for item in value):
            yield f"{name}: [ {', '.join(map(str, value))} ]"
            continue
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, Mapping):
                yield f"{name} {{"
                yield from (f"  {line}" for line in _lines(item))
                yield "}"
            else:
                yield f"{name}: {item if isinstance(item, _Word) else json.dumps(item, ensure_ascii=False)}"
