"""``vimdeploy convert``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vimdeploy.cli.console import parity_document, phases, print_json, print_kept, print_next, print_parity, say
from vimdeploy.cli.options import (
    PATH,
    batch_option,
    image_size_option,
    json_option,
    loops_option,
    model_option,
    portable_option,
    seed_option,
    uint8_option,
)

if TYPE_CHECKING:
    from vimdeploy.api.convert import Converted


@click.command()
@click.argument("model", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="Write this ONNX file.")
@click.option(
    "--precision",
    type=click.Choice(["fp16", "bf16"]),
    help="Store weights and compute matrix products in this type: fp16 has more digits, bf16 the range of float32. "
    "Default: the precision of MODEL.",
)
@uint8_option
@portable_option
@batch_option
@loops_option
@click.option(
    "--images",
    type=PATH,
    metavar="DIR",
    help="Look at these pictures. Default: random inputs, which may not reach as far as real ones.",
)
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Look at this many inputs: pictures evenly spread over DIR, or random ones; more of them find rarer extremes.",
)
@seed_option
@image_size_option
@model_option
@click.option(
    "--keep",
    multiple=True,
    metavar="NODE",
    help="Keep this node in float32, if you know that it needs to be. Wildcards (*) are allowed; repeat the option for "
    "more nodes. Default: those whose tensors the type cannot hold.",
)
@json_option
def convert(
    model: Path,
    output: Path,
    precision: str | None,
    uint8_input: bool,
    portable: bool,
    batch: int | None,
    loops: bool,
    images: Path | None,
    count: int,
    seed: int,
    image_size: tuple[int, int] | None,
    exported_from: str | None,
    keep: tuple[str, ...],
    as_json: bool,
) -> None:
    """Bring a file to float16 or bfloat16, half the size, to pictures of bytes, or into the portable form that any
    runtime takes.

    MODEL is a file of vimdeploy export. For another precision it is in float32, and sample inputs go through it: a node
    stays in float32 if one of its tensors comes close to overflowing the new type, or is so small that it would lose
    precision. vimdeploy inspect lists these nodes and the reasons.

    A portable file has no operators of vimdeploy's own and no free sizes. Standard operators compute as the file's
    function bodies do, so with ONNX Runtime and TensorRT the file that it is made from is several times as fast.

    \b
    vimdeploy convert vim_tiny.onnx -o vim_tiny_fp16.onnx --precision fp16 --images pictures
    vimdeploy convert vim_tiny.onnx -o vim_tiny_fp16.onnx --precision fp16 --keep 'layers.0.mixer.*'
    vimdeploy convert vim_tiny.onnx -o vim_tiny_uint8.onnx --uint8-input
    vimdeploy convert vim_tiny.onnx -o vim_tiny_portable.onnx --portable
    vimdeploy convert vim_tiny.onnx -o vim_tiny_unrolled.onnx --portable --no-loops --batch 8

    The file is written only if its answers are those of MODEL; if they are not, the exit code is 1.
    """
    from vimdeploy.api.convert import convert as convert_model
    from vimdeploy.artifact import require_onnx

    source = require_onnx(model)
    with phases("Converting") as progress:
        made = convert_model(
            source,
            output,
            precision,
            uint8_input=uint8_input,
            portable=portable,
            batch=batch,
            loops=loops,
            images=images,
            exported_from=exported_from,
            count=count,
            seed=seed,
            image_size=image_size,
            keep=keep,
            progress=progress,
        )
    if as_json:
        print_json(_document(model, source.bytes, made))
    else:
        _print(model, source.bytes, made)
        print_next("verify", output, against=model, images=images, model=exported_from)


def _document(model: Path, bytes_before: int, made: Converted) -> dict[str, object]:
    return {
        "model": str(model),
        "output": str(made.artifact),
        "precision": made.artifact.info.precision,
        "form": made.artifact.info.form,
        "bytes_before": bytes_before,
        "bytes": made.artifact.bytes,
        "inputs": made.inputs,
        "kept_in_float32": made.artifact.info.kept_in_float32,
        "ranges": {name: {**dataclasses.asdict(r), "fault": r.fault} for name, r in made.ranges.items()},
        "parity": parity_document(made.parity),
    }


def _print(model: Path, bytes_before: int, made: Converted) -> None:
    info = made.artifact.info
    parts = (info.name, info.size_text, info.precision, info.form, f"{made.artifact.bytes / 1e6:.1f} MB")
    say(f"{made.artifact}: {', '.join(part for part in parts if part)} (before: {bytes_before / 1e6:.1f} MB)")
    if made.ranges:
        largest = max(made.ranges, key=lambda name: made.ranges[name].largest)
        say(
            f"Looked at {made.inputs}: the largest value is {made.ranges[largest].largest:.3g}, in {largest}; "
            f"{len(info.kept_in_float32)} nodes are kept in float32"
        )
    print_kept(info)
    print_parity(made.parity, str(model))
