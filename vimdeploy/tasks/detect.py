"""Detection: a picture to the objects in it, each with a box, a class, a score and a mask."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vimdeploy.errors import ConfigError
from vimdeploy.model_info import BATCH, INT8, ModelInfo, TensorSpec
from vimdeploy.models.stages import StageSpec, StoredWeight
from vimdeploy.recipe import PAD
from vimdeploy.tasks.base import ABSENT, Answer, Comparison, Limits, Outputs, Shapes, Task
from vimdeploy.tasks.detections import BOXES, CLASSES, MASKS, SCORES, Detections, Found, matched
from vimdeploy.tasks.pyramid import SIMPLE, Pyramid, level_of, neck_of, neck_stages

if TYPE_CHECKING:
    from torch import nn

    from vimdeploy.models.backbone import Backbone
    from vimdeploy.preprocess import Placement

IMAGE_SIZES, SCORE_THRESHOLD, MAX_DETECTIONS = "image_sizes", "score_threshold", "max_detections"
_HEADS, _RPN = "roi_heads.", "proposal_generator.rpn_head."
_OF_BOXES = tuple(f"{_HEADS}{part}" for part in ("box_head", "box_predictor", "mask_head"))
"""Modules whose values have a row for each box."""
DETECTIONS = "detections"
"""The word of the dimension that is as large as there are detections."""
_MASK = 28
_USUAL = {
    "classes": 80,
    "rpn_convs": 2,
    "box_convs": 4,
    "box_channels": 256,
    "box_width": 1024,
    "mask_convs": 4,
    "mask_channels": 256,
}
"""The head of random weights: as hustvl/Vim's det folder has it on COCO."""
_MOST = 1 << 16
"""More of anything no head has; bounds what a damaged file can ask for."""
_STAGES = 3
"""Stages of the cascade."""
_BOX_SIDE = 7
"""Places down and across that the heads see of a box."""
_OF_COORDINATES = 2048.0
"""Units of float32 by which a convolution of what RoIAlign gives may be off: boxes of several hundred pixels, and very
narrow ones, are rounded before it. Seen: 601."""
_INT8 = ("int8",)
_SAME = 0.99
"""The intersection over union from which on two boxes come of the same proposal. What rounding to float16 moves stays
above it. Different proposals were thinned out to one of 0.7, but a trained cascade brings them onto the same object:
0.988 was seen, of two whose scores changed places."""
_MARGIN = np.array((-0.5, -0.5, 0.5, 0.5), np.float32)
"""Half a pixel around a box: a model may give one that is empty or as thin as its rounding, which nothing overlaps."""
_FEW = 20
"""Fewer detections are judged as if there were so many, all else equal: else one that noise brings over the threshold
would be half of what is in a picture of two."""


