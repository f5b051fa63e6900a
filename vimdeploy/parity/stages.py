"""The stages of a network on two sides, to find the first that is wrong.

Each is compared in two ways. *Carried*: both sides compute from the image on, so errors of earlier stages come along.
*Own*: both compute each stage from the same values, so what differs comes from this stage, however deep it lies. These
values are the reference's, and, once, random ones: with the weights of an untrained model the scan adds so little to
its input that a fault in it hides. Files in int8 get no random ones: their levels cover the values of pictures alone.

Errors are relative: |found - wanted| divided by (root mean square of the token's row, or of the whole tensor if that is
larger, plus |wanted|). A rounding error is proportional to what is rounded, and that of a sum to what is summed up, so
relative errors are alike in a small channel and in a huge one.

A stage that chooses rows of many, as detections are, is compared by the rows that one side alone has; the stages behind
it compute from the reference's choice on both sides, for rows in another order cannot be compared.
"""

from __future__ import annotations

import math
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
_SAME_ROW = 0.02
"""How far the values of a row may be apart, relative to their size, if it is the same row on both sides."""
_FEW_ROWS = 20
"""Fewer rows are judged as if there were so many: one of two is not half of what there is."""


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
    choices = [stage.name for stage in stages_of(reference.info) if stage.is_handed_on]
    if compared:
        random: dict[str, FloatArray] = {}
        for name, inputs in images:
            right = wanted.values(inputs)
            chosen = {stage: right[stage] for stage in choices}
            for side in compared:
                side.add(name, inputs, right, chosen)
            takes_random = [side for side in compared if INT8 not in side.precisions]
            if not random and takes_random:
                generator = np.random.default_rng(0)
                random = {n: generator.standard_normal(v.shape, dtype=np.float32) for n, v in right.items()} | chosen
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
            if len({reference.info.fixed_batch, candidate.info.fixed_batch} - {None}) > 1:
                raise ConfigError("the two sides take different batches")
        except ConfigError as error:
            self.note = _left_out(error)
            return
        self._comparisons = [_Comparison(stage, specs, reference, candidate) for stage in specs]

    def add(self, name: str, inputs: Mapping[str, Array], right: Values, chosen: Values) -> None:
        """An image, the reference's values, and those of them that are handed on."""
        assert self._stages is not None
        carried, own = self._stages.values(inputs, chosen), self._stages.values_apart(inputs, right)
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
        self._carried = _worse(self._carried, self._deviation(image, self._of_image(wanted), ours, self._tolerances[0]))

    def add_own(self, fed: str, wanted: Values, found: Values) -> None:
        """The values of both sides, computed from the same ones; without the stage if a side cannot do that."""
        if self._stage.name in wanted and self._stage.name in found:
            right, ours = self._of_image(wanted), self._of_image(found)
            self._own = _worse(self._own, self._deviation(fed, right, ours, self._tolerances[1]))

    def _deviation(self, image: str, wanted: FloatArray, found: FloatArray, tolerance: Tolerance) -> Deviation:
        measured = _deviation_of_rows if self._stage.is_choice else _deviation
        return measured(image, wanted, found, tolerance)

    def _of_image(self, values: Values) -> FloatArray:
        """The stage's value without the axis of the batch, all of whose rows are of one image."""
        value, axis = values[self._stage.name], self._stage.batch_axis
        return value if axis is None else np.take(value, 0, axis)

    def result(self) -> Stage:
        """What was found; there was an image."""
        assert self._carried is not None
        stage = self._stage
        return Stage(
            stage.name, stage.title, stage.block, stage.kind, self._carried, self._own, self._nan, self._infinite
        )


def _deviation_of_rows(image: str, wanted: FloatArray, found: FloatArray, tolerance: Tolerance) -> Deviation:
    """The part of the rows (N, D) that one side alone has; rows of zeros stand for none."""
    ours, theirs = (rows[np.abs(rows).max(axis=1, initial=0) != 0] for rows in (wanted, found))
    size = np.abs(ours) + np.abs(ours).mean(axis=0, keepdims=True) if len(ours) else ours
    with np.errstate(invalid="ignore"):
        same = (np.abs(ours[:, None] - theirs) <= _SAME_ROW * size[:, None]).all(axis=2)
    alone = np.flatnonzero(~same.any(axis=1)), np.flatnonzero(~same.any(axis=0))
    part = max(len(rows) / max(len(side), _FEW_ROWS) for rows, side in zip(alone, (ours, theirs), strict=True))
    row = int(alone[0][0]) if len(alone[0]) else 0
    place = Place(image, (row,), *(float(side[row, 0]) if row < len(side) else math.nan for side in (ours, theirs)))
    return Deviation(part, tolerance, place, of_rows=True)


def _deviation(image: str, wanted: FloatArray, found: FloatArray, tolerance: Tolerance) -> Deviation:
    if not wanted.size and not found.size:  # of a picture in which nothing was found
        return Deviation(0.0, tolerance, Place(image, (), 0.0, 0.0))
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
