"""A subject, loaded: its session, and the arrays that it is called with again and again."""

from __future__ import annotations

import importlib
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vimdeploy.benchmark.sources import Settings, Subject
from vimdeploy.checkpoint import load_checkpoint
from vimdeploy.errors import ConfigError, InputError, require
from vimdeploy.gpu import device_of
from vimdeploy.model_file import model_of_file
from vimdeploy.model_info import FromSeed, ModelInfo, TensorSpec
from vimdeploy.models import variant_by_name
from vimdeploy.models.vim.keys import variant_of
from vimdeploy.networks import Network, network_of_info, network_of_variant
from vimdeploy.preprocess import Placement
from vimdeploy.runtimes.base import Arrays, Session
from vimdeploy.runtimes.load import load
from vimdeploy.runtimes.onnxruntime import OnnxRuntimeSession
from vimdeploy.runtimes.openvino import import_openvino
from vimdeploy.tasks import TASKS, task_of
from vimdeploy.tasks.base import Limits

_IMPORTS = {
    "eager": (
        "safetensors.torch",
        "vimdeploy.compat",
        "vimdeploy.models.deit.network",
        "vimdeploy.models.heads.classification",
        "vimdeploy.models.heads.detect",
        "vimdeploy.models.heads.features",
        "vimdeploy.models.heads.pyramid",
        "vimdeploy.models.heads.segment",
        "vimdeploy.models.vim.network",
        "vimdeploy.runtimes.eager",
    ),
    "onnxruntime": ("onnx", "onnxruntime"),
    "openvino": ("onnx.inliner", "vimdeploy.ops.function_body", "vimdeploy.runtimes.openvino"),
    "tensorrt": (),
}
"""What loading imports, by the runtime."""
_PRECISIONS = {"float32": "fp32", "float16": "fp16"}


def import_runtime(subject: Subject) -> None:
    """Import everything that ``open_session`` needs, so that its time and memory are the session's alone.

    Raises:
        MissingPackageError: if PyTorch or OpenVINO is wanted and not installed.
    """
    if subject.runtime == "openvino":
        import_openvino()
    if subject.runtime == "eager":
        torch = require("torch", "export")
        with torch.device("meta"):
            torch.arange(1.0)  # the first of these, which networks are checked with, imports sympy and torch._dynamo
    for module in (*_IMPORTS[subject.runtime], *(f"vimdeploy.tasks.{name}" for name in TASKS)):
        importlib.import_module(module)


def open_session(subject: Subject, settings: Settings) -> Session:
    """Load a subject.

    Args:
        subject: what to load.
        settings: of these the device, and whatever else such a file takes.

    Raises:
        VimdeployError: if it cannot be loaded, or not at the image size.
    """
    if subject.runtime == "eager":
        return _eager_session(subject, settings)
    if subject.runtime == "tensorrt":
        return load(subject.path, settings.device, allow_engine_code=settings.allow_engine_code)
    if subject.runtime == "openvino":
        return load(subject.path, settings.device, settings.threads, runtime="openvino", precision=subject.openvino)
    return load(
        subject.path,
        settings.device,
        settings.threads,
        settings.operators,
        settings.providers,
        cuda_graphs=settings.cuda_graphs,
    )


def _eager_session(subject: Subject, settings: Settings) -> Session:
    if device_of(settings.device).kind == "cuda":
        raise ConfigError(f"PyTorch is measured on the CPU: device must be auto or cpu, found {settings.device!r}.")
    require("torch", "export")
    from vimdeploy.runtimes.eager import EagerSession

    if subject.module:
        return _session_of_module(subject.module, settings.threads)
    if subject.model is not None:
        network = network_of_info(replace(subject.model, origin=FromSeed(0)), None)
    else:
        checkpoint = load_checkpoint(subject.path)
        variant = variant_by_name(settings.variant) if settings.variant else variant_of(checkpoint)
        network = network_of_variant(variant, checkpoint, settings.task, subject.image_size)
    return EagerSession(network, settings.threads)


