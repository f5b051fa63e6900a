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
    from vimdeploy.errors import VimdeployError
    from vimdeploy.runtimes.base import Session
    from vimdeploy.tasks.base import Answer

SHOWN = 5
"""Pictures without an answer whose reasons are told."""


@click.command()
@artifact_argument
@click.argument("images", type=click.Path(readable=False, path_type=Path), nargs=-1, required=True)  # told one by one
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

    ARTIFACT is a file of vimdeploy export or vimdeploy build; IMAGES are pictures: PNG, JPEG, BMP, WebP, TIFF, GIF, PPM
    or AVIF, and for models of other channels than grey or RGB arrays (H, W, C) of uint8 as .npy. They are prepared by
    the recipe that the file carries, as they are stored: an EXIF orientation is told, not applied.

    A picture that has no answer is named at the end, and does not cost the others theirs. The exit code is 2 if a
    picture cannot be read, and 1 if an answer is not finite.

    \b
    vimdeploy run vim_tiny.onnx cat.jpg dog.png --top 3
    vimdeploy run features.onnx cat.jpg --save features
    """
    from vimdeploy.errors import ConfigError, OutputError, VimdeployError
    from vimdeploy.files import check_outputs
    from vimdeploy.progress import tracked
    from vimdeploy.runtimes.load import load

    places = [] if save is None else [save / name for name in _names(images)]
    if save is not None and save.is_file():
        raise OutputError(f"Wanted a folder to save to, found the file {save}.")
    if save is not None and save.is_dir():
        check_outputs([f"{place}{suffix}" for place in places for suffix in (".npz", ".png")], [artifact, *images])
    session = load(artifact, device, threads, operators, allow_engine_code=allow_engine_code)
    results: list[Answer | VimdeployError] = []
    with session, phases("Running") as progress:
        for image in tracked(images, "Running", len(images), progress):
            result = _answer(session, image, image_size)
            if save is not None and not isinstance(result, VimdeployError) and not result.arrays():
                raise ConfigError(
                    "There is nothing to save: the answers of this task are tables; --json has them for programs."
                )
            results.append(result if isinstance(result, VimdeployError) else result.first(top))
    answers = {number: result for number, result in enumerate(results) if not isinstance(result, VimdeployError)}
    errors = [result for result in results if isinstance(result, VimdeployError)]
    if save is not None and answers:
        _save(save, {places[number]: (images[number], answer) for number, answer in answers.items()})
    if as_json and answers:
        documents = [
            {"image": str(image)} | ({"error": str(r)} if isinstance(r, VimdeployError) else r.document())
            for image, r in zip(images, results, strict=True)
        ]
        print_json({"session": session.description, "images": documents})
    elif answers:
        say(session.description, err=True)
        rows = [
            (str(images[number]) if line == 0 else "", *row)
            for number, answer in answers.items()
            for line, row in enumerate(answer.rows())
        ]
        print_table(("image", *next(iter(answers.values())).columns), rows)
    if errors:
        raise _together(errors, len(images))


def _answer(session: Session, image: Path, image_size: tuple[int, int] | None) -> Answer | VimdeployError:
    """The answer to a picture, or why there is none."""
    from vimdeploy.errors import ExecutionError, ImageError

    try:
        answer = session.predict(image, image_size)
    except ImageError as error:
        return error
    except ExecutionError as error:
        return ExecutionError(f"{image}: {error}")
    if answer.not_finite:
        return ExecutionError(
            f"{image} has no answer: {answer.not_finite}. vimdeploy verify finds the first stage of the model that is "
            "wrong."
        )
    return answer


def _together(errors: list[VimdeployError], images: int) -> VimdeployError:
    """One error for some; wrong input goes before failed runs."""
    from vimdeploy.errors import InputError

    first = next((error for error in errors if isinstance(error, InputError)), errors[0])
    if len(errors) == 1:
        return first
    more = f" ... and {len(errors) - SHOWN} more." if len(errors) > SHOWN else ""
    return type(first)(f"{len(errors)} of {images} pictures have no answer: {' '.join(map(str, errors[:SHOWN]))}{more}")


def _names(images: tuple[Path, ...]) -> list[str]:
    """The name of each picture without its suffix; the later of two equal names gets a number."""
    names: list[str] = []
    for image in images:
        numbered = (image.stem if number == 1 else f"{image.stem}_{number}" for number in count(1))
        names.append(next(name for name in numbered if name not in names))
    return names


def _save(folder: Path, answers: dict[Path, tuple[Path, Answer]]) -> None:
    """Save answers, with their pictures, at their places, to which the suffix is added."""
    import io

    import numpy as np

    from vimdeploy.errors import OutputError
    from vimdeploy.files import write_whole
    from vimdeploy.preprocess import image_of, viewable

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {folder} cannot be made: {error.strerror}.") from error
    for place, (image, answer) in answers.items():
        arrays, picture = io.BytesIO(), io.BytesIO()
        np.savez(arrays, **dict[str, Any](answer.arrays()))
        write_whole(f"{place}.npz", arrays.getvalue())
        drawn = answer.picture(viewable(image_of(image)))
        if drawn is not None:
            drawn.save(picture, "PNG")
            write_whole(f"{place}.png", picture.getvalue())
