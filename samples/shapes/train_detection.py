"""Train the detection model: Cascade Mask R-CNN on a Vim, 0.35 million parameters in all, 22 minutes on two cores.

python samples/shapes/train_detection.py samples/shapes/detection.safetensors

The losses are those of the papers: of anchors (https://arxiv.org/abs/1506.01497), of each stage of the cascade
(https://arxiv.org/abs/1712.00726), of masks (https://arxiv.org/abs/1703.06870).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from learning import Learner, TrainingScenes, image_of, prepare, started
from scenes import Scene
from torch import Tensor
from torch.utils.data import DataLoader

from vimdeploy.models import variant_by_name
from vimdeploy.models.heads import detect
from vimdeploy.models.heads.detect import BOX_WEIGHTS, Detector, anchors_of, clipped, moved, pooled_of
from vimdeploy.models.heads.pyramid import Pyramid, SimplePyramid
from vimdeploy.models.vim.network import Vim, reset_parameters
from vimdeploy.ops.detection_ops import ious

MINUTES, BATCH, LEARNING_RATE = 22, 8, 2e-3
LEVEL = 3
"""The level of the backbone's map, which has a value every 2**3 pixels; the finest of the pyramid is two below."""
CHANNELS, BOX_CHANNELS, BOX_WIDTH, MASK_CHANNELS = 24, 16, 48, 24
ANCHORS, ANCHOR_OVERLAPS = 64, (0.3, 0.7)
"""Anchors of a picture that the loss counts, half of them on figures at most; below and above what they are not, and
are, on one."""
BOXES, BOX_OVERLAPS = 32, (0.5, 0.6, 0.7)
"""Proposals of a picture that the loss counts, half of them on figures at most; from what on each stage calls them
so."""
PROPOSALS = 64
"""Boxes of each level, and then of a picture, while training; 1000 would take too long."""
VARIANT = variant_by_name(str(Path(__file__).with_name("detection.json")))
SIDE = VARIANT.config.image_size[0]


class Truth(NamedTuple):
    """What is on a picture."""

    boxes: Tensor
    """(G, 4) float32: x1, y1, x2, y2 in pixels."""
    classes: Tensor
    """(G,) int64."""
    masks: Tensor
    """(G, H, W) float32: 0 or 1."""


def main(output: str, minutes: float = MINUTES) -> None:
    """Train and write the weights."""
    prepare()
    detect._PROPOSALS, detect.roi_align = PROPOSALS, roi_align_at_once  # type: ignore[attr-defined]
    model = new_detector()
    learner = Learner(model, LEARNING_RATE, minutes, output)
    for images, truths in DataLoader(TrainingScenes(tensors, SIDE), BATCH, num_workers=1, collate_fn=together):
        if not learner.step(losses_of(model, images, truths)):
            break


def new_detector() -> Detector:
    """The network before training: random heads on the backbone of the segmentation model."""
    config = VARIANT.config
    neck = SimplePyramid(config.dim, CHANNELS, LEVEL)
    widths = {"rpn_convs": 1, "box_convs": 1, "box_channels": BOX_CHANNELS, "box_width": BOX_WIDTH}
    widths |= {"mask_convs": 2, "mask_channels": MASK_CHANNELS}
    model = Detector(Vim(config), neck, LEVEL - 2, CHANNELS, len(VARIANT.labels), **widths)
    reset_parameters(model)
    for name, parameter in model.named_parameters():
        if ".bbox_pred." in name or ".anchor_deltas." in name:
            torch.nn.init.normal_(parameter, std=0.001)  # boxes stay where they are at first
    started(model, Path(__file__).with_name("segmentation.safetensors"))
    return model


def tensors(made: Scene) -> tuple[Tensor, Truth]:
    """A picture (3, H, W) as the model takes it, and what is on it."""
    truth = Truth(
        torch.tensor([figure.box for figure in made.figures], dtype=torch.float32),
        torch.tensor([figure.kind for figure in made.figures]),
        torch.stack([torch.from_numpy(figure.mask) for figure in made.figures]).float(),
    )
    return image_of(made, VARIANT), truth


def together(pairs: Sequence[tuple[Tensor, Truth]]) -> tuple[Tensor, list[Truth]]:
    """A batch."""
    return torch.stack([image for image, _ in pairs]), [truth for _, truth in pairs]


