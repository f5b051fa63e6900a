"""Pictures to boxes and masks of objects: Cascade Mask R-CNN (https://arxiv.org/abs/1712.00726), as detectron2 has it.

Every shape but the number of detections follows from the pictures' size: a picture with fewer boxes than places for
them has empty ones in the rest, at which RoIAlign gives zeros at no cost. Boxes are x1, y1, x2, y2 in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vimdeploy.models.backbone import Backbone, StoringModule
from vimdeploy.models.heads.pyramid import ChannelNormedConv, Pyramid
from vimdeploy.ops.detection_ops import NONE, roi_align, suppressed

MASK_SIDE = 28
"""Places of a mask down and across."""
BOX_WEIGHTS = ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0))
"""What the deltas of each stage of the cascade are divided by."""
RPN_OVERLAP, BOX_OVERLAP = 0.7, 0.5
"""Intersection over union from which on two proposals, and two detections of a class, are one."""
_PROPOSALS = 1000
"""Boxes that a level gives before suppression, and a picture after it."""
_BOX_SIDE, _MASK_POOLED = 7, 14
_RATIOS = (0.5, 1.0, 2.0)
"""Height over width of the anchors."""
_ANCHOR_STRIDES = 8
"""The side of a square anchor, in strides of its level."""
_LONGEST_STEP = math.log(1000 / 16)
"""The largest growth of a box's side, as its logarithm."""
_USUAL_SIDE, _USUAL_LEVEL = 224, 4
"""A box of this side is looked at on this level, with a value every 16 pixels; of twice the side, on the next one."""


class Detector(Pyramid):
    """A pyramid, and Cascade Mask R-CNN on it."""

    def __init__(
        self,
        backbone: Backbone,
        neck: nn.Module,
        level: int,
        channels: int,
        classes: int,
        rpn_convs: int,
        box_convs: int,
        box_channels: int,
        box_width: int,
        mask_convs: int,
        mask_channels: int,
    ) -> None:
        """Put the heads on a pyramid.

        Args:
            backbone: gives the map.
            neck: a ``SimplePyramid``: five levels of it.
            level: of the finest, which has a value every 2**level pixels.
            channels: of the levels.
            classes: how many there are.
            rpn_convs: convolutions before proposals.
            box_convs: convolutions of a stage of the cascade.
            box_channels: of these.
            box_width: of the linear layer behind them.
            mask_convs: convolutions before the mask is enlarged.
            mask_channels: of these.
        """
        super().__init__(backbone, neck)
        self.proposal_generator = ProposalGenerator(level, channels, rpn_convs)
        self.roi_heads = RoiHeads(
            level,
            [BoxHead(channels, box_convs, box_channels, box_width) for _ in BOX_WEIGHTS],
            [BoxPredictor(box_width, classes) for _ in BOX_WEIGHTS],
            MaskHead(channels, mask_convs, mask_channels, classes),
        )

    def forward(  # type: ignore[override]
        self, images: Tensor, image_sizes: Tensor, score_threshold: Tensor, max_detections: Tensor
    ) -> tuple[Tensor, ...]:
        """Pictures to their detections, the best first.

        Args:
            images: (B, C, H, W) float32, padded right and bottom.
            image_sizes: (B, 2) int64: height and width of the part that is no padding.
            score_threshold: (B,): what a detection must score more than.
            max_detections: (B,) int64: how many a picture may have.

        Returns:
            boxes (B, N, 4), scores (B, N), classes (B, N) int64, masks (B, N, 28, 28): probabilities. N is what the
            picture with most of them has; a score of 0 stands for no detection.
        """
        levels = super().forward(images)
        sizes = image_sizes.to(images.dtype).flip(1)  # (B, 2): width, height
        proposals = self.proposal_generator(levels, sizes)
        return self.roi_heads(levels[:-1], proposals, sizes, score_threshold, max_detections)


class ProposalGenerator(nn.Module):
    """Levels to boxes in which there may be something."""

    def __init__(self, level: int, channels: int, convs: int) -> None:
        super().__init__()
        self.rpn_head = RpnHead(channels, convs)
        self.selection = ProposalSelection(level)

    def forward(self, levels: Sequence[Tensor], sizes: Tensor) -> Tensor:
        """Five levels (B, C, rows, columns), sizes (B, 2) -> (B, P, 4)."""
        logits, deltas = self.rpn_head(levels)
        proposals: Tensor = self.selection(logits, deltas, [level.shape[2:] for level in levels], sizes)
        return proposals


