"""ONNX -> engine, for both flavours of TensorRT.

Flavour ``tensorrt`` computes our operators by our plugin, on the GPU it was built on; flavour ``rtx`` by their function
bodies, on every GPU from compute capability 8.0 on, and builds without a GPU. (For 7.5 TensorRT-RTX refuses the float32
products in the bodies; a list of fewer GPUs makes an engine no smaller. So there is no option to choose them.)
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from types import ModuleType
from typing import Any

from vimdeploy.artifact import Artifact
from vimdeploy.engine_file import FLAVORS, HARDWARE_COMPATIBILITY, EngineInfo, Profile, sha256_of
from vimdeploy.errors import ConfigError, ExecutionError, require
from vimdeploy.exporters.build_progress import progress_monitor
from vimdeploy.exporters.tensorrt_network import (
    ParsedNetwork,
    mark_weights,
    network_sha256,
    parsed_network,
    weights_of,
)
from vimdeploy.flavors import collecting_logger, deserialized, load_plugins, tensorrt_module
from vimdeploy.gpu import Gpu, gpus
from vimdeploy.libraries import library_path
from vimdeploy.model_info import BATCH, INT8, ModelInfo, SizeRange
from vimdeploy.progress import Progress, silent
from vimdeploy.text import reason_of

BATCH_SIZES = (1, 1, 8)
"""The smallest, the one that the engine is fastest at, the largest, unless others are asked for."""

Bounds = tuple[int, int, int]
"""The smallest size of a free dimension, the one that the engine is fastest at, the largest."""


@dataclass(frozen=True)
class BuildOptions:
    """How an engine is to be built."""

    flavor: str = "tensorrt"
    shapes: Mapping[str, Bounds] = field(default_factory=dict)
    """The bounds of the model's free dimensions, by their words: ``batch``, ``height``, ``width``."""
    profiles: Sequence[Mapping[str, Bounds]] = ()
    """The same for each profile of several; what one does not name is as in ``shapes``. None: one, of ``shapes``."""
    workspace_bytes: int | None = None
    """The most scratch memory that a layer may use; None: all of the GPU's."""
    optimization_level: int | None = None
    """0 builds fastest, 5 searches longest; None leaves it to TensorRT."""
    version_compatible: bool = False
    """The engine runs on newer versions of TensorRT too, and carries code (``EngineInfo.carries_code``)."""
    hardware_compatibility: str = "none"
    plugin_in_engine: bool = False
    """The engine carries the plugin library, so that a machine without vimdeploy runs it."""
    refittable: bool = False
    """The engine takes the weights of another file of the same network."""
    layer_report: bool = False

    def __post_init__(self) -> None:
        if self.flavor not in FLAVORS:
            raise ConfigError(f"flavor must be one of {', '.join(FLAVORS)}, found {self.flavor!r}.")
        asked = (item for shapes in (self.shapes, *self.profiles) for item in shapes.items())
        for word, (smallest, best, largest) in asked:
            if not 1 <= smallest <= best <= largest:
                raise ConfigError(
                    f"The sizes of {word} must be MIN <= OPT <= MAX, MIN at least 1; found {smallest},{best},{largest}."
                )
        if self.hardware_compatibility not in HARDWARE_COMPATIBILITY:
            raise ConfigError(
                f"hardware_compatibility must be one of {', '.join(HARDWARE_COMPATIBILITY)}, "
                f"found {self.hardware_compatibility!r}."
            )
        if self.plugin_in_engine and not self.version_compatible:
            raise ConfigError("TensorRT takes plugins into version-compatible engines only: ask for both.")
        if self.refittable and self.flavor == "rtx":
            raise ConfigError(
                "Engines that take other weights are flavour tensorrt's: TensorRT-RTX needs a GPU to build one, and "
                "none to build a new engine of the other file."
            )
        if self.refittable and len(self.profiles) > 1:
            raise ConfigError("An engine that takes other weights has one profile alone; leave the others out.")
        if self.flavor == "rtx" and (self.version_compatible or self.hardware_compatibility != "none"):
            raise ConfigError(
                "Version and hardware compatibility are flavour tensorrt's: an engine of flavour rtx runs on every GPU "
                "from compute capability 8.0 on, with the TensorRT-RTX that built it."
            )


@dataclass(frozen=True)
class BuiltEngine:
    """An engine in memory."""

    plan: bytes
    info: EngineInfo
    timing_cache: bytes | None
    """The cache that was given, with what this build measured; None if none was given."""
    layers: str | None
    """JSON of TensorRT's engine inspector, if ``layer_report`` asked for it."""


