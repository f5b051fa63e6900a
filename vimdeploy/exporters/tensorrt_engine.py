"""ONNX -> engine, for both flavours of TensorRT.

Flavour ``tensorrt`` computes our operators by our plugin, on the GPU it was built on; flavour ``rtx`` by their function
bodies, on every GPU from compute capability 8.0 on, and builds without a GPU. (For 7.5 TensorRT-RTX refuses the float32
products in the bodies; a list of fewer GPUs makes an engine no smaller. So there is no option to choose them.)
"""

from __future__ import annotations

import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from vimdeploy.artifact import ModelInfo, operator_counts, read_onnx
from vimdeploy.engine_file import FLAVORS, EngineInfo, sha256_of
from vimdeploy.errors import ConfigError, ExecutionError, ModelFileError, first_line, require
from vimdeploy.exporters.build_progress import Report, progress_monitor
from vimdeploy.flavors import collecting_logger, load_plugins, tensorrt_module
from vimdeploy.gpu import Gpu, gpus
from vimdeploy.ops.contract import DOMAIN
from vimdeploy.runtimes.operator_library import library_path

if TYPE_CHECKING:
    import onnx

HARDWARE_COMPATIBILITY = ("none", "ampere_plus", "same_compute_capability")


@dataclass(frozen=True)
class BuildOptions:
    """How an engine is to be built."""

    flavor: str = "tensorrt"
    batch: tuple[int, int, int] = (1, 1, 8)
    """The smallest, the one it is fastest at, the largest."""
    workspace_bytes: int | None = None
    """The most scratch memory that a layer may use; None: all of the GPU's."""
    optimization_level: int | None = None
    """0 builds fastest, 5 searches longest; None leaves it to TensorRT."""
    version_compatible: bool = False
    """The engine runs on newer versions of TensorRT too, and carries code (``EngineInfo.carries_code``)."""
    hardware_compatibility: str = "none"
    plugin_in_engine: bool = False
    """The engine carries the plugin library, so that a machine without vimdeploy runs it."""
    layer_report: bool = False

    def __post_init__(self) -> None:
        if self.flavor not in FLAVORS:
            raise ConfigError(f"flavor must be one of {', '.join(FLAVORS)}, found {self.flavor!r}.")
        smallest, best, largest = self.batch
        if not 1 <= smallest <= best <= largest:
            raise ConfigError(
                f"The batch sizes must be MIN <= OPT <= MAX, MIN at least 1; found {smallest},{best},{largest}."
            )
        if self.hardware_compatibility not in HARDWARE_COMPATIBILITY:
            raise ConfigError(
                f"hardware_compatibility must be one of {', '.join(HARDWARE_COMPATIBILITY)}, "
                f"found {self.hardware_compatibility!r}."
            )
        if self.plugin_in_engine and not self.version_compatible:
            raise ConfigError("TensorRT takes plugins into version-compatible engines only: ask for both.")
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
    """The cache that was given, with what this build measured; None where none was given."""
    layers: str | None
    """JSON of TensorRT's engine inspector, where ``layer_report`` asked for it."""


