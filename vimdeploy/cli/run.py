"""``vimdeploy run``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
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
    from vimdeploy.errors import ImageError, VimdeployError
    from vimdeploy.model_info import ModelInfo
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
    help="Show this many of the most probable classes or objects of each picture, because the rest are seldom of "
    "interest.",
)
@click.option(
    "--score-threshold",
    type=click.FloatRange(0, 1, max_open=True),
    help="With --task detect, find the objects whose score is above this, from 0 to below 1. Default: 0.05, because "
    "measures such as COCO's want doubtful ones too.",
)
@click.option(
    "--max-detections",
    type=click.IntRange(min=1),
    help="With --task detect, find at most this many objects in a picture, the best, 1 to 1000. Default: 100, as many "
    "as COCO's measure looks at.",
)
@click.option(
    "--image-size",
    type=ImageSize(),
    metavar=ImageSize.name,
    help="Prepare the pictures in this size in pixels, if the file leaves it open; with --task segment, resize them to "
    "it before windows of the file's size slide over them, so that they are seen in all detail. Default: as the recipe "
    "has it; if it crops and the file leaves the size open, each picture's own, rounded to what the model takes.",
)
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    metavar="N",
    help="Run this many pictures, or windows of them, together, which may be faster and takes more memory. Default: 8, "
    "but on a CPU no more pixels than 8 pictures of 224x224 have, because it is no faster with more.",
)
@click.option(
    "-o",
    "--output",
    type=PATH,
    metavar="FILE",
    help="With --task detect, write the objects in all pictures to this file as COCO's results, so that its tools can "
    "read them: a JSON list with image_id (the picture's name, as a number if it is one), category_id, bbox in pixels, "
    "score, and the mask as RLE. Default: no file.",
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
    score_threshold: float | None,
    max_detections: int | None,
    image_size: tuple[int, int] | None,
    batch: int | None,
    output: Path | None,
    save: Path | None,
    device: str,
    operators: str,
    threads: int | None,
    allow_engine_code: bool,
    as_json: bool,
) -> None:
    """Run a file on pictures, and show its answers.

    ARTIFACT is a file of vimdeploy export or vimdeploy build; IMAGES are pictures, or folders of them: PNG, JPEG, BMP,
    WebP, TIFF, GIF, PPM or AVIF, and for models of other channels than grey or RGB arrays (H, W, C) of uint8 as .npy.
    They are prepared by the recipe that the file carries, as they are stored: an EXIF orientation is told, not applied.

    A picture that has no answer is named at the end, and does not cost the others theirs. The exit code is 2 if one
    that you name cannot be read, and 1 if one in a folder cannot, or if an answer is not finite.

    \b
    vimdeploy run vim_tiny.onnx cat.jpg dog.png --top 3
    vimdeploy run features.onnx cat.jpg --save features
    vimdeploy run segment.onnx street.jpg --image-size 2000x3000 --save masks
    vimdeploy run detect.onnx val2017 -o results.json
    """
    from vimdeploy.errors import ExecutionError, ImageError, OutputError, VimdeployError
    from vimdeploy.files import check_outputs, write_whole
    from vimdeploy.progress import tracked
    from vimdeploy.runtimes.load import load

    if save is not None and save.is_file():
        raise OutputError(f"Wanted a folder to save to, found the file {save}.")
    session = load(artifact, device, threads, operators, allow_engine_code=allow_engine_code)
    pictures, listed = _pictures(images, session.info)
    places = [] if save is None else [save / name for name in _names(pictures)]
    numbers = _numbers(pictures) if output is not None else []
    written = [] if output is None else [output]
    if save is not None and save.is_dir():
        written += [Path(f"{place}{suffix}") for place in places for suffix in (".npz", ".png")]
    if written:
        check_outputs(written, [artifact, *images, *pictures])
    columns: tuple[str, ...] = ()
    rows: list[tuple[str, ...]] = []
    documents: list[dict[str, Any]] = []
    lines: list[dict[str, Any]] = []
    errors: list[VimdeployError] = []
    with session, phases("Running") as progress:
        each = partial(
            session.predict_each,
            image_size=image_size,
            batch=batch,
            score_threshold=score_threshold,
            max_detections=max_detections,
            progress=progress,
        )
        answers = tracked(_answers(each, pictures), "Running", len(pictures), progress)
        for number, (image, answer) in enumerate(zip(pictures, answers, strict=True)):
            if isinstance(answer, VimdeployError):
                is_skipped = isinstance(answer, ImageError) and image in listed
                errors.append(ExecutionError(str(answer)) if is_skipped else answer)
                documents.append({"image": str(image), "error": str(answer)})
                continue
            if output is not None:
                lines += _lines(answer, numbers[number])
            if save is not None:
                _save(answer, image, places[number])
            answer, columns = answer.first(top), answer.columns
            if as_json:
                documents.append({"image": str(image)} | answer.document())
            else:
                rows += [(str(image) if i == 0 else "", *row) for i, row in enumerate(answer.rows())]
    if output is not None and columns:
        write_whole(output, json.dumps(lines).encode())
        say(f"{output}: {len(lines)} objects in {len(pictures) - len(errors)} pictures", err=True)
    if as_json and columns:
        print_json({"session": session.description, "images": documents})
    elif columns:
        say(session.description, err=True)
        print_table(("image", *columns), rows)
    if errors:
        raise _together(errors, len(pictures))


def _pictures(images: Sequence[Path], info: ModelInfo) -> tuple[list[Path], set[Path]]:
    """All pictures, and those of them that were found in folders."""
    from vimdeploy.files import is_folder
    from vimdeploy.picture_files import pictures_in

    pictures: list[Path] = []
    listed: set[Path] = set()
    for image in images:
        found = pictures_in(image, info) if is_folder(image) else []
        pictures += found or [image]
        listed |= set(found) - set(images)
    return pictures, listed


def _answers(
    each: Callable[[Sequence[Path]], Iterator[Answer | ImageError]], images: Sequence[Path]
) -> Iterator[Answer | VimdeployError]:
    """The answer to each picture, or why there is none."""
    from vimdeploy.errors import ExecutionError

    done = 0
    while done < len(images):
        try:
            for answer in each(images[done:]):
                yield _finite(answer, images[done])
                done += 1
        except ExecutionError:  # of a batch: each picture alone says whether it was that
            try:
                (answer,) = each(images[done : done + 1])
                yield _finite(answer, images[done])
            except ExecutionError as error:
                yield ExecutionError(f"{images[done]}: {error}")
            done += 1


def _finite(answer: Answer | ImageError, image: Path) -> Answer | VimdeployError:
    """An answer, unless it is none because values are not finite."""
    from vimdeploy.errors import ExecutionError, ImageError

    if isinstance(answer, ImageError) or not answer.not_finite:
        return answer
    return ExecutionError(
        f"{image} has no answer: {answer.not_finite}. vimdeploy verify finds the first stage of the model that is "
        "wrong."
    )


def _together(errors: list[VimdeployError], images: int) -> VimdeployError:
    """One error for some; wrong input goes before failed runs."""
    from vimdeploy.errors import InputError

    first = next((error for error in errors if isinstance(error, InputError)), errors[0])
    if images == 1:
        return first
    have = "has" if len(errors) == 1 else "have"
    more = f" ... and {len(errors) - SHOWN} more." if len(errors) > SHOWN else ""
    return type(first)(
        f"{len(errors)} of {images} pictures {have} no answer: {' '.join(map(str, errors[:SHOWN]))}{more}"
    )


def _names(images: Sequence[Path]) -> list[str]:
    """The name of each picture without its suffix; the later of two equal names gets a number."""
    names: dict[str, None] = {}  # in their order; folders may hold many
    for image in images:
        numbered = (image.stem if number == 1 else f"{image.stem}_{number}" for number in count(1))
        names[next(name for name in numbered if name not in names)] = None
    return list(names)


def _numbers(images: Sequence[Path]) -> list[int | str]:
    """The ``image_id`` of each picture: its name without the suffix, as a number if it is one, as COCO's are.

    Raises:
        ConfigError: if two have the same.
    """
    from vimdeploy.errors import ConfigError

    numbers: dict[int | str, Path] = {}
    for image in images:
        number = int(image.stem) if image.stem.isascii() and image.stem.isdecimal() else image.stem
        if number in numbers:
            raise ConfigError(
                f"{numbers[number]} and {image} would have the same image_id, {number}; give them names that differ, "
                "or run them apart."
            )
        numbers[number] = image
    return list(numbers)


def _lines(answer: Answer, number: int | str) -> list[dict[str, Any]]:
    """What was found in a picture, as lines of COCO's results."""
    from vimdeploy.errors import ConfigError

    lines = answer.results(number)
    if lines is None:
        raise ConfigError("COCO's results are for the task detect; --json has the answers of others, for programs.")
    return lines


def _save(answer: Answer, image: Path, place: Path) -> None:
    """Save the answer to a picture at a place, to which the suffix is added."""
    import io

    import numpy as np

    from vimdeploy.errors import ConfigError, OutputError
    from vimdeploy.files import write_whole
    from vimdeploy.preprocess import image_of, viewable

    if not answer.arrays():
        raise ConfigError(
            "There is nothing to save: the answers of this task are tables; --json has them for programs."
        )
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {place.parent} cannot be made: {error.strerror}.") from error
    arrays, picture = io.BytesIO(), io.BytesIO()
    np.savez(arrays, **dict[str, Any](answer.arrays()))
    write_whole(f"{place}.npz", arrays.getvalue())
    drawn = answer.picture(viewable(image_of(image)))
    if drawn is not None:
        drawn.save(picture, "PNG")
        write_whole(f"{place}.png", picture.getvalue())
