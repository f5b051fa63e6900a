"""``vimdeploy convert``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vimdeploy.cli.console import print_json, track
from vimdeploy.cli.made_file import print_answers, print_kept, refuse_other_answers
from vimdeploy.cli.options import PATH, json_option
from vimdeploy.errors import InputError, ModelFileError

if TYPE_CHECKING:
    from vimdeploy.artifact import ModelInfo
    from vimdeploy.converters.conversion import ConvertedModel
    from vimdeploy.converters.ranges import Range
    from vimdeploy.parity.inputs import Inputs
    from vimdeploy.parity.results import Verification

BATCH = 8


@click.command()
@click.argument("model", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="The ONNX file to write.")
@click.option("--precision", type=click.Choice(["fp16", "bf16"]), required=True, help="Of weights and products.")
@click.option("--images", type=PATH, metavar="DIR", help="Real pictures to look at; without, random inputs.")
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Inputs to look at: pictures evenly spread over DIR, or random ones.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random inputs.")
@click.option("--keep", multiple=True, metavar="NODE", help="Stays in float32; * stands for anything. May come again.")
@json_option
def convert(
    model: Path,
    output: Path,
    precision: str,
    images: Path | None,
    count: int,
    seed: int,
    keep: tuple[str, ...],
    as_json: bool,
) -> None:
    """A float32 file to float16 or bfloat16, half the size.

    MODEL is a file of vimdeploy export. Sample inputs go through it, and each tensor that would be stored in the new
    type is looked at: its nodes stay in float32 where it comes too near to the type's end, or lies so low that the type
    has few digits for it. vimdeploy inspect tells them again, with the reasons.

    \b
    vimdeploy convert vim_tiny.onnx -o vim_tiny_fp16.onnx --precision fp16 --images pictures
    vimdeploy convert vim_tiny.onnx -o vim_tiny_fp16.onnx --precision fp16 --keep 'layers.0.mixer.*'

    The file is written when its answers are those of MODEL, and not before; exits with 1 when they are not.
    """
    from vimdeploy.artifact import read_onnx
    from vimdeploy.engine_file import is_engine
    from vimdeploy.files import check_writable, write_whole

    if is_engine(model):
        raise ModelFileError(f"{model} is an engine; wanted the ONNX file that it was built from.")
    check_writable(output)
    if model.resolve() == output.resolve():
        raise InputError(f"Wanted another file for the result than MODEL, found {output} for both.")
    proto, info = read_onnx(model)
    inputs = _inputs(info, images, count, seed)
    if images is None:
        click.echo(
            "Note: random inputs are looked at; tensors of real pictures may reach further: --images DIR.", err=True
        )

    from vimdeploy.converters.conversion import converted_onnx
    from vimdeploy.parity.check import check_parity
    from vimdeploy.runtimes.onnxruntime import OnnxRuntimeSession, sessions_of_all_operators

    # One at a time: of a batch, all inner values are in memory.
    converted = converted_onnx(
        proto, precision, track(inputs.batches(1), len(inputs.names), "Looking at the tensors"), keep
    )
    data = converted.model.SerializeToString()
    results = check_parity(
        OnnxRuntimeSession(model, info, device="cpu"),
        sessions_of_all_operators(data, converted.info),
        track(inputs.batches(BATCH), -(-len(inputs.names) // BATCH), "Comparing"),
        names=inputs.names,
    )
    refuse_other_answers(results, str(model), output)
    write_whole(output, data)
    if as_json:
        print_json(_document(model, output, inputs.description, converted, results))
    else:
        _print(model, output, inputs.description, converted, results)


def _inputs(info: ModelInfo, images: Path | None, count: int, seed: int) -> Inputs:
    """What the model is looked at with."""
    from vimdeploy.parity.inputs import picture_inputs, random_inputs
    from vimdeploy.preprocess import find_images

    config = info.config
    if images is None:
        return random_inputs((config.in_channels, *config.image_size), count, seed)
    paths = find_images(images).paths
    return picture_inputs(paths[:: -(-len(paths) // count)], config.image_size, info.recipe, None)


def _document(
    model: Path, output: Path, inputs: str, converted: ConvertedModel, results: list[Verification]
) -> dict[str, object]:
    return {
        "model": str(model),
        "output": str(output),
        "precision": converted.info.precision,
        "bytes_before": model.stat().st_size,
        "bytes": output.stat().st_size,
        "inputs": inputs,
        "kept_in_float32": converted.info.kept_in_float32,
        "ranges": {name: _range(found) for name, found in converted.ranges.items()},
        "parity": [
            {
                "candidate": result.candidate.description,
                "largest_error": result.logits.relative,
                "passed": result.passed,
            }
            for result in results
        ],
    }


def _range(found: Range) -> dict[str, object]:
    return {**dataclasses.asdict(found), "fault": found.fault}


def _print(model: Path, output: Path, inputs: str, converted: ConvertedModel, results: list[Verification]) -> None:
    info = converted.info
    height, width = info.config.image_size
    before, after = (path.stat().st_size / 1e6 for path in (model, output))
    click.echo(f"{output}: {info.variant}, {height}x{width}, {info.precision}, {after:.1f} MB, before {before:.1f} MB")
    largest = max(converted.ranges, key=lambda name: converted.ranges[name].largest)
    click.echo(
        f"{inputs} looked at; the largest value is {converted.ranges[largest].largest:.3g}, in {largest}; "
        f"{len(info.kept_in_float32)} nodes are kept in float32"
    )
    print_kept(info)
    print_answers(results, str(model))
