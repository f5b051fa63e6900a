"""``vimdeploy run``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vimdeploy.cli.console import no_answer, phases, print_json, print_table, say, tally
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

if TYPE_CHECKING:
    from vimdeploy.bulk import Row
    from vimdeploy.errors import VimdeployError
    from vimdeploy.preprocess import Picture
    from vimdeploy.runtimes.base import Session
    from vimdeploy.tasks.base import Answer

SHOWN = 5
"""Pictures without an answer whose reasons are told."""


@click.command()
@artifact_argument
@images_argument
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
    help="Write the answers to this file: .csv or .jsonl gets them as they come, a picture without an answer as a line "
    "that says why, and they are not printed. With --task detect also .json: the objects in all pictures as COCO's "
    "results, so that its tools can read them, with image_id (the picture's name, as a number if it is one), "
    "category_id, bbox in pixels, score, and the mask as RLE. Default: no file.",
)
@resume_option
@click.option(
    "--save",
    type=PATH,
    metavar="DIR",
    help="Save each answer to this folder, for programs that go on with it: arrays as NAME.npz, a drawing as NAME.png; "
    "NAME is the picture's. Only for answers that are arrays, such as features. Default: nothing is saved.",
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
def run(
    artifact: Path,
    images: tuple[str, ...],
    top: int,
    score_threshold: float | None,
    max_detections: int | None,
    image_size: tuple[int, int] | None,
    batch: int | None,
    output: Path | None,
    resume: bool,
    save: Path | None,
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
    """Run a file on pictures, and show its answers or write them to a file.

    ARTIFACT is a file of vimdeploy export or vimdeploy build. IMAGES are pictures: PNG, JPEG, BMP, WebP, TIFF, GIF, PPM
    or AVIF, and for models of other channels than grey or RGB arrays (H, W, C) of uint8 as .npy; folders of them and
    all below; patterns in quotes; addresses of http or https; lists of paths and addresses in a .txt, one a line; - for
    such a list on standard input. They are prepared by the recipe that the file carries, as they are stored: an EXIF
    orientation is told, not applied.

    A picture that has no answer is named at the end, and does not cost the others theirs. The exit code is 2 if one
    that you name cannot be read, and 1 if another cannot, or if an answer is not finite; with -o .csv or .jsonl always
    1.

    \b
    vimdeploy run vim_tiny.onnx cat.jpg dog.png --top 3
    vimdeploy run vim_tiny.onnx photographs -o answers.csv --resume
    find /data -name '*.jpg' | vimdeploy run vim_tiny.onnx - -o answers.jsonl --top 1
    vimdeploy run features.onnx cat.jpg --save features
    vimdeploy run segment.onnx street.jpg --image-size 2000x3000 --save masks
    vimdeploy run detect.onnx val2017 -o results.json
    """
    from vimdeploy.bulk import answers_of
    from vimdeploy.errors import ConfigError, OutputError
    from vimdeploy.row_file import SUFFIXES
    from vimdeploy.runtimes.load import load

    as_rows = output is not None and output.suffix.lower() in SUFFIXES
    if save is not None and save.is_file():
        raise OutputError(f"Wanted a folder to save to, found the file {save}.")
    if resume and not as_rows:
        raise ConfigError("--resume goes on with the .csv or .jsonl that -o names; name one.")
    if as_rows and (save is not None or as_json):
        raise ConfigError(f"{'--json' if as_json else '--save'} does not go with {output}: run once for each.")
    session = load(
        artifact,
        device,
        threads,
        operators,
        providers,
        allow_engine_code=allow_engine_code,
        runtime=runtime,
        precision=precision,
        cuda_graphs=cuda_graphs,
    )
    with session:
        answers = partial(
            answers_of,
            session,
            image_size=image_size,
            batch=batch,
            score_threshold=score_threshold,
            max_detections=max_detections,
            workers=workers,
            threads=threads,
        )
        if as_rows:
            assert output is not None
            _write_rows(session, answers, artifact, images, output, resume, top)
        else:
            _show(session, answers, artifact, images, output, save, top, as_json)


def _write_rows(
    session: Session,
    answers: Callable[..., Iterator[Row]],
    artifact: Path,
    images: Sequence[str],
    output: Path,
    resume: bool,
    top: int,
) -> None:
    """Answers to a file as they come."""
    from vimdeploy.errors import ExecutionError
    from vimdeploy.files import check_outputs, is_folder
    from vimdeploy.picture_files import pictures_of
    from vimdeploy.row_file import RowFile
    from vimdeploy.text import counted

    task = session.task()
    check_outputs([output], [artifact, *(image for image in images if not is_folder(image))])
    done, wrong, first = 0, 0, []
    with RowFile(output, task.fields, task.items, resume) as file:
        pictures = (found for found in pictures_of(images, session.info) if found.name not in file.done)
        say(session.description, err=True)
        try:
            with tally() as told:
                for done, row in enumerate(answers(pictures), 1):
                    document = None if row.answer is None else row.answer.first(top).document()
                    file.add(row.image, document, str(row.error or ""))
                    if row.error is not None:
                        wrong += 1
                        first += [row.error] if wrong <= SHOWN else []
                    told(done, wrong)
        finally:
            before = f", beside {len(file.done)} that were there" if file.done else ""
            if done or file.done:
                say(f"{output}: {counted(done, 'picture')}{before}", err=True)
    if wrong:
        raise ExecutionError(no_answer(first, wrong, done))


def _show(
    session: Session,
    answers: Callable[..., Iterator[Row]],
    artifact: Path,
    images: Sequence[str],
    output: Path | None,
    save: Path | None,
    top: int,
    as_json: bool,
) -> None:
    """Answers as a table or a document, and to the places that are wanted."""
    from vimdeploy.errors import ConfigError, ExecutionError, ImageError
    from vimdeploy.files import check_outputs, write_whole
    from vimdeploy.picture_files import pictures_of
    from vimdeploy.progress import tracked

    if output is not None and session.task().name != "detect":
        raise ConfigError(
            f"Wanted a file to write that ends in .csv or .jsonl, found {output}; COCO's results are for the task "
            "detect."
        )
    pictures = list(pictures_of(images, session.info))
    names = [Path(found.name) for found in pictures]
    places = [] if save is None else [save / name for name in _names(names)]
    numbers = _numbers(names) if output is not None else []
    written = [] if output is None else [output]
    if save is not None and save.is_dir():
        written += [Path(f"{place}{suffix}") for place in places for suffix in (".npz", ".png")]
    if written:
        check_outputs(written, [artifact, *images, *names])
    columns: tuple[str, ...] = ()
    table: list[tuple[str, ...]] = []
    documents: list[dict[str, Any]] = []
    lines: list[dict[str, Any]] = []
    errors: list[VimdeployError] = []
    with phases("Running") as progress:
        rows = tracked(answers(pictures, progress=progress), "Running", len(pictures), progress)
        for number, row in enumerate(rows):
            if row.answer is None:
                assert row.error is not None
                is_skipped = isinstance(row.error, ImageError) and not row.is_named
                errors.append(ExecutionError(str(row.error)) if is_skipped else row.error)
                documents.append({"image": row.image, "error": str(row.error)})
                continue
            answer = row.answer
            if output is not None:
                lines += answer.results(numbers[number]) or []
            if save is not None:
                _save(answer, row.picture, places[number])
            answer, columns = answer.first(top), answer.columns
            if as_json:
                documents.append({"image": row.image} | answer.document())
            else:
                table += [(row.image if i == 0 else "", *cells) for i, cells in enumerate(answer.rows())]
    if output is not None and columns:
        write_whole(output, json.dumps(lines).encode())
        say(f"{output}: {len(lines)} objects in {len(pictures) - len(errors)} pictures", err=True)
    if as_json and columns:
        print_json({"session": session.description, "images": documents})
    elif columns:
        say(session.description, err=True)
        print_table(("image", *columns), table)
    if errors:
        raise _together(errors, len(pictures))


def _together(errors: list[VimdeployError], images: int) -> VimdeployError:
    """One error for some; wrong input goes before failed runs."""
    from vimdeploy.errors import InputError

    first = next((error for error in errors if isinstance(error, InputError)), errors[0])
    return first if images == 1 else type(first)(no_answer(errors[:SHOWN], len(errors), images))


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


def _save(answer: Answer, image: Picture, place: Path) -> None:
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
