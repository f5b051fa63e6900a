"""``vimdeploy run``."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vimdeploy.cli.console import phases, print_json, print_table, say
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
    help="Show this many of the most probable classes of each picture, because the rest are seldom of interest.",
)
@click.option(
    "--image-size",
    type=ImageSize(),
    metavar=ImageSize.name,
    help="Prepare the pictures in this size in pixels, if the file leaves it open. Default: each picture's own size, "
    "rounded to what the model takes.",
)
@click.option(
    "--save",
    type=PATH,
    metavar="DIR",
    help="Save each answer to this folder, for programs that go on with it: arrays as NAME.npz, a drawing as NAME.png; "
    "NAME is the picture's. Only for answers that are arrays, such as features. Default: nothing is saved.",
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
    from vimdeploy.errors import ConfigError, OutputError
    from vimdeploy.files import check_outputs
    from vimdeploy.progress import tracked
    from vimdeploy.runtimes.load import load

    places = [] if save is None else [save / name for name in _names(images)]
    if save is not None and save.is_file():
        raise OutputError(f"Wanted a folder to save to, found the file {save}.")
    if save is not None and save.is_dir():
        check_outputs([f"{place}{suffix}" for place in places for suffix in (".npz", ".png")], [artifact, *images])
    session = load(artifact, device, threads, operators, allow_engine_code=allow_engine_code)
    answers = []
    with session, phases("Running") as progress:
        for image in tracked(images, "Running", len(images), progress):
            answers.append(session.predict(image, image_size).first(top))
            if save is not None and not answers[0].arrays():
                raise ConfigError(
                    "There is nothing to save: the answers of this task are tables; --json has them for programs."
                )
    if save is not None:
        _save(save, places, images, answers)
    if as_json:
        documents = [{"image": str(image), **a.document()} for image, a in zip(images, answers, strict=True)]
        print_json({"session": session.description, "images": documents})
        return
    say(session.description, err=True)
    rows = [
        (str(image) if number == 0 else "", *row)
        for image, answer in zip(images, answers, strict=True)
        for number, row in enumerate(answer.rows())
    ]
    print_table(("image", *answers[0].columns), rows)


def _names(images: tuple[Path, ...]) -> list[str]:
    """The name of each picture without its suffix; the later of two equal names gets a number."""
    names: list[str] = []
    for image in images:
        numbered = (image.stem if number == 1 else f"{image.stem}_{number}" for number in count(1))
        names.append(next(name for name in numbered if name not in names))
    return names


def _save(folder: Path, places: list[Path], images: tuple[Path, ...], answers: list[Answer]) -> None:
    """Save each answer at its place, to which the suffix is added."""
    import io

    import numpy as np

    from vimdeploy.errors import OutputError
    from vimdeploy.files import write_whole
    from vimdeploy.preprocess import image_of

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {folder} cannot be made: {error.strerror}.") from error
    for place, image, answer in zip(places, images, answers, strict=True):
        arrays, picture = io.BytesIO(), io.BytesIO()
        np.savez(arrays, **dict[str, Any](answer.arrays()))
        write_whole(f"{place}.npz", arrays.getvalue())
        drawn = answer.picture(image_of(image))
        if drawn is not None:
            drawn.save(picture, "PNG")
            write_whole(f"{place}.png", picture.getvalue())