def engine_from_onnx(
    artifact: Artifact, options: BuildOptions, timing_cache: bytes | None = None, progress: Progress = silent
) -> BuiltEngine:
    """Build an engine from an ONNX file of ours.

    Args:
        artifact: the ONNX file.
        options: how to build.
        timing_cache: of an earlier build, or empty for a first one; None: no cache is kept.
        progress: is told how far each phase is; called from several threads.

    Raises:
        ModelFileError: if TensorRT's parser refuses the file.
        ConfigError: for an option that the installed TensorRT does not have or that contradicts the file, and without
            the GPU or the plugin library that flavour ``tensorrt`` needs.
        MissingPackageError: without TensorRT or Polygraphy.
        ExecutionError: if TensorRT gives up.
    """
    if timing_cache is not None and options.flavor == "rtx":
        raise ConfigError("TensorRT-RTX times nothing while it builds, so it has no timing cache; leave it out.")
    model, info = artifact.model, artifact.info
    if options.refittable and info.precision == INT8:
        raise ConfigError("An int8 file's scales are part of its network, so an engine cannot take other weights.")
    bounds = _bounds(info, options)
    profiles = tuple(_profile(info, words) for words in bounds)
    trt = tensorrt_module(options.flavor)
    polygraphy = _polygraphy(options.flavor)
    gpu = _gpu(options)
    if gpu is not None:
        load_plugins(trt, trt.get_plugin_registry(), str(info.operators_version), gpu.compute_capability)
    logger = collecting_logger(trt)
    monitor = progress_monitor(trt, progress)
    network = parsed_network(trt, model, options.flavor, logger, _fixed(bounds))
    if options.refittable:
        mark_weights(trt, network.network, weights_of(model))
    config = _config(trt, polygraphy, network, profiles, options, monitor)
    if timing_cache is not None:
        _use_timing_cache(config, timing_cache, logger)
    plan = _build(polygraphy, network, config, monitor, logger)
    engine = EngineInfo(
        model=info,
        flavor=options.flavor,
        tensorrt_version=trt.__version__,
        profiles=profiles,
        onnx_sha256=artifact.sha256,
        engine_sha256=sha256_of(plan),
        engine_bytes=len(plan),
        plugin_version=str(info.operators_version) if options.flavor == "tensorrt" else None,
        plugin_in_engine=options.plugin_in_engine,
        device=gpu.name if gpu else None,
        compute_capability=gpu.compute_capability if gpu else None,
        version_compatible=options.version_compatible,
        hardware_compatibility=options.hardware_compatibility,
        network_sha256=network_sha256(model) if options.refittable else None,
        versions={name: version(name) for name in ("vimdeploy", "polygraphy", "onnx")},
    )
    return BuiltEngine(
        plan,
        engine,
        timing_cache=None if timing_cache is None else bytes(config.get_timing_cache().serialize()),
        layers=_layers(trt, plan, logger) if options.layer_report else None,
    )


def _polygraphy(flavor: str) -> ModuleType:
    """Polygraphy's loaders for TensorRT. They choose their flavour when they are imported, so one process has one."""
    config: Any = require("polygraphy.config", flavor)
    rtx = flavor == "rtx"
    if "polygraphy.backend.trt" in sys.modules and config.USE_TENSORRT_RTX is not rtx:
        raise ConfigError(
            "Polygraphy builds one flavour of TensorRT per process; build the other one in another process."
        )
    config.USE_TENSORRT_RTX = rtx
    loaders = require("polygraphy.backend.trt", flavor)
    logger = require("polygraphy.logger", flavor).G_LOGGER
    logger.module_severity = logger.CRITICAL + 1  # it prints; what it says comes as exceptions too
    return loaders


def _gpu(options: BuildOptions) -> Gpu | None:
    """The GPU that the build uses: TensorRT takes the first; None if it needs none."""
    if options.flavor == "rtx" and not options.layer_report:
        return None
    try:
        found = gpus()[0]
    except ConfigError as error:
        wanted = "The layer report of an engine" if options.flavor == "rtx" else "Building with TensorRT"
        cure = "leave it out" if options.flavor == "rtx" else "flavour rtx builds without one"
        raise ConfigError(f"{wanted} needs an NVIDIA GPU; found {error}; {cure}.") from error
    return found if options.flavor == "tensorrt" else None


def _bounds(info: ModelInfo, options: BuildOptions) -> list[dict[str, Bounds]]:
    """The bounds of every free dimension, in each profile.

    Raises:
        ConfigError: if the file does not have such a dimension, or it cannot be of such a size; if two profiles are
            the same.
    """
    free = list(dict.fromkeys(dim for spec in info.inputs for dim in spec.dims if isinstance(dim, str)))
    asked = [{**options.shapes, **profile} for profile in options.profiles or ({},)]
    unknown = list(dict.fromkeys(word for shapes in asked for word in shapes if word not in free))
    if unknown:
        raise ConfigError(f"The file has no free dimension {', '.join(unknown)}; it has {', '.join(free) or 'none'}.")
    bounds = [
        {word: _bounds_of(word, info.sizes.get(word, SizeRange()), shapes.get(word)) for word in free}
        for shapes in asked
    ]
    twice = next((found for number, found in enumerate(bounds) if found in bounds[:number]), None)
    if twice is not None:
        sizes = ", ".join(f"{word} {','.join(map(str, found))}" for word, found in twice.items())
        raise ConfigError(f"Two profiles are the same ({sizes or 'the file has no free dimension'}); leave one out.")
    return bounds


