"""TensorRT and TensorRT-RTX as a runtime: engines of ``vimdeploy build`` on a GPU."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from vimdeploy.artifact import Artifact
from vimdeploy.engine_file import EngineInfo
from vimdeploy.errors import ConfigError, ModelFileError, VimdeployWarning
from vimdeploy.flavors import load_plugins, tensorrt_module, version_of
from vimdeploy.gpu import Device, Gpu, device_of, gpu_of
from vimdeploy.runtimes.base import Arrays, Session
from vimdeploy.runtimes.engine_on_gpu import EngineOnGpu

_CONTEXTS = 2
"""Runs at the same time, if nobody says: one copies while the other computes, and most engines fill a GPU so."""
_MOST_CONTEXTS = 64
_AGAIN = "build it again here with: vimdeploy build"


class TensorRTSession(Session):
    """An engine of ours on a GPU."""

    runtime = "TensorRT"
    is_shared = True

    def __init__(
        self, artifact: Artifact, device: str = "auto", allow_engine_code: bool = False, contexts: int | None = None
    ) -> None:
        """Open a session; ``session_from_engine`` is the way in for files.

        Args:
            artifact: the engine.
            device: ``auto`` or ``cuda``; ``cuda:1`` for the second GPU.
            allow_engine_code: run the code that a version-compatible engine carries, a runtime of TensorRT or a plugin
                library. It may do all that this process may: allow it for engines whose builder you trust.
            contexts: so many runs at the same time at most, from 1 to 64; further ones wait; None: 2. Each has a stream
                and memory of its own, ``bytes_per_context``, which it takes when as many runs first meet.

        Raises:
            ModelFileError: if the engine is of another TensorRT, for another GPU, or refused.
            ConfigError: without a GPU, without the plugin library, and for an engine with code that is not allowed.
            MissingPackageError: without TensorRT or pycuda.
            ExecutionError: if the GPU is out of memory.
        """
        engine = artifact.engine
        assert engine is not None
        chosen = device_of(device)
        if chosen.kind == "cpu":
            raise ConfigError(f"An engine runs on a GPU: device must be auto or cuda, found {device!r}.")
        most = _CONTEXTS if contexts is None else contexts
        if not 1 <= most <= _MOST_CONTEXTS:
            raise ConfigError(f"contexts must be from 1 to {_MOST_CONTEXTS}, found {contexts}.")
        trt, prepare = tensorrt_for(engine, chosen, allow_engine_code)
        self.info = engine.model
        self.device = str(Device("cuda", chosen.index))
        self.operators = engine.operators
        self._options = (artifact, device, allow_engine_code, contexts)
        self._engine = EngineOnGpu(trt, artifact.data, chosen.index, allow_engine_code, prepare, most)
        artifact.forget_contents()
        self._close = weakref.finalize(self, self._engine.close)  # also if the session is dropped, and at exit

    def __reduce__(self) -> tuple[Any, ...]:
        """As its file and its options: the process that unpickles it opens it again."""
        return TensorRTSession, self._options

    @property
    def bytes_per_context(self) -> int:
        """The GPU's memory that each run at the same time takes, beside what TensorRT takes for itself."""
        return self._engine.bytes_per_lane

    def close(self) -> None:
        """Give back the GPU's memory, once no run is left; the session cannot run any more."""
        self._close()

    def _run(self, inputs: Arrays) -> Arrays:
        return self._engine.run(inputs)

    def _run_on_gpu(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any], stream: int | None) -> dict[str, Any]:
        first = next(iter(inputs.values()))
        return self._engine.run_on_gpu(lambda handle: self._taken(inputs, handle), first, outputs, stream)


def session_from_engine(
    artifact: Artifact,
    device: str = "auto",
    threads: int | None = None,
    operators: str = "auto",
    allow_engine_code: bool = False,
    contexts: int | None = None,
) -> TensorRTSession:
    """Open an engine of ours; nothing in it is read before all that is known of it was checked.

    Args:
        artifact: the engine.
        device: as of ``TensorRTSession``.
        threads: None; a GPU has none to choose.
        operators: ``auto``; what computes our operators was settled when the engine was built.
        allow_engine_code: as of ``TensorRTSession``.
        contexts: as of ``TensorRTSession``.

    Raises:
        ConfigError: for an option that an engine does not have; all else as of ``TensorRTSession``.
    """
    engine = artifact.engine
    assert engine is not None
    if threads is not None:
        raise ConfigError("An engine runs on a GPU: it takes no threads.")
    if operators.replace("-", " ") not in ("auto", engine.operators):
        raise ConfigError(f"This engine computes our operators by {engine.operators}; {operators!r} is not in it.")
    return TensorRTSession(artifact, device, allow_engine_code, contexts)


def tensorrt_for(
    engine: EngineInfo, device: Device, allow_engine_code: bool
) -> tuple[ModuleType, Callable[[Any], None]]:
    """The flavour's module, and what gives its runtime the plugins, for an engine that can run on a device.

    Raises:
        ModelFileError: if it cannot: it is of another TensorRT, or for another GPU.
        ConfigError: without such a GPU, and for an engine with code that is not allowed.
        MissingPackageError: without TensorRT.
    """
    if engine.carries_code and not allow_engine_code:
        raise ConfigError(
            "The engine carries code that would run in this process; if you trust who built it, allow it with "
            "--allow-engine-code (allow_engine_code=True), or build it without --version-compatible."
        )
    trt = tensorrt_module(engine.flavor)
    _check_version(trt, engine)
    found = _gpu(device)
    _check_gpu(found, engine)

    def prepare(runtime: Any) -> None:
        if engine.plugin_version is None or engine.plugin_in_engine:
            return
        # An older TensorRT inside the plan sees the registry of its runtime alone.
        registry = runtime.get_plugin_registry() if engine.version_compatible else trt.get_plugin_registry()
        load_plugins(trt, registry, engine.plugin_version, found.compute_capability)

    return trt, prepare


def _check_version(trt: ModuleType, engine: EngineInfo) -> None:
    built, here = version_of(engine.tensorrt_version), version_of(trt.__version__)
    if built != here and not (engine.version_compatible and built < here):
        raise ModelFileError(
            f"The engine was built by {engine.flavor} {engine.tensorrt_version}, here is {trt.__version__}; {_AGAIN}."
        )


def _gpu(device: Device) -> Gpu:
    try:
        return gpu_of(device)
    except ConfigError as error:
        raise ConfigError(f"An engine needs an NVIDIA GPU; found {error}. The ONNX file runs on the CPU.") from error


def _check_gpu(gpu: Gpu, engine: EngineInfo) -> None:
    """Whether an engine can run on a GPU; numbers of compute capabilities compare as pairs."""
    here = version_of(gpu.compute_capability)
    if engine.flavor == "rtx" or engine.hardware_compatibility == "ampere_plus":
        fits, wanted = here >= (8, 0), "8.0 or newer"
    else:
        fits, wanted = gpu.compute_capability == engine.compute_capability, str(engine.compute_capability)
    if not fits:
        raise ModelFileError(
            f"The engine runs on GPUs of compute capability {wanted}, here is {gpu.name} with "
            f"{gpu.compute_capability}; {_AGAIN}."
        )
    if engine.hardware_compatibility == "none" and engine.device not in (None, gpu.name):
        warnings.warn(
            f"The engine was tuned for {engine.device}, here is {gpu.name}: it may be slower, or fail, as TensorRT "
            f"says; {_AGAIN}.",
            VimdeployWarning,
            stacklevel=2,
        )
