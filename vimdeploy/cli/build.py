"""``vimdeploy build``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vimdeploy.cli.console import phases, print_json
from vimdeploy.cli.options import PATH, Batch, Bytes, json_option
from vimdeploy.errors import ConfigError, InputError, ModelFileError

if TYPE_CHECKING:
    from vimdeploy.exporters.tensorrt_engine import BuiltEngine


@click.command()
@click.argument("model", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="The engine to write, with OUTPUT.json beside it.")
@click.option(
    "--flavor",
    type=click.Choice(["tensorrt", "rtx"]),
    default="tensorrt",
    show_default=True,
    help="TensorRT with our plugin, or TensorRT-RTX with the function bodies.",
)
@click.option("--batch", type=Batch(), default="1,1,8", show_default=True, help="Smallest, best and largest batch.")
@click.option("--workspace", type=Bytes(), help="Scratch memory that a layer may use. Default: all of the GPU's.")
@click.option("--timing-cache", type=PATH, metavar="FILE", help="What earlier builds measured; made where it is not.")
@click.option("--optimization-level", type=click.IntRange(0, 5), help="0 builds fastest, 5 searches longest.")
@click.option("--version-compatible", is_flag=True, help="Run on newer versions of TensorRT too.")
@click.option(
    "--hardware-compatible",
    type=click.Choice(["none", "ampere_plus", "same_compute_capability"]),
    default="none",
    show_default=True,
    help="Run on other GPUs too.",
)
@click.option("--plugin-in-engine", is_flag=True, help="Keep the plugin in the engine; wants --version-compatible.")
@click.option("--layer-report", type=PATH, metavar="FILE.json", help="What TensorRT made of the layers; needs a GPU.")
@json_option
def build(
    model: Path,
    output: Path,
    flavor: str,
    batch: tuple[int, int, int],
    workspace: int | None,
    timing_cache: Path | None,
    optimization_level: int | None,
    version_compatible: bool,
    hardware_compatible: str,
    plugin_in_engine: bool,
    layer_report: Path | None,
    as_json: bool,
) -> None:
    """ONNX to an engine of TensorRT or TensorRT-RTX.

    MODEL is a file of vimdeploy export. Its precision is the engine's, its image size too; its batch may be anything
    from MIN to MAX.

    \b
    vimdeploy build vim_tiny.onnx -o vim_tiny.engine --batch 1,8,32
    vimdeploy build vim_tiny.onnx -o vim_tiny.engine --flavor rtx     needs no GPU to build

    Flavor tensorrt builds on the GPU that the engine is for. The engine can be read by trtexec and Triton too; what
    vimdeploy wants to know of it is in OUTPUT.json.
    """
    from vimdeploy.engine_file import is_engine, sidecar_path, write_engine
    from vimdeploy.files import check_writable, write_whole

    if is_engine(model):
        raise ModelFileError(f"{model} is an engine already; wanted the ONNX file that it was built from.")
    places = [place for place in (output, sidecar_path(output), timing_cache, layer_report) if place is not None]
    for place in places:
        check_writable(place)
    files = [file.resolve() for file in (model, *places)]
    if len(set(files)) < len(files):
        raise InputError(
            "The model, OUTPUT, OUTPUT.json, the timing cache and the layer report must be different files."
        )

    from vimdeploy.exporters.tensorrt_engine import BuildOptions, engine_from_onnx

    options = BuildOptions(
        flavor=flavor,
        batch=batch,
        workspace_bytes=workspace,
        optimization_level=optimization_level,
        version_compatible=version_compatible,
        hardware_compatibility=hardware_compatible,
        plugin_in_engine=plugin_in_engine,
        layer_report=layer_report is not None,
    )
    with phases("Building the engine") as report:
        built = engine_from_onnx(model, options, _read_cache(timing_cache), report)
    write_engine(output, built.plan, built.info)
    if timing_cache is not None and built.timing_cache is not None:
        write_whole(timing_cache, built.timing_cache)
    if layer_report is not None and built.layers is not None:
        write_whole(layer_report, built.layers.encode())
    _print(output, built, as_json)


def _read_cache(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise ConfigError(f"The timing cache {path} cannot be read: {error.strerror}.") from error


def _print(output: Path, built: BuiltEngine, as_json: bool) -> None:
    info = built.info
    if as_json:
        print_json({"engine": str(output), "bytes": len(built.plan), **dataclasses.asdict(info)})
        return
    height, width = info.model.config.image_size
    batches = ", ".join(str(shape[0]) for shape in next(iter(info.profile.values())))
    where = f"on {info.device} ({info.compute_capability})" if info.device else "without a GPU"
    click.echo(
        f"{output}: {info.model.variant}, {height}x{width}, {info.model.precision}, {len(built.plan) / 1e6:.1f} MB"
    )
    click.echo(
        f"Built by {info.flavor} {info.tensorrt_version} {where}, batch {batches} (min, opt, max), "
        f"our operators by {info.operators}"
    )
