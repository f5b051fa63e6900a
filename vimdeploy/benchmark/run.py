"""A whole run: every source at every image size and batch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from vimdeploy.bench.eager import description_of
from vimdeploy.bench.measure import Series, measure
from vimdeploy.bench.sources import Source
from vimdeploy.bench.subjects import Settings, Subject
from vimdeploy.checkpoint import local_path
from vimdeploy.errors import VimdeployError, require
from vimdeploy.files import write_whole

Report = Callable[[str, int, int], None]


def run(
    sources: Sequence[Source],
    image_sizes: Sequence[tuple[int, int]],
    batches: Sequence[int],
    settings: Settings,
    groups: list[list[Series]],
    report: Report,
) -> None:
    """Measure; sources of the same size and batch take turns.

    Args:
        sources: the first is what the others are compared with.
        image_sizes: heights and widths in pixels; none at all stands for each source's own.
        batches: pictures in a call.
        settings: how.
        groups: gets the series of each size and batch before they are measured, so that an interrupt loses nothing.
        report: is told of a phase how many of how many steps are done.
    """
    for image_size in image_sizes or (None,):
        place = "x".join(map(str, image_size)) if image_size else "own size"
        with tempfile.TemporaryDirectory(prefix="vimdeploy_bench_") as folder:
            files = _files_of(sources, image_size, Path(folder), partial(report, f"Exporting, {place}"))
            for batch in batches:
                group = [
                    Series(Subject(source.name, path, batch, image_size), error=error)
                    for source, (path, error) in zip(sources, files, strict=True)
                ]
                groups.append(group)
                measure(group, settings, partial(report, f"Measuring, {place}, batch {batch}"))


def _files_of(
    sources: Sequence[Source], image_size: tuple[int, int] | None, folder: Path, report: Callable[[int, int], None]
) -> list[tuple[Path, str]]:
    """The file of each source, and why it could not be made, in a sentence; empty where it could."""
    files = []
    for number, source in enumerate(sources):
        report(number, len(sources))
        try:
            files.append((_file_of(source, image_size, folder / str(number)), ""))
        except VimdeployError as failure:
            files.append((folder, str(failure)))
    report(len(sources), len(sources))
    return files


def _file_of(source: Source, image_size: tuple[int, int] | None, stem: Path) -> Path:
    """The file of a source; one that is made for it has ``stem`` as its name, and an ending that tells its kind."""
    if source.eager:
        path = stem.with_suffix(".json")
        write_whole(path, description_of(source).encode())
        return path
    if source.checkpoint:
        return local_path(source.checkpoint)
    if source.file is not None:
        return source.file
    require("torch", "export")
    from vimdeploy.bench.exports import onnx_from_source

    path = stem.with_suffix(".onnx")
    write_whole(path, onnx_from_source(source, image_size).SerializeToString())
    return path
