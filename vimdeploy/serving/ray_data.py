"""Answers on a cluster, by Ray Data: a class for ``Dataset.map_batches``.

Ray opens the class once in each of its worker processes, hands batches to whichever is free, and starts another worker
and the batch again if one dies. Nothing here imports Ray.

>>> pictures = ray.data.read_binary_files("photographs", include_paths=True)
>>> workers = ray.data.ActorPoolStrategy(size=8)
>>> pictures.map_batches(Predictor, fn_constructor_args=["vim_tiny.onnx"], batch_size=32, compute=workers)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from vimdeploy.bulk import answers_of
from vimdeploy.errors import ConfigError, require
from vimdeploy.picture_files import Found
from vimdeploy.runtimes.load import load
from vimdeploy.text import reason_of

if TYPE_CHECKING:
    import pyarrow as pa

    from vimdeploy.bulk import Row

COLUMNS = ("bytes", "image", "path")
"""The columns of Ray's readers that hold pictures: files, arrays of pixels, and paths. The first of them counts."""


class Predictor:
    """Adds columns with a model's answers to batches of pictures.

    Each picture has lists of what is in it, the best first: ``index``, ``label`` and ``probability`` of
    classes; ``category_id``, ``label``, ``score`` and ``bbox`` of objects; ``index``, ``label`` and ``share`` of a
    segmentation. Or there is one column with its vector, ``pooled`` of features and ``logits`` of classes. The column
    ``error`` is null, or says why a picture has no answer; its other columns are null then.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        column: str | None = None,
        vectors: bool = False,
        top: int = 5,
        device: str = "auto",
        threads: int | None = 1,
        operators: str = "auto",
        image_size: tuple[int, int] | None = None,
        batch: int | None = None,
        score_threshold: float | None = None,
        max_detections: int | None = None,
        allow_engine_code: bool = False,
    ) -> None:
        """Open the model, in a worker process of Ray.

        Args:
            model: an ONNX file or an engine, on a path that every machine of the cluster has.
            column: with the pictures: files, arrays (H, W, C) of uint8, or paths; None: the first of ``COLUMNS``.
            vectors: give the vector of each picture in place of what is in it.
            top: how many classes of a picture are kept.
            device: ``cpu``, ``cuda`` or ``auto``. A GPU is there if the workers were given one, by ``num_gpus=1``.
            threads: that one operator may use on a CPU; as many as Ray counts for the worker, ``num_cpus``, which is 1.
            operators: of ONNX files: ``library``, ``function-body`` or ``auto``.
            image_size: height and width in pixels, as ``Session.predict`` takes it.
            batch: how many pictures or windows run together, of those that Ray hands over; None: 8 on a GPU, and on a
                CPU as many as pay.
            score_threshold: of the task detect.
            max_detections: of the task detect.
            allow_engine_code: run the code that an engine carries, if you trust its builder.

        Raises:
            ModelFileError: if the file is not there, damaged, or of a version unknown here.
            ConfigError: for an option that the file or the machine does not have.
            MissingPackageError: without pyarrow, or without what the file needs.
        """
        self._arrow = require("pyarrow", "ray")
        self._session = load(model, device, threads, operators, allow_engine_code=allow_engine_code)
        task = self._session.task()
        if not task.vector and (vectors or not task.items):
            raise ConfigError(f"{model} gives no vectors: its task is {task.name}.")
        if top < 1:
            raise ConfigError(f"top must be at least 1, found {top}.")
        self._vector = task.vector if vectors or not task.items else ""
        self._items, self._fields = task.items, task.fields
        self._column, self._top = column, top
        self._options: dict[str, Any] = {
            "image_size": image_size,
            "batch": batch,
            "score_threshold": score_threshold,
            "max_detections": max_detections,
            "threads": threads,
        }

    def __call__(self, batch: Mapping[str, npt.NDArray[Any]]) -> pa.Table:
        """The batch with the answers, without the pictures themselves.

        Args:
            batch: columns as arrays, as Ray gives them.

        Raises:
            ConfigError: if it has no pictures, or a column of things that Arrow does not know.
        """
        column = self._column or next((name for name in COLUMNS if name in batch), "")
        if column not in batch:
            raise ConfigError(
                f"Wanted pictures in the column {self._column or ', '.join(COLUMNS)}, found the columns "
                f"{', '.join(batch)}."
            )
        rows = list(answers_of(self._session, _found(batch, column), workers=1, **self._options))
        kept = {
            name: self._kept(name, values)
            for name, values in batch.items()
            if name == "path" or name not in (*COLUMNS, column)
        }
        return self._arrow.table(kept | self._answers(rows))

    def _kept(self, name: str, values: npt.NDArray[Any]) -> Any:
        """A column that is not about the answers, as Arrow has it."""
        try:
            return self._arrow.array(values if values.ndim == 1 else values.tolist())
        except self._arrow.ArrowException as error:
            raise ConfigError(f"The column {name} cannot be kept ({reason_of(error)}); drop it first.") from error

    def _answers(self, rows: Sequence[Row]) -> dict[str, Any]:
        """The columns with what was found, of the same types in every batch."""
        errors = self._arrow.array([None if row.error is None else str(row.error) for row in rows], "string")
        answers = [row.answer for row in rows]
        if self._vector:
            vectors = [None if answer is None else getattr(answer, self._vector) for answer in answers]
            type_ = self._arrow.list_(self._arrow.float32())
            return {self._vector: self._arrow.array(vectors, type_), "error": errors}
        items = [None if answer is None else answer.first(self._top).document()[self._items] for answer in answers]
        columns = {}
        for field in self._fields:
            values = [None if several is None else [item[field] for item in several] for several in items]
            columns[field] = self._arrow.array(values, self._arrow.list_(self._type_of(field)))
        return {**columns, "error": errors}

    def _type_of(self, field: str) -> Any:
        """The type that a field of an answer has in a column."""
        if field in ("index", "category_id"):
            return self._arrow.int64()
        if field == "label":
            return self._arrow.string()
        number = self._arrow.float64()
        return self._arrow.list_(number) if field == "bbox" else number


def _found(batch: Mapping[str, npt.NDArray[Any]], column: str) -> Iterator[Found]:
    """The pictures of a batch, under their paths if there are some."""
    names = batch.get("path")
    for number, picture in enumerate(batch[column]):
        name = f"picture {number}" if names is None else str(names[number])
        yield Found(name, Path(picture) if isinstance(picture, str) else picture)