def engine_from_onnx(
    path: Path, options: BuildOptions, timing_cache: bytes | None = None, report: Report | None = None
) -> BuiltEngine:
    """Build an engine of a file of ``vimdeploy export``.

    Args:
        path: the ONNX file.
        options: how to build.
        timing_cache: of an earlier build, or empty for a first one; None: no cache is kept.
        report: is told how far each phase is: name, steps done, steps in all; called from several threads.

    Raises:
        ModelFileError: where the file is not ours, or TensorRT's parser refuses it.
        ConfigError: for an option that the installed TensorRT does not have, and without the GPU or the plugin library
            that flavour ``tensorrt`` needs.
        MissingPackageError: without TensorRT or Polygraphy.
        ExecutionError: where TensorRT gives up.
    """
    if timing_cache is not None and options.flavor == "rtx":
        raise ConfigError("TensorRT-RTX times nothing while it builds, so it has no timing cache; leave it out.")
    model, info = read_onnx(path)
    trt = tensorrt_module(options.flavor)
    polygraphy = _polygraphy(options.flavor)
    gpu = _gpu(options)
    if options.flavor == "tensorrt":
        load_plugins(trt, str(info.operators_version))
    logger = collecting_logger(trt)
    monitor = progress_monitor(trt, report)
    builder, network, parser = parsed_network(trt, model, options.flavor, logger)
    try:
        # Polygraphy switches TF32 off, which TensorRT has on: the graph says float32, and answers are held to that.
        config = polygraphy.create_config(
            builder,
            network,
            profiles=[polygraphy.Profile().add(model.graph.input[0].name, *_shapes(info, options))],
            **_config_options(trt, options),
            progress_monitor=monitor,
        )
    except Exception as error:  # Polygraphy's own, for what this TensorRT has not
        raise ConfigError(f"This TensorRT cannot build that: {first_line(error)}") from error
    if timing_cache is not None:
        _use_timing_cache(config, timing_cache, logger)
    if options.plugin_in_engine:
        config.plugins_to_serialize = [str(library_path("tensorrt"))]
    plan = _build(polygraphy, (builder, network, parser), config, monitor, logger)
    engine = EngineInfo(
        model=info,
        flavor=options.flavor,
        tensorrt_version=trt.__version__,
        profile={model.graph.input[0].name: _shapes(info, options)},
        onnx_sha256=sha256_of(path.read_bytes()),
        engine_sha256=sha256_of(plan),
        engine_bytes=len(plan),
        plugin_version=str(info.operators_version) if options.flavor == "tensorrt" else None,
        plugin_in_engine=options.plugin_in_engine,
        device=gpu.name if gpu else None,
        compute_capability=gpu.compute_capability if gpu else None,
        version_compatible=options.version_compatible,
        hardware_compatibility=options.hardware_compatibility,
        versions={name: version(name) for name in ("vimdeploy", "polygraphy", "onnx")},
    )
    return BuiltEngine(
        plan,
        engine,
        timing_cache=None if timing_cache is None else bytes(config.get_timing_cache().serialize()),
        layers=_layers(trt, plan, logger) if options.layer_report else None,
    )


def _polygraphy(flavor: str) -> ModuleType:
    """Polygraphy's loaders for TensorRT. They choose their flavour when they are imported: one a process."""
    config: Any = require("polygraphy.config", flavor)
    rtx = flavor == "rtx"
    if "polygraphy.backend.trt" in sys.modules and config.USE_TENSORRT_RTX is not rtx:
        raise ConfigError(
            "Polygraphy builds one flavour of TensorRT a process; build the other one in another process."
        )
    config.USE_TENSORRT_RTX = rtx
    loaders = require("polygraphy.backend.trt", flavor)
    logger = require("polygraphy.logger", flavor).G_LOGGER
    logger.module_severity = logger.CRITICAL + 1  # it prints; what it says comes as exceptions too
    return loaders


def _gpu(options: BuildOptions) -> Gpu | None:
    """The GPU that the build uses: TensorRT takes the first; None where it needs none."""
    if options.flavor == "rtx" and not options.layer_report:
        return None
    try:
        found = gpus()[0]
    except ConfigError as error:
        wanted = "The layer report of an engine" if options.flavor == "rtx" else "Building with TensorRT"
        cure = "leave it out" if options.flavor == "rtx" else "flavour rtx builds without one"
        raise ConfigError(f"{wanted} needs an NVIDIA GPU; found {error}; {cure}.") from error
    return found if options.flavor == "tensorrt" else None


