"""``vimdeploy.run``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from vimdeploy.artifact import Artifact
from vimdeploy.bulk import Row, answers_of
from vimdeploy.picture_files import pictures_of
from vimdeploy.runtimes.base import Session
from vimdeploy.runtimes.load import load


def run(
    artifact: str | Path | Artifact,
    sources: str | os.PathLike[str] | Iterable[Any],
    *,
    image_size: tuple[int, int] | None = None,
    batch: int | None = None,
    score_threshold: float | None = None,
    max_detections: int | None = None,
    workers: int | None = None,
    runtime: str = "auto",
    precision: str | None = None,
    device: str = "auto",
    providers: Sequence[str] | None = None,
    cuda_graphs: bool = False,
    threads: int | None = None,
    operators: str = "auto",
    allow_engine_code: bool = False,
) -> Iterator[Row]:
    """Answers to any number of pictures, as they come; memory does not grow with their number.

    Pictures are read and prepared by threads, a few ahead of the rows that are taken.

    Args:
        artifact: an ONNX file or an engine.
        sources: one or several: picture files, folders with all below them, patterns such as ``*/cat*.jpg``, lists
            ``.txt`` of paths and addresses, addresses of http or https, ``-`` for a list on standard input; or pictures
            themselves, as ``Session.predict`` takes them, such as the frames of a video.
        image_size: height and width in pixels, as ``Session.predict`` takes it.
        batch: how many pictures or windows run together; None as in ``Session.predict``.
        score_threshold: of the task detect.
        max_detections: of the task detect.
        workers: how many run side by side on a CPU, on a thread each; 1: one after the other on all cores; None: what
            is fastest, measured in the first seconds.
        runtime: as ``vimdeploy.load`` takes it, and so the following.
        precision: of OpenVINO.
        device: ``auto``, ``cpu``, ``cuda``, or ``cuda:1`` for the second GPU.
        providers: of ONNX Runtime, instead of the device's.
        cuda_graphs: of ONNX Runtime on CUDA.
        threads: that one operator may use on a CPU; given, pictures run one after the other.
        operators: ``auto``, ``library`` or ``function-body``.
        allow_engine_code: run the code that an engine carries, if you trust its builder.

    Yields:
        A row for each picture in the order of the sources: its ``image``, and its ``answer`` or the ``error``.

    Raises:
        InputError: if the file cannot be read, does not say what its outputs mean, or an option does not fit it; with
            the rows, if a source is none.
    """
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
    rows = answers_of(
        session,
        pictures_of(sources, session.info),
        image_size=image_size,
        batch=batch,
        score_threshold=score_threshold,
        max_detections=max_detections,
        workers=workers,
        threads=threads,
    )
    return _until_the_end(session, rows)


def _until_the_end(session: Session, rows: Iterator[Row]) -> Iterator[Row]:
    with session:
        yield from rows
