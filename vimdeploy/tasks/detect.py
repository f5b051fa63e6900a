"""Detection: a picture to the objects in it, each with a box, a class, a score and a mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vimdeploy.model_info import BATCH, ModelInfo, TensorSpec
from vimdeploy.recipe import PAD
from vimdeploy.tasks.base import ABSENT, Answer, Comparison, Limits, Outputs, Task
from vimdeploy.tasks.detections import BOXES, CLASSES, MASKS, SCORES, Detections, Found, matched

if TYPE_CHECKING:
    from torch import nn

    from vimdeploy.models.backbone import Backbone
    from vimdeploy.preprocess import Placement

IMAGE_SIZES, SCORE_THRESHOLD, MAX_DETECTIONS = "image_sizes", "score_threshold", "max_detections"
DETECTIONS = "detections"
"""The word of the dimension that is as large as there are detections."""
_MASK = 28
_SAME = 0.9
"""The intersection over union from which on two boxes come of the same proposal. What rounding moves stays far above
it, in int8 too; boxes of different proposals were thinned out to one of 0.7."""
_FEW = 20
"""Fewer detections are judged as if there were so many, all else equal: else one that noise brings over the threshold
would be half of what is in a picture of two."""


class Detection(Task):
    """Objects with their masks."""

    name = "detect"
    summary = "the objects, their boxes and masks"
    counts = ("F1 with the reference's detections, by score", "F1 with the reference's detections, by score")
    has_classes = True
    dense = True
    fit = PAD
    least_spread: Mapping[str, float] = {BOXES: 16.0, SCORES: 0.1, MASKS: 0.1}
    """What there is between a sure and a doubtful detection or place, and the patches that boxes are found by."""
    labels_off = 1000.0
    """What is found on one side alone: noise of 1e-5 of the logits brings other proposals among the best thousand, ten
    of them with random weights; and so it moves what lies near a threshold."""

    def outputs(
        self, config: Any, grid: tuple[int | str, int | str], blocks: Sequence[int], numbers: Mapping[str, Any]
    ) -> tuple[TensorSpec, ...]:
        """``boxes`` (batch, detections, 4), ``scores``, ``classes``, ``masks`` (batch, detections, 28, 28)."""
        self.no_blocks(blocks)
        return (
            TensorSpec(BOXES, (BATCH, DETECTIONS, 4)),
            TensorSpec(SCORES, (BATCH, DETECTIONS)),
            TensorSpec(CLASSES, (BATCH, DETECTIONS), "int64"),
            TensorSpec(MASKS, (BATCH, DETECTIONS, _MASK, _MASK)),
        )

    def head(self, backbone: Backbone, info: ModelInfo) -> nn.Module:
        """The whole network."""
        raise NotImplementedError

    def limits(self, score_threshold: float | None = None, max_detections: int | None = None) -> Limits:
        """What is asked for, and the usual for what is None."""
        asked: dict[str, Any] = {"score_threshold": score_threshold, "max_detections": max_detections}
        return Limits(**{name: value for name, value in asked.items() if value is not None})

    def beside(self, info: ModelInfo, placement: Placement, limits: Limits) -> dict[str, npt.NDArray[Any]]:
        """Which part of the input is picture, and which detections are wanted."""
        return {
            IMAGE_SIZES: np.array(placement.resized, np.int64),
            SCORE_THRESHOLD: np.array(limits.score_threshold, np.float32),
            MAX_DETECTIONS: np.array(limits.max_detections, np.int64),
        }

    def aligned(self, wanted: Outputs, found: Outputs) -> tuple[Outputs, Outputs]:
        """The detections of both sides that are the same, in the reference's order.

        Two are the same if they are of one class and their boxes overlap by 90 %. The classes have the others too,
        against ``ABSENT``, and at least 20 in all, so that a single detection that noise brings over the threshold is
        not too much. What is not finite is compared with zeros, so that it is seen.
        """
        sides = [_without_padding(outputs) for outputs in (wanted, found)]
        ours, theirs = ((side[BOXES], side[CLASSES]) for side in sides)
        pairs, _ = matched(ours, theirs, _SAME)
        alone = [np.setdiff1d(np.arange(len(side[SCORES])), used) for side, used in zip(sides, pairs.T, strict=True)]
        wrong = [
            np.array([i for i in numbers if not all(np.isfinite(values[i]).all() for values in side.values())], int)
            for side, numbers in zip(sides, alone, strict=True)
        ]

        def rows(name: str, side: int) -> npt.NDArray[Any]:
            values = sides[side][name]
            extra = alone if name == CLASSES else wrong
            parts = [
                values[numbers]
                if i == side
                else np.full_like(values, ABSENT if name == CLASSES else 0, shape=(len(numbers), *values.shape[1:]))
                for i, numbers in enumerate(extra)
            ]
            joined = np.concatenate([values[pairs[:, side]], *parts])
            if name == CLASSES and len(joined) < _FEW:
                joined = np.concatenate([joined, np.zeros(_FEW - len(joined), joined.dtype)])
            return joined[None]

        reference, candidate = ({name: rows(name, side) for name in sides[side]} for side in range(2))
        return reference, candidate

    def answers(self, outputs: Outputs, info: ModelInfo, placements: Sequence[Placement] = ()) -> list[Answer]:
        """The detections in each picture, in its own pixels; in those of the input if no placements are given."""
        labels = tuple(map(str, info.labels))
        answers: list[Answer] = []
        for number in range(len(outputs[SCORES])):
            found = _without_padding({name: values[number : number + 1] for name, values in outputs.items()})
            boxes, size = found[BOXES], _size_of_input(info, found[BOXES])
            if placements:
                size, resized = placements[number].original, placements[number].resized
                boxes = boxes * np.array((size[1] / resized[1], size[0] / resized[0]) * 2, np.float32)
            boxes = np.clip(boxes, 0, np.array(size[::-1] * 2, np.float32))
            kept = ~(boxes[:, 2:] <= boxes[:, :2]).any(axis=1)  # NaN is kept, so that it is seen
            scores, classes, masks = (found[name][kept] for name in (SCORES, CLASSES, MASKS))
            answers.append(Detections(boxes[kept], scores, classes, masks, size, labels))
        return answers

    def comparison(
        self, info: ModelInfo, classes: npt.NDArray[np.int64] | None = None, names: Sequence[str] = ()
    ) -> Comparison:
        """By the detections that both sides have."""
        return Found(names)


def _without_padding(outputs: Outputs) -> dict[str, npt.NDArray[Any]]:
    """What was found in the one picture of a batch."""
    kept = outputs[SCORES][0] != 0
    return {name: values[0][kept] for name, values in outputs.items()}


def _size_of_input(info: ModelInfo, boxes: npt.NDArray[np.floating[Any]]) -> tuple[int, int]:
    """Height and width of the input; the smallest that holds all boxes if the file leaves them open."""
    _, _, *sides = info.inputs[0].dims
    if all(isinstance(side, int) for side in sides):
        return int(sides[0]), int(sides[1])
    finite = boxes[np.isfinite(boxes).all(axis=1)]
    right, bottom = np.ceil(finite[:, 2:].max(axis=0, initial=1.0))
    return int(bottom), int(right)
