"""``vimdeploy extract``."""

from __future__ import annotations

from pathlib import Path

import click

from vimdeploy.cli.console import no_answer, print_json, say, tally
from vimdeploy.cli.options import (
    PATH,
    ImageSize,
    artifact_argument,
    cuda_graphs_option,
    device_option,
    engine_code_option,
    images_argument,
    json_option,
    operators_option,
    precision_option,
    providers_option,
    resume_option,
    runtime_option,
    threads_option,
    verbose_option,
    workers_option,
)


@click.command()
@artifact_argument
@images_argument
@click.option(
    "-o",
    "--output",
    type=PATH,
    metavar="DIR",
    required=True,
    help="Write the vectors to this folder, which is made if it is not there: 00000.safetensors and so on, and beside "
    "each an index, 00000.csv, that says which picture each row is of, and which have no vector.",
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["safetensors", "parquet"]),
    default="safetensors",
    show_default=True,
    help="Choose the kind of file: safetensors for arrays in Python, parquet for tables, in which the picture's name "
    "stands beside its vector.",
)
@click.option(
    "--shard-size",
    type=click.IntRange(1, 1_000_000),
    default=10_000,
    show_default=True,
    metavar="N",
    help="Write a file for this many pictures, which are held in memory until then.",
)
@resume_option
@click.option(
    "--image-size",
    type=ImageSize(),
    metavar=ImageSize.name,
    help="Prepare the pictures in this size in pixels, if the file leaves it open. Default: as the recipe has it; if "
    "that crops, each picture's own, rounded to what the model takes.",
)
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    metavar="N",
    help="Run this many pictures together, which may be faster and takes more memory. Default: 8, but on a CPU no more "
    "pixels than 8 pictures of 224x224 have, because it is no faster with more.",
)
@workers_option
@runtime_option
@precision_option
@device_option
@providers_option
@cuda_graphs_option
@operators_option
@threads_option
@engine_code_option
@verbose_option
@json_option
def extract(
    artifact: Path,
    images: tuple[str, ...],
    output: Path,
    file_format: str,
    shard_size: int,
    resume: bool,
    image_size: tuple[int, int] | None,
    batch: int | None,
    workers: int | None,
    runtime: str,
    precision: str | None,
    device: str,
    providers: tuple[str, ...] | None,
    cuda_graphs: bool,
    operators: str,
    threads: int | None,
    allow_engine_code: bool,
    as_json: bool,
) -> None:
    """Write a vector for each of many pictures.

    ARTIFACT is a file of the task features, whose vector is what stands for the whole picture, or of classification,
    whose vector is the logits. IMAGES are pictures, folders of them and all below, patterns in quotes, addresses, lists
    in a .txt, or - for a list on standard input, as vimdeploy run takes them.

    A picture that cannot be read is in the index with its error, and the exit code is 1. Shards are written whole, and
    an interrupted command writes the one that it has begun.

    \b
    vimdeploy extract features.onnx photographs -o vectors
    vimdeploy extract features.onnx photographs -o vectors --format parquet --resume
    """
    import dataclasses

    from vimdeploy.api.extract import extract as extract_
    from vimdeploy.errors import ExecutionError
    from vimdeploy.text import counted

    with tally() as told:
        found = extract_(
            artifact,
            images,
            output,
            file_format=file_format,
            shard_size=shard_size,
            resume=resume,
            image_size=image_size,
            batch=batch,
            workers=workers,
            runtime=runtime,
            precision=precision,
            device=device,
            providers=providers,
            cuda_graphs=cuda_graphs,
            threads=threads,
            operators=operators,
            allow_engine_code=allow_engine_code,
            progress=told,
        )
    if as_json:
        print_json(dataclasses.asdict(found) | {"errors": [str(error) for error in found.errors]})
    else:
        before = f", beside {counted(found.before, 'picture')} before" if found.before else ""
        say(f"{output}: {counted(found.vectors, 'vector')} in {counted(found.shards, 'shard')}{before}")
    if found.without:
        raise ExecutionError(no_answer(found.errors, found.without, found.vectors + found.without, "vector"))
