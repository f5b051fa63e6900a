"""The outputs and answers of sessions against those of a reference, on any number of images."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from vimdeploy.model_info import ModelInfo, TensorSpec
from vimdeploy.parity.results import Histogram, OutputErrors, Place, Side, Verification
from vimdeploy.runtimes.base import Array, Arrays, Session
from vimdeploy.tasks import task_of
from vimdeploy.tasks.base import Agreement, Task, image_name
from vimdeploy.tolerance import Tolerance, output_tolerance

Float64 = npt.NDArray[np.float64]
_EDGES = np.concatenate([[0.0], 10.0 ** np.arange(-9, 3.01, 0.25), [np.inf]])
"""The edges of the histogram of errors, fixed before the errors are known."""

_LEAST_STD = 0.01
"""The least that counts as a standard deviation, relative to the root mean square: values that hardly differ from each
other, such as one score of each image, have no more digits for that."""


def check_parity(
    reference: Session,
    candidates: Sequence[Session],
    batches: Iterable[Mapping[str, Array]],
    classes: npt.NDArray[np.int64] | None = None,
    names: Sequence[str] = (),
) -> list[Verification]:
    """Compare sessions with a reference on the same inputs.

    Args:
        reference: whose values count as right, usually ``EagerSession``.
        candidates: the sessions to compare.
        batches: inputs by name, of at least one image; read once, one at a time.
        classes: the right class of each image, over all batches.
        names: of the images, for the report; else ``input 0`` and so on.

    Returns:
        One result per candidate, in their order.
    """
    tallies = [_Tally(reference, candidate, classes, names) for candidate in candidates]
    for batch in batches:
        wanted = reference.run(batch)
        for tally, candidate in zip(tallies, candidates, strict=True):
            tally.add(batch, wanted, candidate.run(batch))
    return [tally.result() for tally in tallies]


def error_of(found: npt.NDArray[np.floating], wanted: npt.NDArray[np.floating]) -> Float64:
    """|found - wanted|; infinite if one of them is no finite number."""
    with np.errstate(invalid="ignore"):
        error = np.abs(found.astype(np.float64) - wanted.astype(np.float64))
    error[~np.isfinite(error)] = np.inf
    return error


class _Tally:
    """One candidate over the batches so far; memory does not grow with them, but for what the task keeps."""

    def __init__(
        self,
        reference: Session,
        candidate: Session,
        classes: npt.NDArray[np.int64] | None,
        names: Sequence[str],
    ) -> None:
        self._reference, self._candidate, self._names = reference, candidate, names
        self._images = 0
        self._task = task_of(reference.info)
        self._outputs = [self._tally_of(spec) for spec in reference.info.outputs]
        self._comparison = self._task.comparison(reference.info, classes, names) if self._task else None

    def _tally_of(self, spec: TensorSpec) -> _OutputTally:
        tolerance = output_tolerance(self._reference, self._candidate)
        if spec.type.startswith(("int", "uint", "bool")):
            return _LabelTally(spec.name, self._names, tolerance, (self._task or Task).labels_off)
        if self._task is None:
            return _OutputTally(spec.name, self._names, tolerance)
        return _OutputTally(spec.name, self._names, tolerance, self._task.least_spread.get(spec.name, 0.0))

    def add(self, batch: Mapping[str, Array], wanted: Arrays, found: Arrays) -> None:
        """The outputs of both sides for one batch, or for a call without one."""
        if not self._reference.info.has_batch:
            wanted, found = ({name: array[None] for name, array in side.items()} for side in (wanted, found))
        pairs = [(wanted, found)] if self._task is None else self._task.pairs(wanted, found)
        for number, (ours, theirs) in enumerate(pairs, self._images):
            for output in self._outputs:
                output.add(number, ours[output.name].astype(np.float64), theirs[output.name].astype(np.float64))
        if self._task is not None and self._comparison is not None:
            info = _of_batch(self._reference.info, batch)
            self._comparison.add(self._task.answers(wanted, info), self._task.answers(found, info))
        self._images += len(next(iter(wanted.values())))

    def result(self) -> Verification:
        """What was found so far."""
        sides = [Side(s.description, precision=s.info.precision) for s in (self._reference, self._candidate)]
        return Verification(
            reference=sides[0],
            candidate=sides[1],
            images=self._images,
            inputs=f"{self._images} inputs",
            outputs=tuple(output.result() for output in self._outputs),
            answers=self._comparison.result() if self._comparison is not None else Agreement(),
        )


def _of_batch(info: ModelInfo, batch: Mapping[str, Array]) -> ModelInfo:
    """What a file says of itself, with the sizes of a batch in place of the free ones."""
    inputs = tuple(dataclasses.replace(spec, dims=tuple(batch[spec.name].shape)) for spec in info.inputs)
    return dataclasses.replace(info, inputs=inputs)


class _OutputTally:
    """Sums over the values of one output."""

    def __init__(self, name: str, names: Sequence[str], tolerance: Tolerance, least_spread: float = 0.0) -> None:
        self.name = name
        self._names, self._tolerance, self._least_spread = names, tolerance, least_spread
        self._place, self._largest = Place(image_name(names, 0), (), 0.0, 0.0), -1.0
        self._error_sum = self._sum = self._square_sum = 0.0
        self._cosine = 1.0
        self._histogram = np.zeros(len(_EDGES) - 1, np.int64)
        self._values = self._nan = self._infinite = 0

    def add(self, first: int, wanted: Float64, found: Float64) -> None:
        """The values (B, ...) of both sides, ``first`` being the number of the first image; perhaps none."""
        if not wanted.size:
            return
        error = error_of(found, wanted)
        index = tuple(int(i) for i in np.unravel_index(error.argmax(), error.shape))
        if error[index] > self._largest:
            self._largest = float(error[index])
            image = image_name(self._names, first + index[0])
            self._place = Place(image, index[1:], float(wanted[index]), float(found[index]))
        self._error_sum += float(error.sum())
        self._histogram += np.histogram(error, _EDGES)[0]
        self._nan += int(np.isnan(found).sum())
        self._infinite += int(np.isinf(found).sum())
        self._cosine = min(self._cosine, _smallest_cosine(wanted, found))
        self._sum += float(wanted.sum())
        self._square_sum += float((wanted**2).sum())
        self._values += wanted.size

    def result(self) -> OutputErrors:
        """What was found so far."""
        values = max(self._values, 1)
        mean = self._sum / values
        std = math.sqrt(max(self._square_sum / values - mean**2, 0.0))
        return OutputErrors(
            name=self.name,
            largest=max(self._largest, 0.0),
            place=self._place,
            mean=self._error_sum / values,
            std=max(std, self._least_spread, _LEAST_STD * math.sqrt(self._square_sum / values)),
            cosine=self._cosine,
            histogram=_without_empty_ends(self._histogram),
            nan=self._nan,
            infinite=self._infinite,
            tolerance=self._tolerance,
        )


class _LabelTally(_OutputTally):
    """An output of whole numbers, such as the class of each pixel: how many of an image's values differ."""

    def __init__(self, name: str, names: Sequence[str], tolerance: Tolerance, labels_off: float) -> None:
        limit = min(labels_off * tolerance.limit, 0.5)
        super().__init__(
            name, names, Tolerance(limit, f"the part of an image's labels that differ; {tolerance.reason}")
        )

    def add(self, first: int, wanted: Float64, found: Float64) -> None:
        """The labels (B, ...) of both sides."""
        differing = (wanted != found).reshape(len(wanted), -1).mean(axis=1, keepdims=True)
        super().add(first, np.zeros_like(differing), differing)

    def result(self) -> OutputErrors:
        """What was found so far: parts of labels in place of standard deviations."""
        return dataclasses.replace(super().result(), std=1.0, cosine=1.0 - self._largest, of_labels=True)


def _smallest_cosine(wanted: Float64, found: Float64) -> float:
    """The smallest cosine between the values of an image on both sides, in a batch."""
    wanted, found = wanted.reshape(len(wanted), -1), found.reshape(len(found), -1)
    norms = np.linalg.norm(wanted, axis=1) * np.linalg.norm(found, axis=1)
    with np.errstate(invalid="ignore"):
        cosines = (wanted * found).sum(1) / np.where(norms == 0, 1, norms)
    cosines[(wanted == found).all(axis=1)] = 1.0  # zeros on both sides too
    return float(np.nan_to_num(cosines, nan=-1.0).min())


def _without_empty_ends(counts: npt.NDArray[np.int64]) -> Histogram:
    full = np.flatnonzero(counts)
    first, last = (int(full[0]), int(full[-1]) + 1) if len(full) else (0, len(counts))
    return Histogram(tuple(_EDGES[first : last + 1].tolist()), tuple(counts[first:last].tolist()))
