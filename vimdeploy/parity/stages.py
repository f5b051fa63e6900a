"""The stages of a network on two sides, to find the first that is wrong.

Each is compared in two ways. *Carried*: both sides compute from the image on, so errors of earlier stages come along.
*Own*: both compute each stage from the same values, so what differs comes from this stage, however deep it lies. These
values are the reference's, and, once, random ones: with the weights of an untrained model the scan adds so little to
its input that a fault in it hides. Files in int8 get no random ones: their levels cover the values of pictures alone.

Errors are relative: |found - wanted| divided by (root mean square of the token's row, or of the whole tensor if that is
larger, plus |wanted|). A rounding error is proportional to what is rounded, and that of a sum to what is summed up, so
relative errors are alike in a small channel and in a huge one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from vimdeploy.errors import ConfigError
from vimdeploy.model_info import INT8
from vimdeploy.models.stages import StageSpec
from vimdeploy.networks import stages_of
from vimdeploy.parity.check import error_of
from vimdeploy.parity.results import Deviation, Place, Stage
from vimdeploy.preprocess import FloatArray
from vimdeploy.runtimes.base import Array, Session, Stages
from vimdeploy.tolerance import Tolerance, stage_tolerance

Values = Mapping[str, FloatArray]


def compare_stages(
    reference: Session, candidates: Sequence[Session], images: Iterable[tuple[str, Mapping[str, Array]]]
) -> list[tuple[tuple[Stage, ...], str]]:
    """The stages that both sides give, in the order of the network; those of the reference are computed once for all.

    Args:
        reference: whose values count as right.
        candidates: the sessions to compare.
        images: names and inputs, a batch of one each; looked at one after the other, so that memory stays flat.

    Returns:
        For each candidate its stages, or none and the sentence why.
    """
    try:
        wanted = reference.open_stages()
    except ConfigError as error:
        return [((), _left_out(error)) for _ in candidates]
    sides = [_Candidate(reference, wanted.names, candidate) for candidate in candidates]
    compared = [side for side in sides if not side.note]
    if compared:
        random: dict[str, FloatArray] = {}
        for name, inputs in images:
            right = wanted.values(inputs)
            for side in compared:
                side.add(name, inputs, right)
            takes_random = [side for side in compared if INT8 not in side.precisions]
            if not random and takes_random:
                generator = np.random.default_rng(0)
                random = {n: generator.standard_normal(v.shape, dtype=np.float32) for n, v in right.items()}
                right = wanted.values_apart(inputs, random)
                for side in takes_random:
                    side.add_random(inputs, random, right)
    return [side.result() for side in sides]


class _Candidate:
    """One candidate over the images so far."""

    def __init__(self, reference: Session, names: Collection[str], candidate: Session) -> None:
        self.note = ""
        self.precisions = (reference.info.precision, candidate.info.precision)
        self._stages: Stages | None = None
        self._comparisons: list[_Comparison] = []
        try:
            specs = stages_of(candidate.info)
            self._stages = candidate.open_stages()
            if self._stages.names != names:
                raise ConfigError("the two sides have different ones")
        except ConfigError as error:
            self.note = _left_out(error)
            return
        self._comparisons = [_Comparison(stage, specs, reference, candidate) for stage in specs]

    def add(self, name: str, inputs: Mapping[str, Array], right: Values) -> None:
        """An image, and the reference's values."""
        assert self._stages is not None
        carried, own = self._stages.values(inputs), self._stages.values_apart(inputs, right)
        for comparison in self._comparisons:
            comparison.add_carried(name, right, carried)
            comparison.add_own(name, right, own)

    def add_random(self, inputs: Mapping[str, Array], random: Values, right: Values) -> None:
        """Random values that each stage is fed with, and what the reference makes of them."""
        assert self._stages is not None
        own = self._stages.values_apart(inputs, random)
        for comparison in self._comparisons:
            comparison.add_own("random values", right, own)

    def result(self) -> tuple[tuple[Stage, ...], str]:
        """The stages, or why there are none."""
        return tuple(comparison.result() for comparison in self._comparisons), self.note


def _left_out(error: ConfigError) -> str:
    return f"Stages are left out: {str(error).removesuffix('.')}."


class _Comparison:
    """One stage over the images so far."""

    def __init__(self, stage: StageSpec, stages: Sequence[StageSpec], reference: Session, candidate: Session) -> None:
        self._stage = stage
        self._tolerances = [stage_tolerance(stage, stages, reference, candidate, apart) for apart in (False, True)]
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
        """The values of both sides, computed from the same ones; without the stage if a side cannot do that."""
        if self._stage.name in wanted and self._stage.name in found:
            right, ours = self._of_image(wanted), self._of_image(found)
            self._own = _worse(self._own, _deviation(fed, right, ours, self._tolerances[1]))

    def _of_image(self, values: Values) -> FloatArray:
        """The stage's value without the axis of the batch."""
        value: FloatArray = values[self._stage.name].squeeze(self._stage.batch_axis)
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
        relative = np.where(error == 0, 0.0, error / size)
    relative[np.isnan(relative)] = np.inf
    index = tuple(int(i) for i in np.unravel_index(relative.argmax(), relative.shape))
    place = Place(image, index, float(wanted[index]), float(found[index]))
    return Deviation(float(relative[index]), tolerance, place)


def _worse(first: Deviation | None, second: Deviation) -> Deviation:
    return second if first is None or second.error > first.error else first