class RpnHead(nn.Module):
    """For each anchor whether there is something, and how its box lies to it."""

    def __init__(self, channels: int, convs: int) -> None:
        super().__init__()
        self.conv = _OnLevels(channels, convs)
        self.objectness_logits = _PlaceProduct(channels, len(_RATIOS))
        self.anchor_deltas = _PlaceProduct(channels, 4 * len(_RATIOS))

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Levels (B, C, rows, columns) -> logits (B, A), deltas (B, A, 4) of the anchors of all levels in turn."""
        places = self.conv(levels)
        logits, deltas = self.objectness_logits(places), self.anchor_deltas(places)
        return logits.flatten(1), deltas.reshape(deltas.shape[0], -1, 4)


class _OnLevels(nn.Sequential):
    """The same convolutions and ReLUs on each level; all places of all levels in a row (B, places, C)."""

    def __init__(self, channels: int, convs: int) -> None:
        super().__init__()
        for number in range(convs):
            self.add_module(f"conv{number}", nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        places = []
        for level in levels:
            for conv in self:
                level = F.relu(conv(level))
            places.append(level.flatten(2))
        return torch.cat(places, dim=2).transpose(1, 2)


class _PlaceProduct(nn.Conv2d, StoringModule):
    """A convolution of a single tap as a product of (B, places, C)."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__(channels, outputs, 1)

    def stored_tensors(self) -> dict[str, Tensor]:
        """The matrix."""
        return {"matrix": self.weight[:, :, 0, 0]}

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight[:, :, 0, 0], self.bias)


class ProposalSelection(nn.Module):
    """Anchors, logits and deltas to the best boxes of a picture."""

    def __init__(self, level: int) -> None:
        super().__init__()
        self.level = level

    def forward(self, logits: Tensor, deltas: Tensor, grids: Sequence[Sequence[int]], sizes: Tensor) -> Tensor:
        """Choose up to 1000 boxes a picture.

        Args:
            logits: (B, A).
            deltas: (B, A, 4).
            grids: rows and columns of each level.
            sizes: (B, 2): width and height of each picture.

        Returns:
            (B, P, 4), the best first; zeros if there are fewer.
        """
        counts = [rows * columns * len(_RATIOS) for rows, columns in grids]
        boxes, scores = [], []
        parts = zip(logits.split(counts, dim=1), deltas.split(counts, dim=1), grids, strict=True)
        for step, (level_logits, level_deltas, (rows, columns)) in enumerate(parts):
            anchors = anchors_of(rows, columns, 1 << self.level + step).to(deltas)
            best, chosen = level_logits.topk(min(level_logits.shape[1], _PROPOSALS), dim=1)
            found = clipped(moved(anchors[chosen], _rows(level_deltas, chosen)), sizes)
            is_box = ((found[..., 2:] - found[..., :2]) > 0).all(dim=2)
            score = torch.where(is_box, best, NONE)
            kept = suppressed(found, score[:, None], RPN_OVERLAP)[:, 0]
            boxes.append(found)
            scores.append(torch.where(kept, score, NONE))
        best, chosen = torch.cat(scores, dim=1).topk(min(sum(min(c, _PROPOSALS) for c in counts), _PROPOSALS), dim=1)
        return torch.where(best[..., None] > NONE, _rows(torch.cat(boxes, dim=1), chosen), 0.0)


