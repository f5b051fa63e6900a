"""Proof that an artifact answers as its source does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vimdeploy.preprocess import FloatArray
from vimdeploy.runtimes.base import Session
from vimdeploy.tolerance import Tolerance, tolerance_for


@dataclass(frozen=True)
class Parity:
    """How the answers of one session compare with those of a reference."""

    reference: str
    candidate: str
    images: int
    max_error: float
    """Largest absolute difference of a logit."""
    worst_image: int
    worst_logit: int
    worst_pair: tuple[float, float]
    """The reference's and the candidate's logit at the worst place."""
    mean_error: float
    logits_std: float
    """Standard deviation of the reference's logits, over all images and classes."""
    min_cosine: float
    """Smallest cosine between the two logit vectors of an image."""
    top1_agreement: float
    """Part of the images with the same most probable class."""
    reference_accuracy: float | None
    candidate_accuracy: float | None
    """Part of the images whose class was found; None where the classes are not known."""
    tolerance: Tolerance

    @property
    def relative_error(self) -> float:
        """The largest error as a part of the logits' standard deviation."""
        return self.max_error / self.logits_std if self.logits_std else float(self.max_error > 0)

    @property
    def passed(self) -> bool:
        """Whether the largest error is within the tolerance (NaN is not)."""
        return self.relative_error <= self.tolerance.limit


def check_parity(
    reference: Session,
    candidates: Sequence[Session],
    batches: Iterable[FloatArray],
    classes: npt.NDArray[np.int64] | None = None,
) -> list[Parity]:
    """Compare sessions with a reference on the same inputs.

    Args:
        reference: whose answers count as right, usually ``EagerSession``.
        candidates: the sessions to compare.
        batches: inputs (B, C, H, W); read once, one at a time.
        classes: the right class of each image, over all batches.

    Returns:
        One result a candidate, in their order.
    """
    tallies = [_Tally() for _ in candidates]
    for batch in batches:
        wanted = reference.run(batch).astype(np.float64)
        for tally, candidate in zip(tallies, candidates, strict=True):
            tally.add(wanted, candidate.run(batch).astype(np.float64), classes)
    return [tally.result(reference, c, classes) for tally, c in zip(tallies, candidates, strict=True)]


class _Tally:
    """Sums over the batches so far; memory does not grow with them."""

    def __init__(self) -> None:
        self.images = self.agreeing = self.reference_right = self.candidate_right = 0
        self.max_error, self.worst = -1.0, (0, 0, (0.0, 0.0))
        self.error_sum = self.sum = self.square_sum = 0.0
        self.logits = 0
        self.min_cosine = np.inf

    def add(
        self, wanted: npt.NDArray[np.float64], found: npt.NDArray[np.float64], classes: npt.NDArray[np.int64] | None
    ) -> None:
        with np.errstate(invalid="ignore"):
            error = np.abs(found - wanted)
        error[np.isnan(error)] = np.inf  # NaN is the worst of errors
        image, logit = (int(i) for i in np.unravel_index(error.argmax(), error.shape))
        if error[image, logit] > self.max_error:
            pair = (float(wanted[image, logit]), float(found[image, logit]))
            self.max_error, self.worst = float(error[image, logit]), (self.images + image, logit, pair)
        norms = np.linalg.norm(wanted, axis=1) * np.linalg.norm(found, axis=1)
        with np.errstate(invalid="ignore"):
            cosines = (wanted * found).sum(1) / np.where(norms == 0, 1, norms)
        self.min_cosine = min(self.min_cosine, float(np.nan_to_num(cosines, nan=-1.0).min()))
        if classes is not None:
            right = classes[self.images : self.images + len(wanted)]
            self.reference_right += int((wanted.argmax(1) == right).sum())
            self.candidate_right += int((found.argmax(1) == right).sum())
        self.agreeing += int((wanted.argmax(1) == found.argmax(1)).sum())
        self.error_sum += float(error.sum())
        self.sum += float(wanted.sum())
        self.square_sum += float((wanted**2).sum())
        self.logits += wanted.size
        self.images += len(wanted)

    def result(self, reference: Session, candidate: Session, classes: npt.NDArray[np.int64] | None) -> Parity:
        mean = self.sum / self.logits
        worst_image, worst_logit, worst_pair = self.worst
        return Parity(
            reference=reference.description,
            candidate=candidate.description,
            images=self.images,
            max_error=self.max_error,
            worst_image=worst_image,
            worst_logit=worst_logit,
            worst_pair=worst_pair,
            mean_error=self.error_sum / self.logits,
            logits_std=float(np.sqrt(max(self.square_sum / self.logits - mean**2, 0.0))),
            min_cosine=self.min_cosine,
            top1_agreement=self.agreeing / self.images,
            reference_accuracy=None if classes is None else self.reference_right / self.images,
            candidate_accuracy=None if classes is None else self.candidate_right / self.images,
            tolerance=tolerance_for(candidate.operators, candidate.info.precision),
        )


def random_batches(shape: tuple[int, int, int], images: int, batch: int, seed: int) -> Iterator[FloatArray]:
    """Inputs where no pictures are given: standard normal, as preprocessed pictures are by and large.

    Args:
        shape: (C, H, W).
        images: how many in all.
        batch: how many at a time.
        seed: the same inputs for the same seed.
    """
    generator = np.random.default_rng(seed)
    for start in range(0, images, batch):
        yield generator.standard_normal((min(batch, images - start), *shape), dtype=np.float32)
