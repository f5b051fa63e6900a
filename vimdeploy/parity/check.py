"""The answers of sessions against those of a reference, on any number of images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from vimdeploy.parity.results import (
    Agreement,
    ChangedAnswer,
    Histogram,
    LogitErrors,
    Place,
    Proportion,
    Side,
    Verification,
)
from vimdeploy.preprocess import FloatArray
from vimdeploy.runtimes.base import Session
from vimdeploy.tolerance import logits_tolerance

Logits = npt.NDArray[np.float64]
MAX_CHANGED = 40
"""Changed answers that are kept; the rest are counted."""
_EDGES = np.concatenate([[0.0], 10.0 ** np.arange(-9, 3.01, 0.25), [np.inf]])
"""Of the errors' histogram: known before the errors are."""


def check_parity(
    reference: Session,
    candidates: Sequence[Session],
    batches: Iterable[FloatArray],
    classes: npt.NDArray[np.int64] | None = None,
    names: Sequence[str] = (),
) -> list[Verification]:
    """Compare sessions with a reference on the same inputs.

    Args:
        reference: whose answers count as right, usually ``EagerSession``.
        candidates: the sessions to compare.
        batches: inputs (B, C, H, W); read once, one at a time.
        classes: the right class of each image, over all batches.
        names: of the images, for the report; else ``input 0`` and so on.

    Returns:
        One result a candidate, in their order.
    """
    tallies = [_Tally(reference, candidate, classes, names) for candidate in candidates]
    for batch in batches:
        wanted = reference.run(batch).astype(np.float64)
        for tally, candidate in zip(tallies, candidates, strict=True):
            tally.add(wanted, candidate.run(batch).astype(np.float64))
    return [tally.result() for tally in tallies]


def error_of(found: npt.NDArray[np.floating], wanted: npt.NDArray[np.floating]) -> Logits:
    """|found - wanted|; infinite where one of them is no finite number."""
    with np.errstate(invalid="ignore"):
        error = np.abs(found.astype(np.float64) - wanted.astype(np.float64))
    error[~np.isfinite(error)] = np.inf
    return error


class _Tally:
    """Sums over the batches so far; memory does not grow with them."""

    def __init__(
        self,
        reference: Session,
        candidate: Session,
        classes: npt.NDArray[np.int64] | None,
        names: Sequence[str],
    ) -> None:
        self._reference, self._candidate = reference, candidate
        self._classes, self._names = classes, names
        self._images = self._logits = 0
        self._place, self._largest = Place("", (0,), 0.0, 0.0), -1.0
        self._error_sum = self._sum = self._square_sum = 0.0
        self._cosine = math.inf
        self._histogram = np.zeros(len(_EDGES) - 1, np.int64)
        self._nan = self._infinite = 0
        self._same = np.zeros(2, np.int64)  # first class, first five
        self._right = np.zeros((2, 2), np.int64)  # of the reference and of the candidate
        self._changed: list[ChangedAnswer] = []

    def add(self, wanted: Logits, found: Logits) -> None:
        """One batch of both sides, (B, classes) each."""
        self._add_errors(wanted, found)
        self._add_answers(wanted, found)
        self._images += len(wanted)

    def _add_errors(self, wanted: Logits, found: Logits) -> None:
        error = error_of(found, wanted)
        image, logit = (int(i) for i in np.unravel_index(error.argmax(), error.shape))
        if error[image, logit] > self._largest:
            self._largest = float(error[image, logit])
            self._place = Place(self._name(image), (logit,), float(wanted[image, logit]), float(found[image, logit]))
        self._error_sum += float(error.sum())
        self._histogram += np.histogram(error, _EDGES)[0]
        self._nan += int(np.isnan(found).sum())
        self._infinite += int(np.isinf(found).sum())
        norms = np.linalg.norm(wanted, axis=1) * np.linalg.norm(found, axis=1)
        with np.errstate(invalid="ignore"):
            cosines = (wanted * found).sum(1) / np.where(norms == 0, 1, norms)
        self._cosine = min(self._cosine, float(np.nan_to_num(cosines, nan=-1.0).min()))
        self._sum += float(wanted.sum())
        self._square_sum += float((wanted**2).sum())
        self._logits += wanted.size

    def _add_answers(self, wanted: Logits, found: Logits) -> None:
        orders = [np.argsort(-logits, axis=1, kind="stable")[:, :5] for logits in (wanted, found)]
        same = orders[0][:, 0] == orders[1][:, 0]
        self._same += same.sum(), (np.sort(orders[0]) == np.sort(orders[1])).all(axis=1).sum()
        if self._classes is not None:
            right = self._classes[self._images : self._images + len(wanted), None]
            for side, order in enumerate(orders):
                self._right[side] += (order[:, :1] == right).sum(), (order == right).any(axis=1).sum()
        for image in np.flatnonzero(~same)[: MAX_CHANGED - len(self._changed)]:
            self._changed.append(self._change(int(image), wanted[image], found[image]))

    def _change(self, image: int, wanted: Logits, found: Logits) -> ChangedAnswer:
        label = self._reference.info.label
        return ChangedAnswer(
            image=self._name(image),
            wanted=label(int(np.argmax(wanted))),
            found=label(int(np.argmax(found))),
            reference_margin=_margin(wanted),
            candidate_margin=_margin(found),
            truth="" if self._classes is None else label(int(self._classes[self._images + image])),
        )

    def _name(self, image: int) -> str:
        index = self._images + image
        return self._names[index] if self._names else f"input {index}"

    def result(self) -> Verification:
        """What was found so far."""
        mean = self._sum / self._logits
        sides = [Side(s.description, precision=s.info.precision) for s in (self._reference, self._candidate)]
        return Verification(
            reference=sides[0],
            candidate=sides[1],
            images=self._images,
            inputs=f"{self._images} inputs",
            logits=LogitErrors(
                largest=self._largest,
                place=self._place,
                mean=self._error_sum / self._logits,
                spread=math.sqrt(max(self._square_sum / self._logits - mean**2, 0.0)),
                cosine=self._cosine,
                histogram=_without_empty_ends(self._histogram),
                nan=self._nan,
                infinite=self._infinite,
                tolerance=logits_tolerance(self._reference, self._candidate),
            ),
            answers=self._agreement(),
            changed=tuple(self._changed),
        )

    def _agreement(self) -> Agreement:
        def of_images(count: np.int64) -> Proportion:
            return Proportion(int(count), self._images)

        many_classes = self._reference.info.config.num_classes > 5
        answers = Agreement(of_images(self._same[0]), of_images(self._same[1]) if many_classes else None)
        if self._classes is None:
            return answers
        top1, top5 = ([of_images(count) for count in self._right[:, i]] for i in (0, 1))
        return Agreement(
            answers.top1,
            answers.top5,
            reference_top1=top1[0],
            candidate_top1=top1[1],
            reference_top5=top5[0] if many_classes else None,
            candidate_top5=top5[1] if many_classes else None,
        )


def _margin(logits: Logits) -> float:
    """By how much the first class leads; NaN where there is no first."""
    if len(logits) < 2:
        return math.inf
    second, first = np.sort(logits)[-2:]
    return float(first - second)


def _without_empty_ends(counts: npt.NDArray[np.int64]) -> Histogram:
    full = np.flatnonzero(counts)
    first, last = (int(full[0]), int(full[-1]) + 1) if len(full) else (0, len(counts))
    return Histogram(tuple(_EDGES[first : last + 1].tolist()), tuple(counts[first:last].tolist()))
