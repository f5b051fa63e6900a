"""``vimdeploy run``."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from vimdeploy.cli.console import print_json, print_table, track
from vimdeploy.cli.options import (
    PATH,
    artifact_argument,
    device_option,
    engine_code_option,
    engine_options,
    json_option,
    operators_option,
    threads_option,
)


@click.command()
@artifact_argument
@click.argument("images", type=PATH, nargs=-1, required=True)
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, help="Answers to each picture.")
@device_option
@operators_option
@threads_option
@engine_code_option
@json_option
def run(
    artifact: Path,
    images: tuple[Path, ...],
    top: int,
    device: str,
    operators: str,
    threads: int | None,
    allow_engine_code: bool,
    as_json: bool,
) -> None:
    """Pictures to answers.

    ARTIFACT is a file of vimdeploy export or vimdeploy build; IMAGES are pictures of any kind that Pillow reads. They
    are prepared by the recipe that the file carries.

    \b
    vimdeploy run vim_tiny.onnx cat.jpg dog.png --top 3
    """
    import vimdeploy

    options = engine_options(artifact, allow_engine_code)
    session = vimdeploy.load(artifact, device=device, threads=threads, operators=operators, **options)
    answers = [session.classify([image], top)[0] for image in track(images, len(images), "Classifying")]
    if as_json:
        named = [[dataclasses.asdict(prediction) for prediction in answer] for answer in answers]
        print_json(
            {
                "session": session.description,
                "images": [{"image": str(i), "top": top_} for i, top_ in zip(images, named, strict=True)],
            }
        )
        return
    click.echo(session.description, err=True)
    rows = [
        (str(image) if rank == 0 else "", f"{prediction.probability:7.2%}", prediction.label)
        for image, answer in zip(images, answers, strict=True)
        for rank, prediction in enumerate(answer)
    ]
    print_table(("image", "probability", "class"), rows)
