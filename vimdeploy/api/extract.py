"""``vimdeploy.extract``."""

from __future__ import annotations

import csv
import io
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vimdeploy.artifact import Artifact, open_artifact
from vimdeploy.bulk import Row, answers_of
from vimdeploy.errors import ConfigError, OutputError, VimdeployError, require
from vimdeploy.files import check_writable, write_together
from vimdeploy.picture_files import pictures_of
from vimdeploy.reading import check_regular, why
from vimdeploy.row_file import UTF8, Names, csv_line
from vimdeploy.runtimes.load import load
from vimdeploy.text import reason_of

SHARD_SIZE = 10_000
_MOST = 1_000_000
"""Pictures of a shard, which is held in memory until it is written."""
_INDEX = ("image", "row", "error")
_KEPT = 5
"""Errors that are handed back."""

Vectors = npt.NDArray[np.float32]
About = dict[str, str]
"""``model``, its name, and ``sha256``."""


@dataclass(frozen=True)
class Extraction:
    """What was written."""

    vectors: int
    """By this call."""
    shards: int
    """By this call."""
    before: int
    """Pictures that were in the folder already."""
    without: int
    """Pictures of this call that have no vector; the index says why."""
    errors: tuple[VimdeployError, ...]
    """Why the first five of them have none."""