def _session_of_module(place: str, threads: int | None) -> Session:
    """Somebody's module as it runs with its user: by the compiled kernels, on as many threads as torch chooses."""
    from vimdeploy.runtimes.eager import EagerSession
    from vimdeploy.torch_module import looked_at

    with ExitStack() as kept:
        module, examples = kept.enter_context(model_of_file(place))
        flat, info, _ = looked_at(module.eval(), examples)
        return EagerSession(Network(flat, info), threads, kernels=True, kept=kept.pop_all())


def precision_of(session: Session) -> str:
    """What a session computes in; of a file that vimdeploy did not make, what its first input tells."""
    if not isinstance(session, OnnxRuntimeSession) or session.artifact.ours:
        return session.info.precision
    return _PRECISIONS.get(session.info.inputs[0].type, "") if session.info.inputs else ""


def image_size_of(info: ModelInfo, asked: tuple[int, int] | None = None) -> tuple[int, int] | None:
    """Height and width in pixels of the pictures that a model is called with; None if it takes no pictures.

    Args:
        info: of the model.
        asked: a size that somebody wants.

    Raises:
        InputError: if the model does not take that size, or takes any and none was asked for.
    """
    if info.picture is None and asked is None:
        return None
    return info.fixed_image_size(asked)


def random_arrays(info: ModelInfo, batch: int, image_size: tuple[int, int] | None = None) -> Arrays:
    """An array for each input: standard normal, which is about what preprocessed pictures are; zeros for integers, but
    any bytes for pictures of them.

    They are the same in every process. Of a detector, they ask for as many detections as there may be.

    Args:
        info: of the model.
        batch: size of each first dimension that the model leaves free.
        image_size: height and width in pixels, for models that leave them free.

    Raises:
        InputError: if the model does not take the batch or the image size, or does not tell the rest of its shapes.
    """
    sizes: dict[int | str, int] = {}
    size = image_size_of(info, image_size)
    if size is not None:
        sizes = dict(zip(info.image_size, size, strict=True))
    firsts = [spec.dims[0] for spec in info.inputs if spec.dims]
    free = [dim for dim in firsts if isinstance(dim, str)]
    if not free and firsts and firsts[0] != batch:
        raise InputError(f"Wanted a batch of {batch}, the model takes {firsts[0]} alone.")
    sizes |= dict.fromkeys(free, batch)
    generator = np.random.default_rng(0)
    arrays = {spec.name: _array(spec, _shape(spec, sizes, info), generator) for spec in info.inputs}
    if info.takes_bytes and info.picture is not None:
        pixels = arrays[info.picture.name]
        arrays[info.picture.name] = generator.integers(0, 256, pixels.shape, pixels.dtype)
    task = task_of(info)
    if task is not None and size is not None:
        beside = task.beside(info, Placement(size, size), Limits(score_threshold=0.0))
        arrays |= {name: np.stack([array] * batch) for name, array in beside.items()}
    return arrays


def _shape(spec: TensorSpec, sizes: dict[int | str, int], info: ModelInfo) -> tuple[int, ...]:
    shape = []
    for dim in spec.dims:
        size: int | None = dim if isinstance(dim, int) else sizes.get(dim)
        if size is None and dim in info.sizes:
            size = info.sizes[str(dim)].typical or info.sizes[str(dim)].least
        if size is None:
            raise InputError(f"The input {spec} does not say how large its {dim} is, so no values can be made up.")
        shape.append(size)
    return tuple(shape)


def _array(spec: TensorSpec, shape: tuple[int, ...], generator: np.random.Generator) -> npt.NDArray[Any]:
    try:
        dtype = np.dtype(spec.type)
    except TypeError:
        dtype = np.dtype(object)
    if dtype.kind == "f":
        return generator.standard_normal(shape, dtype=np.float32).astype(dtype)
    if dtype.kind in "iub":
        return np.zeros(shape, dtype)
    raise InputError(f"Wanted inputs that are floats, integers or booleans; found {spec}.")
