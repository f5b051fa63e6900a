"""``vimdeploy quantize``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vimdeploy.cli.console import phases, print_json, print_next, print_table, say, with_interval
from vimdeploy.cli.options import PATH, image_size_option, json_option, model_option, threads_option

if TYPE_CHECKING:
    from vimdeploy.api.quantize import Quantized


@click.command()
@click.argument("model", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="Write this ONNX file.")
@click.option(
    "--images",
    type=PATH,
    metavar="DIR",
    help="Choose the scales and judge the answers by these pictures; with a sub-folder per class, accuracy counts. A "
    "file of FILE.py:FUNCTION may do without: example and random inputs are taken then.",
)
@click.option(
    "--budget",
    type=click.FloatRange(min=0),
    metavar="POINTS",
    help="Set the accuracy that you are willing to lose, in percentage points. Without class folders: how often the "
    "top-1 answer may differ from float32. For a file of FILE.py:FUNCTION: how much the outputs may change, in per "
    "cent of their standard deviation. Default: 0.5, and 5 for those.",
)
@click.option(
    "--keep",
    multiple=True,
    metavar="NODE",
    help="Keep this layer in float32, if you know that it needs to be. Wildcards (*) are allowed; repeat the option "
    "for more layers. Default: those that the budget does not allow.",
)
@image_size_option
@model_option
@threads_option
@json_option
def quantize(
    model: Path,
    output: Path,
    images: Path | None,
    budget: float | None,
    keep: tuple[str, ...],
    image_size: tuple[int, int] | None,
    exported_from: str | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Bring Linear layers to int8, as many as a budget of accuracy allows.

    MODEL is a float32 file of vimdeploy export. In OUTPUT the Linear layers are int8, by QuantizeLinear and
    DequantizeLinear nodes that ONNX Runtime and TensorRT take; the scan, the convolutions, the norms and the residual
    stay as they are.

    \b
    vimdeploy quantize vim_tiny.onnx -o vim_tiny.int8.onnx --images pictures
    vimdeploy quantize vim_tiny.onnx -o vim_tiny.int8.onnx --images pictures --budget 1 --keep '*.out_proj.*'

    Give a few hundred pictures that the model is meant for. The table shows what each layer costs if it alone is int8.
    Layers stay in float32, the most sensitive first, until the budget is kept; the file says which and why (vimdeploy
    inspect).
    """
    from vimdeploy.api.quantize import quantize as quantize_model
    from vimdeploy.artifact import require_onnx

    source = require_onnx(model)
    with phases("Quantizing") as progress:
        made = quantize_model(
            source,
            output,
            images,
            exported_from=exported_from,
            budget=budget,
            keep=keep,
            image_size=image_size,
            threads=threads,
            progress=progress,
        )
    if as_json:
        print_json(_document(made))
    else:
        _print(made, source.bytes)
        print_next("verify", output, against=model, images=images, model=exported_from)


def _document(made: Quantized) -> dict[str, object]:
    measures = [dataclasses.asdict(measure) for measure in made.agreement.measures]
    return {
        "output": str(made.artifact),
        "bytes": made.artifact.bytes,
        "images": made.images,
        "judged_by": made.judged_by,
        "points_lost": made.points_lost,
        "measures": measures,
        "layers": [dataclasses.asdict(judged) for judged in made.layers],
        "kept_in_float32": dict(made.artifact.info.kept_in_float32),
    }


def _print(made: Quantized, float32_bytes: int) -> None:
    info = made.artifact.info
    rows = [
        (
            judged.layer,
            "yes" if judged.smoothed else "no",
            f"{judged.sqnr_db:.1f}",
            f"{judged.output_error:.2%}",
            "float32" if judged.layer in info.kept_in_float32 else "int8",
        )
        for judged in made.layers
    ]
    print_table(
        ("layer, alone in int8", "smoothed", "SQNR dB", "output changes (standard deviations)", "stored as"), rows
    )
    count = sum(judged.layer not in info.kept_in_float32 for judged in made.layers)
    say(
        f"{made.artifact}: {info.name}, {info.size_text}, int8, {made.artifact.bytes / 1e6:.1f} MB "
        f"(float32: {float32_bytes / 1e6:.1f} MB); {count} of {len(made.layers)} Linear layers in int8"
    )
    measures = [
        f"{measure.name} {with_interval(measure.candidate)}"
        + (f", float32 {measure.reference.part:.2%}" if measure.reference else "")
        for measure in made.agreement.measures
    ]
    if not measures:
        say(f"On {made.images} inputs: the outputs change by {made.points_lost:.2f} % of their standard deviation.")
        return
    pictures = "picture" if made.images == 1 else "pictures"
    lost = f"{made.points_lost:.2f} points of {made.judged_by} lost"
    say(
        f"On {made.images} {pictures}: {'; '.join(measures)}; {lost}. In brackets: 95 % confidence intervals, for "
        "pictures that were not seen."
    )
