"""Two steps of detectors in PyTorch, which ONNX has operators for: RoIAlign, and suppression of overlapping boxes.

Eagerly plain arithmetic (RoIAlign is differentiable, so that small detectors can be trained with it). While
``torch.onnx.export`` traces, RoIAlign is one node ``RoiAlign``, and suppression ``NonMaxSuppression`` with what turns
its list into a mask, so that no shape depends on values.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from onnx import TensorProto
from torch import Tensor

NONE = -1e30
"""A score at or below this one stands for no box."""


def roi_align(features: Tensor, boxes: Tensor, stride: int, side: int) -> Tensor:
    """Means of a map within boxes (https://arxiv.org/abs/1703.06870), aligned, with as many samples as a box has cells.

    Args:
        features: (B, C, rows, columns), a value every ``stride`` pixels.
        boxes: (B, N, 4): x1, y1, x2, y2 in pixels, x1 <= x2, y1 <= y2; zeros give zeros.
        stride: in pixels.
        side: places down and across that a box is divided into.

    Returns:
        (B * N, C, side, side).
    """
    batch, number, _ = boxes.shape
    if torch.onnx.is_in_onnx_export():
        none = (boxes[..., 0] > math.inf).long()  # as many as there are boxes, of another model too
        images = (torch.arange(batch, device=boxes.device)[:, None] + none).reshape(-1)
        attributes: dict[str, Any] = {
            "coordinate_transformation_mode": "half_pixel",
            "mode": "avg",
            "output_height": side,
            "output_width": side,
            "sampling_ratio": 0,
            "spatial_scale": 1 / stride,
        }
        shape = (batch * number, features.shape[1], side, side)
        inputs = (features, boxes.reshape(-1, 4), images)
        node: Tensor = torch.onnx.ops.symbolic("::RoiAlign", inputs, attributes, dtype=features.dtype, shape=shape)
        return node
    edges = boxes.reshape(-1, 4) / stride - 0.5
    sizes = (edges[:, 2:] - edges[:, :2]).tolist()
    pooled = []
    for index, ((left, top, _, _), (width, height)) in enumerate(zip(edges.tolist(), sizes, strict=True)):
        (first_row, down), (first_column, across) = (
            _means(start, length, side, cells)
            for start, length, cells in zip((top, left), (height, width), features.shape[2:], strict=True)
        )
        part = features[index // number, :, first_row : first_row + down.shape[1], first_column:][
            ..., : across.shape[1]
        ]
        pooled.append(down.to(features) @ part @ across.to(features).T)
    return torch.stack(pooled) if pooled else features.new_zeros(0, features.shape[1], side, side)


def _means(start: float, length: float, side: int, cells: int) -> tuple[int, Tensor]:
    """The first cell that a box along one axis touches, and (side, touched cells): what each adds to each mean."""
    samples = math.ceil(length / side)
    if samples <= 0:
        return 0, torch.zeros(side, 1)
    places = torch.arange(side * samples, dtype=torch.float64)
    places = start + (places + 0.5) * (length / side / samples)
    inside = (places >= -1) & (places <= cells)
    places = places.clamp(0, cells - 1)
    low = places.floor().long().clamp(max=max(cells - 2, 0))
    first, last = int(low[0]), min(int(low[-1]) + 1, cells - 1)
    weights = torch.zeros(side * samples, last - first + 1, dtype=torch.float64)
    rows, part = torch.arange(side * samples), places - low
    weights[rows, low - first] = 1 - part
    weights[rows, (low + 1).clamp(max=cells - 1) - first] += part
    weights = weights * inside[:, None]
    return first, weights.view(side, samples, -1).mean(dim=1).float()


@torch.library.custom_op("vimdeploy::suppressed", mutates_args=())
def suppressed(boxes: Tensor, scores: Tensor, overlap: float) -> Tensor:
    """Which boxes remain if each that overlaps one of a higher score is left out (non-maximum suppression).

    Args:
        boxes: (B, N, 4): x1, y1, x2, y2.
        scores: (B, C, N) of C classes, each of which is looked at apart; at or below ``NONE`` there is no box.
        overlap: the intersection over union above which two boxes are one.

    Returns:
        (B, C, N) of bool.
    """
    kept = torch.zeros(scores.shape, dtype=torch.bool)
    for image, overlaps in enumerate(ious(b, b) > overlap for b in boxes):
        for class_, of_class in enumerate(scores[image]):
            order = [i for i in of_class.argsort(descending=True, stable=True).tolist() if of_class[i] > NONE]
            out = torch.zeros(len(of_class), dtype=torch.bool)
            for i in order:
                if not out[i]:
                    kept[image, class_, i] = True
                    out |= overlaps[i]
    return kept


@suppressed.register_fake
def _(boxes: Tensor, scores: Tensor, overlap: float) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)


def ious(boxes: Tensor, others: Tensor) -> Tensor:
    """(N, 4), (M, 4) -> (N, M): intersection over union; 0 if both boxes are empty."""
    areas, other_areas = ((b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) for b in (boxes, others))
    least, most = torch.maximum(boxes[:, None, :2], others[:, :2]), torch.minimum(boxes[:, None, 2:], others[:, 2:])
    shared = (most - least).clamp(min=0).prod(dim=2)
    union = areas[:, None] + other_areas - shared
    return torch.where(union > 0, shared / union, torch.zeros_like(union))


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """How ``torch.onnx.export`` writes ``suppressed``."""
    op: Any = import_module("onnxscript").opset20

    def nodes(boxes: Any, scores: Any, overlap: float) -> Any:
        most = op.Constant(value_ints=[1 << 30])
        least, overlap = op.Constant(value_floats=[NONE]), op.Constant(value_floats=[overlap])
        found = op.NonMaxSuppression(boxes, scores, most, overlap, least)
        ones = op.Expand(op.Constant(value_floats=[1.0]), op.Shape(found, start=0, end=1))
        nothing = op.Expand(op.Constant(value_float=0.0), op.Shape(scores))
        return op.Cast(op.ScatterND(nothing, found, ones), to=TensorProto.BOOL)

    return {torch.ops.vimdeploy.suppressed.default: nodes}