def extract(
    artifact: str | Path | Artifact,
    sources: str | os.PathLike[str] | Iterable[Any],
    output: str | Path,
    *,
    file_format: str = "safetensors",
    shard_size: int = SHARD_SIZE,
    resume: bool = False,
    image_size: tuple[int, int] | None = None,
    batch: int | None = None,
    workers: int | None = None,
    runtime: str = "auto",
    precision: str | None = None,
    device: str = "auto",
    providers: Sequence[str] | None = None,
    cuda_graphs: bool = False,
    threads: int | None = None,
    operators: str = "auto",
    allow_engine_code: bool = False,
    progress: Callable[[int, int], None] = lambda done, without: None,
) -> Extraction:
    """A vector of each of any number of pictures, in files of some thousand.

    ``00000.safetensors`` holds ``pooled`` (N, D) float32, of a classifier ``logits``, with the model's name and SHA-256
    as metadata; a Parquet file has the columns ``image`` and ``pooled``. Beside each lies its index ``00000.csv`` with
    the columns image, row and error: which picture each row is of, and which pictures have none. Both are written
    whole. An interrupted run writes the shard that it has begun, so that a later one can go on; after a power cut or
    SIGKILL the pictures of that shard are run again.

    Args:
        artifact: an ONNX file or an engine of the tasks features or classification.
        sources: as of ``vimdeploy.run``.
        output: a folder, made if it is not there.
        file_format: ``safetensors`` or ``parquet``.
        shard_size: pictures of a shard, 1 to 1,000,000.
        resume: go on with a folder that has shards already: pictures in its indexes are passed over.
        image_size: as of ``vimdeploy.run``, and so the following.
        batch: how many pictures run together.
        workers: how many run side by side on a CPU.
        runtime: as ``vimdeploy.load`` takes it, and so the following.
        precision: of OpenVINO.
        device: ``auto``, ``cpu``, ``cuda``, or ``cuda:1`` for the second GPU.
        providers: of ONNX Runtime, instead of the device's.
        cuda_graphs: of ONNX Runtime on CUDA.
        threads: that one operator may use on a CPU.
        operators: ``auto``, ``library`` or ``function-body``.
        allow_engine_code: run the code that an engine carries, if you trust its builder.
        progress: is told how many pictures are done, and how many of them have no vector.

    Returns:
        What was written.

    Raises:
        InputError: if the file cannot be read or has no vectors, a source is none, or the folder cannot be written, has
            shards and ``resume`` is not given, or has those of another model or format.
        MissingPackageError: without pyarrow, for Parquet.
    """
    if file_format not in FORMATS:
        raise ConfigError(f"file_format must be one of {', '.join(FORMATS)}, found {file_format!r}.")
    if not 1 <= shard_size <= _MOST:
        raise ConfigError(f"shard_size must be from 1 to {_MOST}, found {shard_size}.")
    require(FORMATS[file_format].module, file_format)
    opened = open_artifact(artifact, foreign=True)
    session = load(
        opened,
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
        vector = session.task().vector
        if not vector:
            raise ConfigError(
                f"Wanted a file of the task features or classification, found {opened} of {session.info.task}, which "
                "has no vector for a picture."
            )
        about = {"model": opened.info.name, "sha256": opened.sha256}
        shards = _Shards(Path(output), file_format, vector, about, resume)
        pictures = (found for found in pictures_of(sources, session.info) if found.name not in shards.done)
        rows = answers_of(session, pictures, image_size=image_size, batch=batch, workers=workers, threads=threads)
        shards.make_folder()
        done, without, errors = 0, 0, []
        try:
            for done, row in enumerate(rows, 1):
                shards.add(row)
                if row.error is not None:
                    without += 1
                    errors += [row.error] if without <= _KEPT else []
                if len(shards) == shard_size:
                    shards.write()
                progress(done, without)
        finally:
            shards.write()
    return Extraction(done - without, shards.written, len(shards.done), without, tuple(errors))


class _Shards:
    """A folder of shards, each of which is written whole, and before its index: if that is there, both are."""

    def __init__(self, folder: Path, file_format: str, vector: str, about: About, resume: bool) -> None:
        """Read what is there.

        Raises:
            OutputError: if there are shards that cannot be gone on with.
        """
        self._folder, self._format, self._vector, self._about = folder, file_format, vector, about
        files = sorted((path for path in folder.glob("*") if path.stem.isdecimal()), key=lambda path: int(path.stem))
        found = [path for path in files if path.suffix == ".csv"]
        if found and not resume:
            raise OutputError(f"{folder} has shards already: go on with them by --resume, or choose another folder.")
        stems = {path.stem for path in found}
        self._check_shards([path for path in files if path.suffix[1:] in FORMATS and path.stem in stems])
        self.done = Names(image for path in found for image in _images(path))
        """The pictures of shards that were there."""
        self.written = 0
        self._next = int(found[-1].stem) + 1 if found else 0
        self._begun: list[tuple[str, Vectors | None, str]] = []

    def make_folder(self) -> None:
        """Make the folder, if it is not there.

        Raises:
            OutputError: if that cannot be, or nothing can be written to it.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"The folder {self._folder} cannot be made: {why(error)}.") from error
        check_writable(self._index(self._next))

    def _index(self, number: int) -> Path:
        return self._folder / f"{number:05}.csv"

    def _check_shards(self, found: Sequence[Path]) -> None:
        """Refuse shards of another format, and the last one if it is of another model."""
        others = [path for path in found if path.suffix != f".{self._format}"]
        if others:
            raise OutputError(f"{others[0]} has another format; go on with that, or choose another folder.")
        if not found:
            return
        try:
            about = FORMATS[self._format].about(found[-1])
        except Exception as error:  # safetensors' own and pyarrow's
            raise OutputError(f"{found[-1]} cannot be read: {reason_of(error)}.") from error
        if about.get("sha256") != self._about["sha256"]:
            raise OutputError(
                f"{found[-1]} has vectors of another file, {about.get('model', 'nobody knows which')}; go on with "
                "that, or choose another folder."
            )

    def __len__(self) -> int:
        """Pictures of the shard that is begun."""
        return len(self._begun)

    def add(self, row: Row) -> None:
        """Take in what was found for a picture."""
        vector = None
        if row.answer is not None:
            vector = np.array(getattr(row.answer, self._vector), np.float32)  # not the batch that it is of
        self._begun.append((row.image, vector, str(row.error or "")))

    def write(self) -> None:
        """Write the shard that is begun, if it has a picture, and begin another one."""
        begun, self._begun = self._begun, []
        if not begun:
            return
        place, rows = self._index(self._next), itertools.count()
        lines = [(image, "" if vector is None else next(rows), error) for image, vector, error in begun]
        files = {place: "".join(map(csv_line, [_INDEX, *lines])).encode(*UTF8)}
        good = [(image, vector) for image, vector, _ in begun if vector is not None]
        if good:
            images, vectors = zip(*good, strict=True)
            shard = FORMATS[self._format].contents(images, self._vector, np.stack(vectors), self._about)
            files = {place.with_suffix(f".{self._format}"): shard} | files  # the index last
        write_together(files)
        self._next += 1
        self.written += 1


def _images(index: Path) -> Iterator[str]:
    """The pictures of a shard."""
    try:
        check_regular(index)
        with index.open(encoding=UTF8[0], errors=UTF8[1], newline="") as file:
            rows = csv.reader(file, strict=True)
            if next(rows, None) != list(_INDEX):
                raise ValueError(f"its columns are not {', '.join(_INDEX)}")
            for row in rows:
                yield row[0]
    except (OSError, ValueError, IndexError, csv.Error) as error:
        raise OutputError(f"{index} is no index of shards that this run can go on with: {why(error)}.") from error


def _safetensors(images: Sequence[str], name: str, vectors: Vectors, about: About) -> bytes:
    from safetensors.numpy import save

    return save({name: vectors}, metadata=about)


def _about_safetensors(shard: Path) -> About:
    from safetensors import safe_open

    with safe_open(shard, "numpy") as file:
        return file.metadata() or {}


def _parquet(images: Sequence[str], name: str, vectors: Vectors, about: About) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    names = pa.array([image.encode(*UTF8).decode(errors="replace") for image in images], pa.string())
    rows = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    file = io.BytesIO()
    parquet.write_table(pa.table({"image": names, name: rows}).replace_schema_metadata(about), file)
    return file.getvalue()


def _about_parquet(shard: Path) -> About:
    from pyarrow import parquet

    return {key.decode(): value.decode() for key, value in (parquet.read_schema(shard).metadata or {}).items()}


class Format(NamedTuple):
    """How the vectors of a shard are stored."""

    module: str
    """What does it; the extra of vimdeploy that brings it has the format's name."""
    contents: Callable[[Sequence[str], str, Vectors, About], bytes]
    """A file, from the picture of each row, the name of the vectors, (N, D) float32, and what they are of."""
    about: Callable[[Path], About]
    """What the vectors in a file are of."""


FORMATS = {
    "safetensors": Format("safetensors.numpy", _safetensors, _about_safetensors),
    "parquet": Format("pyarrow.parquet", _parquet, _about_parquet),
}
"""By the suffixes of their files."""
