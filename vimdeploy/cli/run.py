"""``vimdeploy run``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vimdeploy.cli.console import phases, print_json, print_table
from vimdeploy.cli.options import (
    PATH,
    ImageSize,
    artifact_argument,
    device_option,
    engine_code_option,
    json_option,
    operators_option,
    threads_option,
)

if TYPE_CHECKING:
    from vimdeploy.tasks.base import Answer


@click.command()
@artifact_argument
@click.argument("images", type=PATH, nargs=-1, required=True)
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Show this many of the most probable classes of each picture.",
)
@click.option(
    "--image-size",
    type=ImageSize(),
    help="Prepare the pictures in this size in pixels, if the file leaves it open. Default: each picture's own size, "
    "rounded to what the model takes.",
)
@click.option(
    "--save",
    type=PATH,
    metavar="DIR",
    help="Save each answer to this folder, for programs that go on with it: arrays as NAME.npz, a picture as NAME.png. "
    "For answers that are more than a table, such as features.",
)
@device_option
@operators_option
@threads_option
@engine_code_option
@json_option
def run(
    artifact: Path,
    images: tuple[Path, ...],
    top: int,
    image_size: tuple[int, int] | None,
    save: Path | None,
    device: str,
    operators: str,
    threads: int | None,
    allow_engine_code: bool,
    as_json: bool,
) -> None:
    """Run a file on pictures, and show its answers.

    ARTIFACT is a file of vimdeploy export or vimdeploy build; IMAGES are pictures of any kind that Pillow reads. They
    are prepared by the recipe that the file carries.

    \b
    vimdeploy run vim_tiny.onnx cat.jpg dog.png --top 3
    vimdeploy run features.onnx cat.jpg --save features
    """
    from vimdeploy.progress import tracked
    from vimdeploy.runtimes.load import load

    session = load(artifact, device, threads, operators, allow_engine_code=allow_engine_code)
    with session, phases("Running") as progress:
        answers = [
            session.predict(image, image_size).first(top) for image in tracked(images, "Running", len(images), progress)
        ]
    if save is not None:
        _save(save, images, answers)
    if as_json:
        documents = [{"image": str(image), **a.document()} for image, a in zip(images, answers, strict=True)]
        print_json({"session": session.description, "images": documents})
        return
    click.echo(session.description, err=True)
    rows = [
        (str(image) if number == 0 else "", *row)
        for image, answer in zip(images, answers, strict=True)
        for number, row in enumerate(answer.rows())
    ]
    print_table(("image", *answers[0].columns), rows)


def _save(folder: Path, images: tuple[Path, ...], answers: list[Answer]) -> None:
    """Each answer under the name of its picture, the later of two equal names with a number."""
    import io

    import numpy as np

    from vimdeploy.errors import ConfigError, OutputError
    from vimdeploy.files import write_whole
    from vimdeploy.preprocess import image_of

    if not answers[0].arrays():
        raise ConfigError(
            "There is nothing to save: the answers of this task are tables; --json has them for programs."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {folder} cannot be made: {error.strerror}.") from error
    taken: dict[str, int] = {}
    for image, answer in zip(images, answers, strict=True):
        taken[image.stem] = taken.get(image.stem, 0) + 1
        stem = image.stem if taken[image.stem] == 1 else f"{image.stem}_{taken[image.stem]}"
        arrays, picture = io.BytesIO(), io.BytesIO()
        np.savez(arrays, **dict[str, Any](answer.arrays()))
        write_whole(folder / f"{stem}.npz", arrays.getvalue())
        drawn = answer.picture(image_of(image))
        if drawn is not None:
            drawn.save(picture, "PNG")
            write_whole(folder / f"{stem}.png", picture.getvalue())
