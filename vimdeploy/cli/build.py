"""``vimdeploy build``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vimdeploy.cli.console import phases, print_json, print_next, say
from vimdeploy.cli.options import PATH, Bounds, Bytes, NamedBounds, NamedBoundsList, json_option, verbose_option
from vimdeploy.engine_file import FLAVORS, HARDWARE_COMPATIBILITY

if TYPE_CHECKING:
    from vimdeploy.api.build import Built


@click.command()
@click.argument("model", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="Write this engine, and OUTPUT.json beside it.")
@click.option(
    "--flavor",
    type=click.Choice(FLAVORS),
    default="tensorrt",
    show_default=True,
    help="Build for TensorRT with our plugin, or for TensorRT-RTX with the function bodies, which needs no GPU.",
)
@click.option(
    "--batch",
    type=Bounds(),
    default=None,
    show_default="1,1,8, or the file's if that is fixed",
    help="Set the smallest, the best and the largest batch, or one number, which is fixed in the engine then; the "
    "engine is tuned for the best one.",
)
@click.option(
    "--shape",
    "shapes",
    type=NamedBounds(),
    multiple=True,
    help="Set the smallest, the best and the largest size of another free dimension of a dynamic file, such as "
    "height=224,640,1248 in pixels; repeat the option for width. Default: the bounds that the file was exported with.",
)
@click.option(
    "--profile",
    "profiles",
    type=NamedBoundsList(),
    multiple=True,
    help="Tune the engine for several ranges, each with kernels of its own: repeat the option, such as --profile "
    "batch=1 --profile batch=8,32,32; sizes go into the same quotes: 'batch=1 height=640 width=640'. Default: one "
    "profile, of --batch and --shape, which also hold for what a profile does not name.",
)
@click.option(
    "--workspace",
    type=Bytes(),
    help="Limit the scratch memory that a layer may use, such as 512M or 2G, if other programs share the GPU. Default: "
    "all of the GPU's.",
)
@click.option(
    "--timing-cache",
    type=PATH,
    metavar="FILE",
    help="Keep timings in this file, which makes the next build faster; it is created if it does not exist.",
)
@click.option(
    "--optimization-level",
    type=click.IntRange(0, 5),
    help="Search for fast kernels this hard: 0 builds fastest, 5 searches longest. Default: TensorRT's own.",
)
@click.option(
    "--version-compatible",
    is_flag=True,
    help="Let the engine run on newer versions of TensorRT too. It carries code then, which its users have to allow.",
)
@click.option(
    "--hardware-compatible",
    type=click.Choice(HARDWARE_COMPATIBILITY),
    default="none",
    show_default=True,
    help="Let the engine run on other GPUs too, at some cost of speed.",
)
@click.option(
    "--plugin-in-engine",
    is_flag=True,
    help="Store the plugin in the engine, so that it runs without vimdeploy; needs --version-compatible.",
)
@click.option(
    "--refittable",
    is_flag=True,
    help="Let vimdeploy refit give the engine the weights of another file of the same network without a new choice of "
    "kernels; such an engine may be slower.",
)
@click.option(
    "--layer-report",
    type=PATH,
    metavar="FILE.json",
    help="Write what TensorRT made of the layers to this file, to see what it fused; needs a GPU. Default: no report.",
)
@verbose_option
@json_option
def build(
    model: Path,
    output: Path,
    flavor: str,
    batch: tuple[int, int, int] | None,
    shapes: tuple[tuple[str, tuple[int, int, int]], ...],
    profiles: tuple[dict[str, tuple[int, int, int]], ...],
    workspace: int | None,
    timing_cache: Path | None,
    optimization_level: int | None,
    version_compatible: bool,
    hardware_compatible: str,
    plugin_in_engine: bool,
    refittable: bool,
    layer_report: Path | None,
    as_json: bool,
) -> None:
    """Build an engine of TensorRT or TensorRT-RTX from an ONNX file.

    MODEL is a file of vimdeploy export. The engine has its precision, and its image size unless that is dynamic.

    \b
    vimdeploy build vim_tiny.onnx -o vim_tiny.engine --batch 1,8,32
    vimdeploy build vim_tiny.onnx -o vim_tiny.engine --profile batch=1 --profile batch=8,32,32
    vimdeploy build vim_tiny.onnx -o vim_tiny.engine --flavor rtx     needs no GPU to build
    vimdeploy build any_size.onnx -o any_size.engine --shape height=224,640,1248 --shape width=224,640,1248

    Flavor tensorrt builds on the GPU that the engine is for. trtexec and Triton can read the engine too; what vimdeploy
    has to know of it is in OUTPUT.json.
    """
    from vimdeploy.api.build import build as build_engine

    with phases("Building the engine") as progress:
        built = build_engine(
            model,
            output,
            flavor=flavor,
            batch=batch,
            shapes=dict(shapes),
            profiles=profiles,
            workspace_bytes=workspace,
            timing_cache=timing_cache,
            optimization_level=optimization_level,
            version_compatible=version_compatible,
            hardware_compatibility=hardware_compatible,
            plugin_in_engine=plugin_in_engine,
            refittable=refittable,
            layer_report=layer_report,
            progress=progress,
        )
    print_built(output, built, as_json)


def print_built(output: Path, built: Built, as_json: bool) -> None:
    """Print what an engine is, and the command that may come next."""
    engine = built.artifact.engine
    assert engine is not None
    if as_json:
        print_json({"engine": str(output), "bytes": built.artifact.bytes, **dataclasses.asdict(engine)})
        return
    info = engine.model
    shapes = "; or ".join(
        "; ".join(
            f"{name} {', '.join('x'.join(map(str, shape)) for shape in bounds)}" for name, bounds in profile.items()
        )
        for profile in engine.profiles
    )
    where = f"on {engine.device} ({engine.compute_capability})" if engine.device else "without a GPU"
    say(f"{output}: {info.name}, {info.size_text}, {info.precision}, {built.artifact.bytes / 1e6:.1f} MB")
    say(
        f"Built by {engine.flavor} {engine.tensorrt_version} {where}; operators computed by {engine.operators}; "
        f"shapes (min, opt, max): {shapes}"
    )
    if info.task:
        print_next("run", output, "PICTURE")
    else:
        print_next("bench", output)