def parsed_network(trt: ModuleType, model: onnx.ModelProto, flavor: str, logger: Any) -> tuple[Any, Any, Any]:
    """The network of a model, strongly typed, with a plugin layer for each of our operators in flavour ``tensorrt``.

    Returns:
        The builder, the network and the parser, which owns the weights.

    Raises:
        ModelFileError: where the parser refuses the model, or takes an operator for something else than our plugin.
    """
    builder = trt.Builder(logger)
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)  # TensorRT 11 knows no other networks
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = trt.OnnxParser(network, logger)
    wanted = operator_counts(model) if flavor == "tensorrt" else {}
    if not parser.parse(_with_one_meaning(model, flavor).SerializeToString()):
        reasons = [parser.get_error(i).desc() for i in range(parser.num_errors)] or [logger.reason()]
        raise ModelFileError(f"The parser of TensorRT {trt.__version__} refuses the model: {reasons[0]}")
    found = _plugin_layers(trt, network)
    if found != wanted:
        raise ModelFileError(
            f"TensorRT {trt.__version__} has not taken our plugin for each of our operators: the file has "
            f"{dict(wanted)}, the network has plugin layers {dict(found)}; an engine of it would be slow or wrong."
        )
    return builder, network, parser


def _with_one_meaning(model: onnx.ModelProto, flavor: str) -> onnx.ModelProto:
    """A copy of a model that leaves the parser no choice between our plugins and the function bodies."""
    copy = type(model)()
    copy.CopyFrom(model)
    if flavor == "tensorrt":
        # Before TensorRT 10.7 the body is taken, whatever the node asks for.
        del copy.functions[:]
        return copy
    for node in copy.graph.node:
        if node.domain == DOMAIN:
            # TensorRT-RTX 1.7 ends the process where they lead it to a plugin, for it has no layer for one.
            bodys = [attribute for attribute in node.attribute if not attribute.name.startswith("plugin_")]
            del node.attribute[:]
            node.attribute.extend(bodys)
    return copy


def _plugin_layers(trt: ModuleType, network: Any) -> dict[str, int]:
    """How many layers of each plugin a network has."""
    counts: Counter[str] = Counter()
    for layer in (network.get_layer(i) for i in range(network.num_layers)):
        if layer.type == trt.LayerType.PLUGIN_V3:
            layer.__class__ = trt.IPluginV3Layer  # the network gives every layer as an ILayer
            counts[layer.plugin.get_capability_interface(trt.PluginCapabilityType.CORE).plugin_name] += 1
    return dict(counts)


def _shapes(info: ModelInfo, options: BuildOptions) -> tuple[tuple[int, ...], ...]:
    """The input's smallest, best and largest shape; a file of ours is dynamic in its batch alone."""
    return tuple((size, info.config.in_channels, *info.config.image_size) for size in options.batch)


def _config_options(trt: ModuleType, options: BuildOptions) -> dict[str, Any]:
    """The options in Polygraphy's and TensorRT's words."""
    level = getattr(trt.HardwareCompatibilityLevel, options.hardware_compatibility.upper(), None)
    if level is None:
        raise ConfigError(f"TensorRT {trt.__version__} does not have {options.hardware_compatibility} yet.")
    pools = None if options.workspace_bytes is None else {trt.MemoryPoolType.WORKSPACE: options.workspace_bytes}
    verbosity = trt.ProfilingVerbosity
    return {
        "memory_pool_limits": pools,
        "builder_optimization_level": options.optimization_level,
        "version_compatible": options.version_compatible,
        "hardware_compatibility_level": None if options.hardware_compatibility == "none" else level,
        "profiling_verbosity": verbosity.DETAILED if options.layer_report else verbosity.LAYER_NAMES_ONLY,
    }


def _use_timing_cache(config: Any, data: bytes, logger: Any) -> None:
    cache = config.create_timing_cache(data)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        raise ConfigError(
            f"TensorRT refuses the timing cache: {logger.reason()}; remove the file, or name another one, to begin "
            "anew for this GPU and this TensorRT."
        )


def _build(polygraphy: ModuleType, network: tuple[Any, Any, Any], config: Any, monitor: Any, logger: Any) -> bytes:
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
    engine = trt.Runtime(logger).deserialize_cuda_engine(plan)
    if engine is None:
        raise ExecutionError(f"TensorRT cannot load the engine it built, for the layer report: {logger.reason()}")
    return str(engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON))