class Detection(Task):
    """Objects with their masks."""

    name = "detect"
    summary = "the objects, their boxes and masks"
    parts: Mapping[str, str] = {"neck.": "neck", "roi_heads.": "detection head"}
    counts = ("score-weighted F1 with the reference", "score-weighted F1 with the reference")
    fields = ("category_id", "label", "score", "bbox")
    items = "detections"
    has_classes = True
    dense = True
    fit = PAD
    least_spread: Mapping[str, float] = {BOXES: 16.0, SCORES: 1.0, MASKS: 1.0}
    """The patch that boxes are found by, in pixels; and the range of probabilities, which a few of them do not show."""
    rounding_float32 = 5.0
    """Each stage of the cascade looks at the boxes of the one before: a box that a rounding moves is sampled at other
    places. Seen: a probability of a mask that is off by 8e-5, with random weights."""
    in_float32: Mapping[str, str] = {
        f"{pattern}.*": "boxes would be moved by its roundings, at no gain: it is small"
        for pattern in ("*.bbox_pred", "*.anchor_deltas")
    }
    labels_off = 200.0
    """What is found on one side alone: noise of 1e-5 of the logits brings other proposals among the best thousand, ten
    of them with random weights; and so it moves what lies near a threshold. Seen, with these: 13 % in float16 and
    bfloat16, 36 % in int8; half of them may be."""

    more_inputs = (
        TensorSpec(IMAGE_SIZES, (BATCH, 2), "int64"),
        TensorSpec(SCORE_THRESHOLD, (BATCH,)),
        TensorSpec(MAX_DETECTIONS, (BATCH,), "int64"),
    )

    def numbers(self, config: Any, shapes: Shapes, neck: str = "") -> dict[str, Any]:
        """The neck, and the sizes of the heads: a checkpoint's, or those of hustvl/Vim's det folder."""
        super().numbers(config, shapes, neck)
        found = Pyramid().numbers(config, shapes, SIMPLE)
        if not any(name.startswith(_HEADS) for name in shapes):
            return found | _USUAL
        fitting = {
            "classes": (f"{_HEADS}box_predictor.0.cls_score.weight", 0),
            "box_channels": (f"{_HEADS}box_head.0.conv1.weight", 0),
            "box_width": (f"{_HEADS}box_head.0.fc1.weight", 0),
            "mask_channels": (f"{_HEADS}mask_head.deconv.weight", 1),
        }
        sizes = {
            number: shapes[name][axis]
            for number, (name, axis) in fitting.items()
            if name in shapes and len(shapes[name]) > axis
        }
        sizes["classes"] = max(sizes.get("classes", 1 + _USUAL["classes"]) - 1, 1)  # one is the background
        counts = {
            "rpn_convs": _count(shapes, rf"{_RPN}conv\.conv\d+\.weight"),
            "box_convs": _count(shapes, rf"{_HEADS}box_head\.0\.conv\d+\.weight"),
            "mask_convs": _count(shapes, rf"{_HEADS}mask_head\.mask_fcn\d+\.weight"),
        }
        return found | _USUAL | sizes | counts

    def least_grid(self, config: Any, numbers: Mapping[str, Any]) -> int:
        """As many as its pyramid wants."""
        return Pyramid().least_grid(config, numbers)

    def outputs(
        self, config: Any, grid: tuple[int | str, int | str], blocks: Sequence[int], numbers: Mapping[str, Any]
    ) -> tuple[TensorSpec, ...]:
        """``boxes`` (batch, detections, 4), ``scores``, ``classes`` and ``masks`` (batch, detections, 28, 28)."""
        Pyramid().outputs(config, grid, blocks, numbers)  # refuses what it cannot be
        several = (BATCH, DETECTIONS)
        return (
            TensorSpec(BOXES, (*several, 4)),
            TensorSpec(SCORES, several),
            TensorSpec(CLASSES, several, "int64"),
            TensorSpec(MASKS, (*several, _MASK, _MASK)),
        )

    def head(self, backbone: Backbone, info: ModelInfo) -> nn.Module:
        """A ``Detector``."""
        from vimdeploy.models.heads.detect import Detector

        neck, _ = neck_of(backbone.config, info.head)
        numbers = {name: info.head[name] for name in _USUAL}
        return Detector(backbone, neck, level_of(backbone.config) - 2, info.head["channels"], **numbers)

    def rounding(self, info: ModelInfo) -> float:
        """As ``rounding_float32``. Seen: 112 units of float16 with trained weights (samples/shapes), 54 with random
        ones; 32 of bfloat16, 5 of int8.
        """
        return 1.0 if info.precision == INT8 else 16.0

    def stages(self, info: ModelInfo) -> tuple[StageSpec, ...]:
        """The steps of the neck and of the heads."""
        return (*neck_stages(info), *_head_stages(info.head))

    def check(self, info: ModelInfo) -> None:
        """Heads that can be, their inputs and outputs, and a label for each class, or none at all."""
        numbers = {name: info.head.get(name) for name in ("channels", *_USUAL)}
        counts = ("rpn_convs", "box_convs", "mask_convs")
        if info.head.get("neck") != SIMPLE or not all(
            type(number) is int and (0 if name in counts else 1) <= number <= (64 if name in counts else _MOST)
            for name, number in numbers.items()
        ):
            raise ConfigError(
                f"Wanted the neck {SIMPLE} and numbers of classes, channels and layers, found {info.head}."
            )
        names = [spec.name for spec in self.more_inputs]
        if [spec.name for spec in info.inputs[1:]] != names:
            raise ConfigError(f"Wanted the inputs {', '.join(names)} beside pictures, found {len(info.inputs)} inputs.")
        if [spec.name for spec in info.outputs] != [BOXES, SCORES, CLASSES, MASKS]:
            raise ConfigError(f"Wanted the outputs {BOXES}, {SCORES}, {CLASSES} and {MASKS}.")
        if info.labels and len(info.labels) != info.head["classes"]:
            raise ConfigError(f"Wanted {info.head['classes']} labels, one per class; found {len(info.labels)}.")

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

        Two are the same if they are of one class and their boxes overlap by 99 %. The classes have the others too,
        against ``ABSENT``, and at least 20 in all, so that a single detection that noise brings over the threshold is
        not too much. What is not finite is compared with zeros, so that it is seen.
        """
        sides = [_without_padding(outputs) for outputs in (wanted, found)]
        ours, theirs = ((side[BOXES] + _MARGIN, side[CLASSES]) for side in sides)
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
    height, width = info.image_size
    if isinstance(height, int) and isinstance(width, int):
        return height, width
    finite = boxes[np.isfinite(boxes).all(axis=1)]
    right, bottom = np.ceil(finite[:, 2:].max(axis=0, initial=1.0))
    return int(bottom), int(right)


def _count(shapes: Shapes, pattern: str) -> int:
    return sum(bool(re.fullmatch(pattern, name)) for name in shapes)


def _head_stages(numbers: Mapping[str, Any]) -> Iterator[StageSpec]:
    channels, width = int(numbers["channels"]), int(numbers["box_width"])
    convs = [f"{_RPN}conv.conv{number}" for number in range(numbers["rpn_convs"])]
    yield _stage(f"{_RPN}conv", 9 * channels, f"{_RPN}conv.Transpose", [_weights(conv, "Conv") for conv in convs])
    for name in ("objectness_logits", "anchor_deltas"):
        module = f"{_RPN}{name}"
        weights = (
            StoredWeight(f"{module}.MatMul", 1, f"{module}.matrix", transposed=True),
            StoredWeight(f"{module}.Add", 1, f"{module}.bias"),
        )
        yield replace(_stage(module, channels, f"{module}.Add", [weights]), float32_in=())
    yield _choice("proposal_generator.selection", "Where_11")
    for number in range(_STAGES):
        head, predictor = (f"{_HEADS}{name}.{number}" for name in ("box_head", "box_predictor"))
        yield from _convolutions(f"{head}.conv", numbers["box_convs"], channels, numbers["box_channels"])
        inner = numbers["box_channels"] if numbers["box_convs"] else channels
        yield _product(f"{head}.fc1", "Gemm", inner * _BOX_SIDE**2)
        yield _product(f"{predictor}.cls_score", "Gemm", width)
        yield replace(_product(f"{predictor}.bbox_pred", "Gemm", width), moves_boxes=True)
    yield _choice(f"{_HEADS}selection", "Where_3")
    mask = f"{_HEADS}mask_head"
    yield from _convolutions(f"{mask}.mask_fcn", numbers["mask_convs"], channels, numbers["mask_channels"])
    yield _product(f"{mask}.deconv", "ConvTranspose", numbers["mask_channels"])
    yield _product(f"{mask}.predictor", "Conv", numbers["mask_channels"])


def _convolutions(start: str, count: int, channels: int, inner: int) -> Iterator[StageSpec]:
    """Convolutions in a row, each with its norm and ReLU."""
    for number in range(1, count + 1):
        module, norm = f"{start}{number}", f"{start}{number}.norm"
        weights = [
            (StoredWeight(f"{module}.Conv", 1, f"{module}.weight"),),
            _weights(norm, "LayerNormalization"),
        ]
        stage = _stage(module, 9 * (channels if number == 1 else inner), f"{module}.Relu", weights)
        yield replace(stage, more_units=_OF_COORDINATES) if number == 1 else stage


def _product(module: str, operator: str, terms: int) -> StageSpec:
    return _stage(module, terms, f"{module}.{operator}", [_weights(module, operator)])


def _choice(module: str, node: str) -> StageSpec:
    """A choice of rows, by the last of its nodes."""
    return replace(_stage(module, 1, f"{module}.{node}", []), is_choice=True)


def _weights(module: str, operator: str) -> tuple[StoredWeight, ...]:
    node = f"{module}.{operator}"
    return StoredWeight(node, 1, f"{module}.weight"), StoredWeight(node, 2, f"{module}.bias")


def _stage(module: str, terms: int, value: str, weights: Sequence[tuple[StoredWeight, ...]]) -> StageSpec:
    stored = tuple(weight for some in weights for weight in some)
    axis = None if module.startswith(_OF_BOXES) else 0
    return StageSpec(module, module, None, terms, module, value, stored, axis, float32_in=_INT8)
