"""The stages of a network on two sides, to find the first that is wrong.

Each is compared in two ways. *Carried*: both sides compute from the image on, so errors of earlier stages come along.
*Own*: both compute each stage from the same values, so what differs is this stage's doing, however deep it lies. These
values are the reference's, and, once, random ones: with the weights of an untrained model the scan adds so little to
its input that a fault in it hides. Files in int8 get no random ones: their levels end where the values of pictures do.

An error counts in parts of the size of what stands there: of the root of the mean square of its token's row (of all
rows where that is more), plus the value itself. A rounding is a part of what it rounds, and a sum's a part of what it
sums up, so the parts are alike in a small channel and in a huge one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from vimdeploy.artifact import INT8
from vimdeploy.models.stages import BATCH_AXIS, StageName, stages_of
from vimdeploy.parity.check import error_of
from vimdeploy.parity.results import Deviation, Place, Stage
from vimdeploy.preprocess import FloatArray
from vimdeploy.runtimes.base import Session
from vimdeploy.tolerance import Tolerance, stage_tolerance

Values = Mapping[str, FloatArray]


def compare_stages(
    reference: Session, candidate: Session, images: Iterable[tuple[str, FloatArray]]
) -> tuple[Stage, ...]:
    """The stages that both sides give, in the order of the network.

    Args:
        reference: whose values count as right.
        candidate: the session to compare.
        images: names and inputs (C, H, W); looked at one after the other, so that memory does not grow with them.

    Raises:
        ConfigError: where one of the two gives no stages: says why.
    """
    wanted, found = reference.open_stages(), candidate.open_stages()
    both = wanted.names & found.names
    comparisons = [
        _Comparison(stage, reference, candidate) for stage in stages_of(candidate.info.config) if stage.name in both
    ]
    random: dict[str, FloatArray] = {}
    for name, image in images:
        array = image[None]
        right = wanted.values(array)
        carried, own = found.values(array), found.values_apart(array, right)
        for comparison in comparisons:
            comparison.add_carried(name, right, carried)
            comparison.add_own(name, right, own)
        if not random and INT8 not in (reference.info.precision, candidate.info.precision):
            generator = np.random.default_rng(0)
            random = {n: generator.standard_normal(v.shape, dtype=np.float32) for n, v in right.items()}
            right, own = wanted.values_apart(array, random), found.values_apart(array, random)
            for comparison in comparisons:
                comparison.add_own("random values", right, own)
    return tuple(comparison.result() for comparison in comparisons)


class _Comparison:
    """One stage over the images so far."""

    def __init__(self, stage: StageName, reference: Session, candidate: Session) -> None:
        self._stage = stage
        self._tolerances = [stage_tolerance(stage, reference, candidate, apart) for apart in (False, True)]
        self._carried: Deviation | None = None
        self._own: Deviation | None = None
        self._nan = self._infinite = 0

    def add_carried(self, image: str, wanted: Values, found: Values) -> None:
        """The values of both sides, computed from an image on."""
        ours = self._of_image(found)
        self._nan += int(np.isnan(ours).sum())
        self._infinite += int(np.isinf(ours).sum())
        self._carried = _worse(self._carried, _deviation(image, self._of_image(wanted), ours, self._tolerances[0]))

    def add_own(self, fed: str, wanted: Values, found: Values) -> None:
        """The values of both sides, computed from the same ones; without the stage where a side cannot do that."""
        if self._stage.name in wanted and self._stage.name in found:
            right, ours = self._of_image(wanted), self._of_image(found)
            self._own = _worse(self._own, _deviation(fed, right, ours, self._tolerances[1]))

    def _of_image(self, values: Values) -> FloatArray:
        """The stage's value without the axis of the batch."""
        value: FloatArray = values[self._stage.name].squeeze(BATCH_AXIS.get(self._stage.kind, 0))
        return value

    def result(self) -> Stage:
        """What was found; there was an image."""
        assert self._carried is not None
        stage = self._stage
        return Stage(
            stage.name, stage.title, stage.block, stage.kind, self._carried, self._own, self._nan, self._infinite
        )


def _deviation(image: str, wanted: FloatArray, found: FloatArray, tolerance: Tolerance) -> Deviation:
    squares = wanted.astype(np.float64) ** 2
    rows = squares.mean(axis=-1, keepdims=True)
    size = np.sqrt(np.maximum(rows, squares.mean())) + np.abs(wanted)
    error = error_of(found, wanted)
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.where(error == 0, 0.0, error / size)
    parts[np.isnan(parts)] = np.inf
    index = tuple(int(i) for i in np.unravel_index(parts.argmax(), parts.shape))
    place = Place(image, index, float(wanted[index]), float(found[index]))
    return Deviation(float(parts[index]), tolerance, place)


def _worse(first: Deviation | None, second: Deviation) -> Deviation:
    return second if first is None or second.error > first.error else first