class RoiHeads(nn.Module):
    """Proposals to detections."""

    def __init__(
        self, level: int, box_heads: Sequence[BoxHead], predictors: Sequence[BoxPredictor], mask_head: MaskHead
    ) -> None:
        """Put heads together.

        Args:
            level: of the finest map.
            box_heads: one for each stage of the cascade.
            predictors: one for each stage of the cascade.
            mask_head: looks at what was found.
        """
        super().__init__()
        self.level = level
        self.box_head, self.box_predictor = nn.ModuleList(box_heads), nn.ModuleList(predictors)
        self.selection = DetectionSelection()
        self.mask_head = mask_head

    def forward(
        self,
        levels: Sequence[Tensor],
        proposals: Tensor,
        sizes: Tensor,
        score_threshold: Tensor,
        max_detections: Tensor,
    ) -> tuple[Tensor, ...]:
        """Four levels, (B, P, 4), (B, 2), (B,), (B,) -> as of ``Detector``."""
        boxes, scores = self.cascade(levels, proposals, sizes)
        found = self.selection(boxes, scores, proposals, sizes, score_threshold, max_detections)
        boxes, scores, classes = found[..., :4], found[..., 4], found[..., 5].long()
        logits = self.mask_head(pooled_of(levels, boxes, self.level, _MASK_POOLED))  # (B * N, classes, 28, 28)
        chosen = classes.reshape(-1, 1, 1, 1).expand(-1, 1, MASK_SIDE, MASK_SIDE)
        masks = logits.gather(1, chosen).sigmoid()
        return boxes, scores, classes, masks.reshape(boxes.shape[0], boxes.shape[1], MASK_SIDE, MASK_SIDE)

    def cascade(self, levels: Sequence[Tensor], boxes: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (B, P, 4) -> the boxes of the last stage, and the means of all stages' scores (B, P, classes + 1)."""
        scores = []
        for head, predictor, weights in zip(self.box_head, self.box_predictor, BOX_WEIGHTS, strict=True):
            boxes = clipped(boxes, sizes)
            logits, deltas = predictor(head(pooled_of(levels, boxes, self.level, _BOX_SIDE)))
            scores.append(logits.reshape(*boxes.shape[:2], -1).softmax(dim=2))
            boxes = moved(boxes, deltas.reshape(boxes.shape), weights)
        return boxes, (scores[0] + scores[1] + scores[2]) / len(BOX_WEIGHTS)


class BoxHead(nn.Module):
    """What there is in boxes, as vectors."""

    def __init__(self, channels: int, convs: int, inner: int, width: int) -> None:
        super().__init__()
        self.convs = convs
        for number in range(convs):
            self.add_module(f"conv{number + 1}", _ActiveConv(channels if number == 0 else inner, inner))
        self.fc1 = nn.Linear((inner if convs else channels) * _BOX_SIDE**2, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, 7, 7) -> (N, width)."""
        for number in range(self.convs):
            x = self.get_submodule(f"conv{number + 1}")(x)
        return F.relu(self.fc1(x.flatten(1)))


class BoxPredictor(nn.Module):
    """Vectors to classes and better boxes."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(width, classes + 1)
        self.bbox_pred = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, width) -> logits (N, classes + 1), the background last, and deltas (N, 4)."""
        return self.cls_score(x), self.bbox_pred(x)


class DetectionSelection(nn.Module):
    """Boxes and scores to the best detections of a picture."""

    def forward(
        self,
        boxes: Tensor,
        scores: Tensor,
        proposals: Tensor,
        sizes: Tensor,
        score_threshold: Tensor,
        max_detections: Tensor,
    ) -> Tensor:
        """Choose the detections of a picture.

        Args:
            boxes: (B, P, 4), beyond the pictures' edges too.
            scores: (B, P, classes + 1).
            proposals: (B, P, 4); zeros stand for none.
            sizes: (B, 2): width and height of each picture.
            score_threshold: (B,).
            max_detections: (B,) int64.

        Returns:
            (B, N, 6): box, score, class; zeros if a picture has fewer.
        """
        boxes = clipped(boxes, sizes)
        is_box = (proposals[..., 2] > 0)[:, None]  # (B, 1, P)
        of_classes = scores[..., :-1].transpose(1, 2)  # (B, classes, P)
        wanted = is_box & (of_classes > score_threshold[:, None, None])
        of_classes = torch.where(wanted, of_classes, NONE)
        kept = suppressed(boxes, of_classes, BOX_OVERLAP)
        found = torch.where(kept, of_classes, NONE).transpose(1, 2).flatten(1)  # (B, P * classes)
        most = torch.minimum(kept.flatten(1).sum(dim=1), max_detections).max()
        number = cast("int", most.item())  # while it is traced, a symbol
        torch._check(number >= 0)
        torch._check(number <= found.shape[1])
        best, chosen = found.topk(number, dim=1)
        place = torch.arange(number, device=best.device)
        is_found = (best > NONE) & (place < max_detections[:, None])
        classes = of_classes.shape[1]
        box = _rows(boxes, torch.div(chosen, classes, rounding_mode="floor"))
        class_ = (chosen % classes).to(boxes.dtype)
        return torch.where(is_found[..., None], torch.cat([box, best[..., None], class_[..., None]], dim=2), 0.0)


class MaskHead(nn.Module):
    """What there is in boxes to a mask for each class."""

    def __init__(self, channels: int, convs: int, inner: int, classes: int) -> None:
        super().__init__()
        self.convs = convs
        for number in range(convs):
            self.add_module(f"mask_fcn{number + 1}", _ActiveConv(channels if number == 0 else inner, inner))
        self.deconv = nn.ConvTranspose2d(inner if convs else channels, inner, 2, 2)
        self.predictor = nn.Conv2d(inner, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, 14, 14) -> logits (N, classes, 28, 28)."""
        for number in range(self.convs):
            x = self.get_submodule(f"mask_fcn{number + 1}")(x)
        logits: Tensor = self.predictor(F.relu(self.deconv(x)))
        return logits