def _fixed(bounds: Sequence[Mapping[str, Bounds]]) -> dict[str, int]:
    """The dimensions that have one size alone."""
    sizes = {word: {size for found in bounds for size in found[word]} for word in bounds[0]}
    return {word: found.pop() for word, found in sizes.items() if len(found) == 1}


def _profile(info: ModelInfo, bounds: Mapping[str, Bounds]) -> dict[str, tuple[tuple[int, ...], ...]]:
    """Each input's smallest, best and largest shape."""
    return {
        spec.name: tuple(
            tuple(dim if isinstance(dim, int) else bounds[dim][which] for dim in spec.dims) for which in range(3)
        )
        for spec in info.inputs
    }


def _bounds_of(word: str, allowed: SizeRange, asked: Bounds | None) -> Bounds:
    if asked is not None:
        wrong = next((size for size in asked if not allowed.allows(size)), None)
        if wrong is not None:
            raise ConfigError(f"Wanted a {word} of {allowed}, found {wrong}; the nearest is {allowed.nearest(wrong)}.")
        return asked
    if word == BATCH:
        return BATCH_SIZES
    typical = allowed.typical or allowed.least
    if allowed.most is None:
        raise ConfigError(
            f"The file takes any {word} ({allowed}), an engine needs bounds: give them with "
            f"--shape {word}={allowed.least},{typical},{allowed.nearest(2 * typical)}."
        )
    return allowed.least, typical, allowed.most


def _config(
    trt: ModuleType,
    polygraphy: ModuleType,
    network: ParsedNetwork,
    profiles: Sequence[Profile],
    options: BuildOptions,
    monitor: Any,
) -> Any:
    """TensorRT's ``IBuilderConfig``.

    Polygraphy switches TF32 off, which TensorRT has on: the graph says float32, and answers are held to that.
    """
    level = getattr(trt.HardwareCompatibilityLevel, options.hardware_compatibility.upper(), None)
    if level is None:
        raise ConfigError(f"TensorRT {trt.__version__} does not have {options.hardware_compatibility} yet.")
    pools = None if options.workspace_bytes is None else {trt.MemoryPoolType.WORKSPACE: options.workspace_bytes}
    verbosity = trt.ProfilingVerbosity
    try:
        config = polygraphy.create_config(
            network.builder,
            network.network,
            profiles=[_asked(polygraphy, profile) for profile in profiles],
            memory_pool_limits=pools,
            builder_optimization_level=options.optimization_level,
            version_compatible=options.version_compatible,
            hardware_compatibility_level=None if options.hardware_compatibility == "none" else level,
            profiling_verbosity=verbosity.DETAILED if options.layer_report else verbosity.LAYER_NAMES_ONLY,
            progress_monitor=monitor,
        )
    except Exception as error:  # Polygraphy's own, for what this TensorRT has not
        raise ConfigError(f"TensorRT {trt.__version__} cannot build that: {reason_of(error)}") from error
    if options.refittable:
        config.set_flag(trt.BuilderFlag.REFIT_INDIVIDUAL)
    if options.plugin_in_engine:
        config.plugins_to_serialize = [str(library_path("tensorrt"))]
    return config


def _asked(polygraphy: ModuleType, profile: Profile) -> Any:
    """A profile as Polygraphy has it."""
    shapes = polygraphy.Profile()
    for name, sizes in profile.items():
        shapes.add(name, *sizes)
    return shapes


def _use_timing_cache(config: Any, data: bytes, logger: Any) -> None:
    cache = config.create_timing_cache(data)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        raise ConfigError(
            f"TensorRT refuses the timing cache: {logger.reason()}; remove the file, or name another one, to begin "
            "anew for this GPU and this TensorRT."
        )


def _build(polygraphy: ModuleType, network: ParsedNetwork, config: Any, monitor: Any, logger: Any) -> bytes:
    """The plan. TensorRT builds in a thread of its own, so that this one sees Ctrl-C and can cancel the build."""
    with ThreadPoolExecutor(1) as pool:
        try:
            return bytes(pool.submit(polygraphy.engine_bytes_from_network, network, config=config).result())
        except Exception as error:
            raise ExecutionError(f"TensorRT gave up building the engine: {logger.reason()}") from error
        except BaseException:
            monitor.cancel()
            raise


def _layers(trt: ModuleType, plan: bytes, logger: Any) -> str:
    _runtime, engine = deserialized(trt, plan, logger, allow_code=True)  # our own
    return str(engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON))
