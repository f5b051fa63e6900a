"""``vimdeploy.build``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vimdeploy.artifact import Artifact, open_artifact, require_onnx
from vimdeploy.engine_file import check_name, sidecar_path, write_engine
from vimdeploy.errors import ConfigError
from vimdeploy.files import check_outputs, write_whole
from vimdeploy.progress import Progress, silent

Bounds = tuple[int, int, int]


@dataclass(frozen=True)
class Built:
    """An engine that was written."""

    artifact: Artifact
    """Its ``engine`` says what it may run on."""


def build(
    model: str | Path | Artifact,
    output: str | Path,
    *,
    flavor: str = "tensorrt",
    batch: Bounds | int | None = None,
    shapes: Mapping[str, Bounds] | None = None,
    profiles: Sequence[Mapping[str, Bounds | int]] = (),
    workspace_bytes: int | None = None,
    timing_cache: str | Path | None = None,
    optimization_level: int | None = None,
    version_compatible: bool = False,
    hardware_compatibility: str = "none",
    plugin_in_engine: bool = False,
    refittable: bool = False,
    layer_report: str | Path | None = None,
    progress: Progress = silent,
) -> Built:
    """Build an engine of TensorRT or TensorRT-RTX from an ONNX file of ours.

    Args:
        model: the ONNX file. Its precision is the engine's.
        output: the engine to write, with OUTPUT.json beside it.
        flavor: ``tensorrt``, with our plugin, on the GPU that the engine is for; or ``rtx``, with the function bodies,
            which needs no GPU to build.
        batch: the smallest, the best and the largest batch, or one number for all three, which is fixed in the engine
            then; None: 1, 1 and 8, or the file's if that is fixed.
        shapes: the same of the file's other free dimensions: ``{"height": (224, 640, 1248), ...}``.
        profiles: the same by word for each of several profiles, for which TensorRT chooses kernels one by one:
            ``[{"batch": 1}, {"batch": (8, 32, 32)}]``; what one does not name is as ``batch`` and ``shapes`` say.
        workspace_bytes: scratch memory that a layer may use; None: all of the GPU's.
        timing_cache: a file of timings from earlier builds; created if it does not exist.
        optimization_level: 0 builds fastest, 5 searches longest; None leaves it to TensorRT.
        version_compatible: run on newer versions of TensorRT too; the engine carries code then.
        hardware_compatibility: ``none``, ``ampere_plus`` or ``same_compute_capability``: run on other GPUs too.
        plugin_in_engine: keep the plugin in the engine; wants ``version_compatible``.
        refittable: let ``refit`` give the engine the weights of another file of the same network.
        layer_report: a file for what TensorRT made of the layers, as JSON; needs a GPU.
        progress: is told how far the work is; called from several threads.

    Raises:
        ModelFileError: if the file is not ours, an engine already, or refused by TensorRT's parser.
        ConfigError: for an option that contradicts the file, the machine or the installed TensorRT.
        OutputError: if a file cannot be written.
        MissingPackageError: without TensorRT or Polygraphy.
        ExecutionError: if TensorRT gives up.
    """
    artifact = require_onnx(model)
    output = Path(output)
    places = [place for place in (output, sidecar_path(output), timing_cache, layer_report) if place is not None]
    check_outputs(places, [artifact.path] if artifact.path else [])
    check_name(output, engine=True)

    from vimdeploy.exporters.tensorrt_engine import BuildOptions, engine_from_onnx

    options = BuildOptions(
        flavor=flavor,
        shapes=_bounds({**(shapes or {}), **({} if batch is None else {"batch": batch})}),
        profiles=tuple(_bounds(profile) for profile in profiles),
        workspace_bytes=workspace_bytes,
        optimization_level=optimization_level,
        version_compatible=version_compatible,
        hardware_compatibility=hardware_compatibility,
        plugin_in_engine=plugin_in_engine,
        refittable=refittable,
        layer_report=layer_report is not None,
    )
    built = engine_from_onnx(artifact, options, _read_cache(timing_cache), progress)
    write_engine(output, built.plan, built.info)
    if timing_cache is not None and built.timing_cache is not None:
        write_whole(timing_cache, built.timing_cache)
    if layer_report is not None and built.layers is not None:
        write_whole(layer_report, built.layers.encode())
    return Built(open_artifact(output))


def _bounds(shapes: Mapping[str, Bounds | int]) -> dict[str, Bounds]:
    return {word: (size, size, size) if isinstance(size, int) else size for word, size in shapes.items()}


def _read_cache(path: str | Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes() if Path(path).exists() else b""
    except OSError as error:
        raise ConfigError(f"The timing cache {path} cannot be read: {error.strerror}.") from error
