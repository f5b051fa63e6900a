"""Detection: a picture to the boxes and masks of the objects in it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vimdeploy.errors import ConfigError
from vimdeploy.model_info import BATCH, ModelInfo, TensorSpec
from vimdeploy.models.stages import StageSpec, StoredWeight
from vimdeploy.tasks.base import (
    Shapes,
    Task,
)
from vimdeploy.tasks.pyramid import SIMPLE, Pyramid, level_of, neck_of, neck_stages

if TYPE_CHECKING:
    from torch import nn

    from vimdeploy.models.backbone import Backbone

BOXES, SCORES, CLASSES, MASKS = "boxes", "scores", "classes", "masks"
IMAGE_SIZES, SCORE_THRESHOLD, MAX_DETECTIONS = "image_sizes", "score_threshold", "max_detections"
_DETECTIONS = "detections"
_MASK_SIDE = 28
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
"""Of the cascade."""
_BOX_SIDE = 7
_INT8 = ("int8",)


class Detection(Task):
    """Boxes, classes, scores and masks of objects."""

    name = "detect"
    summary = "boxes and masks of objects"
    has_classes = True
    dense = True
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
        several = (BATCH, _DETECTIONS)
        return (
            TensorSpec(BOXES, (*several, 4)),
            TensorSpec(SCORES, several),
            TensorSpec(CLASSES, several, "int64"),
            TensorSpec(MASKS, (*several, _MASK_SIDE, _MASK_SIDE)),
        )

    def head(self, backbone: Backbone, info: ModelInfo) -> nn.Module:
        """A ``Detector``."""
        from vimdeploy.models.heads.detect import Detector

        neck, _ = neck_of(backbone.config, info.head)
        numbers = {name: info.head[name] for name in _USUAL}
        return Detector(backbone, neck, level_of(backbone.config) - 2, info.head["channels"], **numbers)

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
            raise ConfigError(f"Wanted the neck {SIMPLE} and numbers of classes, channels and layers, found {info.head}.")
        names = [spec.name for spec in self.more_inputs]
        if [spec.name for spec in info.inputs[1:]] != names:
            raise ConfigError(f"Wanted the inputs {', '.join(names)} beside pictures, found {len(info.inputs)} inputs.")
        if [spec.name for spec in info.outputs] != [BOXES, SCORES, CLASSES, MASKS]:
            raise ConfigError(f"Wanted the outputs {BOXES}, {SCORES}, {CLASSES} and {MASKS}.")
        if info.labels and len(info.labels) != info.head["classes"]:
            raise ConfigError(f"Wanted {info.head['classes']} labels, one per class; found {len(info.labels)}.")


_HEADS, _RPN = "roi_heads.", "proposal_generator.rpn_head."


def _count(shapes: Shapes, pattern: str) -> int:
    return sum(bool(re.fullmatch(pattern, name)) for name in shapes)