def losses_of(model: Detector, images: Tensor, truths: Sequence[Truth]) -> Tensor:
    """(5,): of anchors' logits and deltas, of the cascade's logits and deltas, of masks."""
    levels = Pyramid.forward(model, images)
    sizes = torch.tensor(images.shape[:1:-1]).expand(len(images), 2)  # width, height
    logits, deltas = model.proposal_generator.rpn_head(levels)
    grids = [level.shape[2:] for level in levels]
    anchors = torch.cat(
        [anchors_of(rows, columns, 1 << LEVEL - 2 + step) for step, (rows, columns) in enumerate(grids)]
    )
    of_anchors = [losses_of_anchors(anchors, *each) for each in zip(logits, deltas, truths, strict=True)]
    with torch.no_grad():
        proposals = model.proposal_generator.selection(logits, deltas, grids, sizes.float())
        boxes = torch.stack([sampled(found, truth) for found, truth in zip(proposals, truths, strict=True)])
    of_cascade = losses_of_cascade(model, levels[:-1], boxes, sizes.float(), truths)
    of_masks = loss_of_masks(model, levels[:-1], boxes, truths)
    return torch.cat([torch.stack(of_anchors).mean(0), of_cascade, of_masks[None]])


def losses_of_anchors(anchors: Tensor, logits: Tensor, deltas: Tensor, truth: Truth) -> Tensor:
    """(2,): of logits (A,) and deltas (A, 4) of a picture."""
    overlaps = ious(anchors, truth.boxes)
    best, matched = overlaps.max(dim=1)
    off, on = best < ANCHOR_OVERLAPS[0], best >= ANCHOR_OVERLAPS[1]
    on |= ((overlaps == overlaps.amax(dim=0)) & (overlaps > 0)).any(dim=1)  # no figure is without an anchor
    chosen = some(on, ANCHORS // 2)
    others = some(off & ~on, ANCHORS - len(chosen))
    both = torch.cat([chosen, others])
    of_logits = F.binary_cross_entropy_with_logits(logits[both], on[both].float())
    wanted = deltas_between(anchors[chosen], truth.boxes[matched[chosen]])
    of_deltas = F.smooth_l1_loss(deltas[chosen], wanted, beta=1 / 9, reduction="sum") / ANCHORS
    return torch.stack([of_logits, of_deltas])


def sampled(proposals: Tensor, truth: Truth) -> Tensor:
    """(BOXES, 4): some proposals and the true boxes; half of them on figures, if there are as many."""
    found = torch.cat([truth.boxes, proposals[proposals[:, 2] > 0]])
    on = ious(found, truth.boxes).amax(dim=1) >= BOX_OVERLAPS[0]
    chosen = some(on, BOXES // 2)
    others = some(~on, BOXES - len(chosen))
    boxes = found[torch.cat([chosen, others])]
    return F.pad(boxes, (0, 0, 0, BOXES - len(boxes)))  # zeros stand for no box


def losses_of_cascade(
    model: Detector, levels: Sequence[Tensor], boxes: Tensor, sizes: Tensor, truths: Sequence[Truth]
) -> Tensor:
    """(2,): of logits and deltas of all stages, from boxes (B, N, 4) on."""
    heads, background, losses = model.roi_heads, len(VARIANT.labels), torch.zeros(2)
    is_box = boxes[..., 2].flatten() > 0
    for head, predictor, weights, least in zip(
        heads.box_head, heads.box_predictor, BOX_WEIGHTS, BOX_OVERLAPS, strict=True
    ):
        boxes = clipped(boxes, sizes)
        logits, deltas = predictor(head(pooled_of(levels, boxes, heads.level, 7)))
        matches = [ious(found, truth.boxes).max(dim=1) for found, truth in zip(boxes, truths, strict=True)]
        on = torch.cat([match.values for match in matches]) >= least
        pairs = list(zip(truths, matches, strict=True))
        classes = torch.cat([truth.classes[match.indices] for truth, match in pairs])
        classes = torch.where(on, classes, background)
        wanted = torch.cat([truth.boxes[match.indices] for truth, match in pairs])
        wanted = deltas_between(boxes.flatten(0, 1)[on], wanted[on], weights)
        of_deltas = F.smooth_l1_loss(deltas[on], wanted, reduction="sum") / is_box.sum()
        losses = losses + torch.stack([F.cross_entropy(logits[is_box], classes[is_box]), of_deltas])
        boxes = moved(boxes, deltas.detach().view_as(boxes), weights)
    return losses


def loss_of_masks(model: Detector, levels: Sequence[Tensor], boxes: Tensor, truths: Sequence[Truth]) -> Tensor:
    """How far the masks of the proposals on figures are from the true ones, those of the true class."""
    heads = model.roi_heads
    matches = [ious(found, truth.boxes).max(dim=1) for found, truth in zip(boxes, truths, strict=True)]
    on = torch.stack([match.values for match in matches]) >= BOX_OVERLAPS[0]
    kept = on.sum(dim=1).max()
    order = on.float().argsort(dim=1, descending=True, stable=True)[:, :kept]  # those on figures first
    on, boxes = on.gather(1, order), boxes.gather(1, order[..., None].expand(-1, -1, 4))
    boxes = torch.where(on[..., None], boxes, 0.0)
    logits = heads.mask_head(pooled_of(levels, boxes, heads.level, 14))
    chosen = [match.indices[places] for match, places in zip(matches, order, strict=True)]
    classes = torch.cat([truth.classes[which] for truth, which in zip(truths, chosen, strict=True)])
    wanted = [
        roi_align_at_once(truth.masks[None], found[None], 1, 28)[torch.arange(len(which)), which]
        for truth, which, found in zip(truths, chosen, boxes, strict=True)
    ]
    of_class = logits[torch.arange(len(classes)), classes]
    flat = on.flatten()
    return F.binary_cross_entropy_with_logits(of_class[flat], (torch.cat(wanted)[flat] >= 0.5).float())


def some(places: Tensor, count: int) -> Tensor:
    """At most so many of the places that are true, by chance."""
    found = places.nonzero()[:, 0]
    return found[torch.randperm(len(found))[:count]]


def deltas_between(boxes: Tensor, wanted: Tensor, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """What ``moved`` makes the wanted boxes of others with: (N, 4) each."""
    sides, wanted_sides = boxes[:, 2:] - boxes[:, :2], wanted[:, 2:] - wanted[:, :2]
    step = (wanted[:, :2] + wanted[:, 2:] - boxes[:, :2] - boxes[:, 2:]) / 2 / sides
    return torch.cat([step, (wanted_sides / sides).log()], dim=1) * torch.tensor(weights)


def roi_align_at_once(features: Tensor, boxes: Tensor, stride: int, side: int) -> Tensor:
    """``detection_ops.roi_align`` for many boxes on small maps: two products for all boxes of a picture."""
    parts = []
    for map_, found in zip(features, boxes, strict=True):
        is_box = found[:, 2] > found[:, 0]
        edges = found[is_box] / stride - 0.5
        across, down = (
            _means(edges[:, axis], edges[:, axis + 2], side, map_.shape[2 - axis]) for axis in (0, 1)
        )  # (n, side, columns), (n, side, rows)
        rows = (map_ @ across.flatten(0, 1).T).unflatten(2, (-1, side))  # (C, rows, n, side)
        means = down[:, None] @ rows.permute(2, 0, 1, 3)
        parts.append(map_.new_zeros(len(found), *means.shape[1:]).index_put((is_box.nonzero()[:, 0],), means))
    return torch.cat(parts)


def _means(start: Tensor, end: Tensor, side: int, cells: int) -> Tensor:
    """(N, side, cells): what each cell along an axis adds to each mean."""
    length = (end - start) / side
    samples = length.ceil()
    number = torch.arange(int(samples.max()) if len(samples) else 1)
    places = torch.arange(side)[:, None] + (number + 0.5) / samples[:, None, None].clamp(min=1)  # in parts
    places = start[:, None, None] + places * length[:, None, None]  # (N, side, samples)
    used = (number < samples[:, None, None]) & (places >= -1) & (places <= cells)
    hats = (1 - (places.clamp(0, cells - 1)[..., None] - torch.arange(cells)).abs()).clamp(min=0)
    return (hats * used[..., None]).sum(dim=2) / samples[:, None, None].clamp(min=1)


if __name__ == "__main__":
    main(sys.argv[1], *map(float, sys.argv[2:]))
