"""``vimdeploy quantize``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vimdeploy.cli.console import phases, print_json, print_table
from vimdeploy.cli.options import PATH, json_option, threads_option
from vimdeploy.errors import InputError

if TYPE_CHECKING:
    from vimdeploy.converters.quantize.choose import Int8Model


@click.command()
@click.argument("model", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="The ONNX file to write.")
@click.option(
    "--images",
    type=PATH,
    metavar="DIR",
    required=True,
    help="Real pictures; with a sub-folder a class, accuracy counts.",
)
@click.option(
    "--budget",
    type=click.FloatRange(min=0),
    default=0.5,
    show_default=True,
    metavar="POINTS",
    help="What int8 may cost: points of a hundred of accuracy, or, without classes, of equal first answers.",
)
@click.option(
    "--keep", multiple=True, metavar="NODE", help="A layer that stays in float32; '*.out_proj.*' for all such."
)
@threads_option
@json_option
def quantize(
    model: Path,
    output: Path,
    images: Path,
    budget: float,
    keep: tuple[str, ...],
    threads: int | None,
    as_json: bool,
) -> None:
    """Linear layers to int8, as many as a budget of accuracy allows.

    MODEL is a float32 file of vimdeploy export. In OUTPUT the Linear layers are int8, by QuantizeLinear and
    DequantizeLinear nodes that ONNX Runtime and TensorRT take; the scan, the convolutions, the norms and the residual
    are what they were.

    \b
    vimdeploy quantize vim_tiny.onnx -o vim_tiny.int8.onnx --images pictures
    vimdeploy quantize vim_tiny.onnx -o vim_tiny.int8.onnx --images pictures --budget 1 --keep '*.out_proj.*'

    The pictures choose the scales and judge the answers: a few hundred of those that the model is meant for. Shown is
    what each layer costs when it alone is int8. Layers stay in float32, the most sensitive first, until the budget is
    kept to; the file says which and why (vimdeploy inspect).
    """
    from vimdeploy.artifact import read_onnx
    from vimdeploy.converters.quantize.answers import Pictures
    from vimdeploy.converters.quantize.choose import int8_from_float32
    from vimdeploy.files import check_writable, write_whole
    from vimdeploy.preprocess import find_images

    check_writable(output)
    if model.resolve() == output.resolve():
        raise InputError("MODEL and OUTPUT must be different files.")
    proto, info = read_onnx(model)
    folder = find_images(images)
    pictures = Pictures(folder.paths, folder.class_indices(info.labels, info.config.num_classes))
    with phases("Quantizing") as report:
        made = int8_from_float32(proto, info, pictures, budget, keep, threads, report)
    data = made.proto.SerializeToString()
    write_whole(output, data)
    if as_json:
        print_json(_facts(made, output, len(data)))
    else:
        _print(made, output, len(data), model.stat().st_size)


def _facts(made: Int8Model, output: Path, size: int) -> dict[str, object]:
    facts = {field.name: getattr(made, field.name) for field in dataclasses.fields(made)}
    del facts["proto"], facts["info"]
    layers = [dataclasses.asdict(judged) for judged in made.layers]
    kept = dict(made.info.kept_in_float32)
    return {"output": str(output), "bytes": size, **facts, "layers": layers, "kept_in_float32": kept}


def _print(made: Int8Model, output: Path, size: int, float32_size: int) -> None:
    kept = made.info.kept_in_float32
    rows = [
        (
            judged.layer,
            "yes" if judged.smoothed else "no",
            f"{judged.sqnr_db:.1f}",
            f"{judged.logit_error:.2%}",
            "float32" if judged.layer in kept else "int8",
        )
        for judged in made.layers
    ]
    print_table(("layer, alone in int8", "smoothed", "SQNR dB", "logits change by, of their std", "is in"), rows)
    count = sum(judged.layer not in kept for judged in made.layers)
    height, width = made.info.config.image_size
    click.echo(
        f"{output}: {made.info.variant}, {height}x{width}, int8, {size / 1e6:.1f} MB "
        f"(float32: {float32_size / 1e6:.1f} MB); {count} of {len(made.layers)} Linear layers in int8"
    )
    answers = f"Same first answer as in float32 for {made.agreement:.2%} of {made.pictures} pictures"
    if made.accuracy is not None:
        answers += f"; accuracy {made.accuracy:.2%}, in float32 {made.float32_accuracy:.2%}"
    click.echo(answers)