class _ActiveConv(ChannelNormedConv):
    """A convolution of three by three, its norm of channels, and ReLU."""

    def __init__(self, inner: int, channels: int) -> None:
        super().__init__(inner, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(super().forward(x))


def anchors_of(rows: int, columns: int, stride: int) -> Tensor:
    """The anchors of a level: (rows * columns * 3, 4) float32, place by place; centres at multiples of the stride."""
    area = float(_ANCHOR_STRIDES * stride) ** 2
    widths = [math.sqrt(area / ratio) for ratio in _RATIOS]
    sides = [(width, ratio * width) for width, ratio in zip(widths, _RATIOS, strict=True)]
    shapes = torch.tensor([(-w / 2, -h / 2, w / 2, h / 2) for w, h in sides])
    y, x = torch.arange(rows) * float(stride), torch.arange(columns) * float(stride)
    y, x = y[:, None].expand(rows, columns), x[None].expand(rows, columns)
    centres = torch.stack([x, y, x, y], dim=2)  # (rows, columns, 4)
    return (centres[:, :, None] + shapes).reshape(-1, 4)


def moved(boxes: Tensor, deltas: Tensor, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """Boxes (..., 4) moved and scaled by deltas (..., 4): centre in sides of the box, logarithm of the growth."""
    sides = boxes[..., 2:] - boxes[..., :2]
    centres = boxes[..., :2] + 0.5 * sides
    deltas = deltas / torch.tensor(weights, dtype=deltas.dtype, device=deltas.device)
    centres = deltas[..., :2] * sides + centres
    half = 0.5 * deltas[..., 2:].clamp(max=_LONGEST_STEP).exp() * sides
    return torch.cat([centres - half, centres + half], dim=-1)


def clipped(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Boxes (B, N, 4) within pictures of (B, 2): width, height."""
    return torch.minimum(boxes.clamp(min=0), torch.cat([sizes, sizes], dim=1)[:, None])


def pooled_of(levels: Sequence[Tensor], boxes: Tensor, finest: int, side: int) -> Tensor:
    """Each box's part of the level that fits its size.

    Args:
        levels: (B, C, rows, columns), the finest first.
        boxes: (B, N, 4).
        finest: the level of the first: a value every 2**finest pixels.
        side: places down and across.

    Returns:
        (B * N, C, side, side).
    """
    area = (boxes[..., 2:] - boxes[..., :2]).prod(dim=2)
    level = torch.floor(_USUAL_LEVEL + torch.log2(area.sqrt() / _USUAL_SIDE + 1e-8))
    level = level.clamp(finest, finest + len(levels) - 1)
    parts = [
        roi_align(features, torch.where(level[..., None] == finest + step, boxes, 0.0), 1 << finest + step, side)
        for step, features in enumerate(levels)
    ]
    pooled = parts[0]
    for part in parts[1:]:
        pooled = pooled + part
    return pooled


def _rows(values: Tensor, chosen: Tensor) -> Tensor:
    """(B, N, D), (B, M) -> (B, M, D)."""
    return values.gather(1, chosen[..., None].expand(-1, -1, values.shape[2]))
