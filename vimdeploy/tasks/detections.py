"""What a detection model says: boxes, scores, classes and masks; how they are drawn, and how two sides compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vimdeploy import coco
from vimdeploy.tasks.base import (
    MAX_CHANGES,
    Agreement,
    Answer,
    Change,
    Comparison,
    Measure,
    Proportion,
    image_name,
)
from vimdeploy.tasks.segment import color_of, drawable

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

Floats = npt.NDArray[np.floating[Any]]

BOXES, SCORES, CLASSES, MASKS = "boxes", "scores", "classes", "masks"
_INSIDE = 0.5
"""The probability from which on a place belongs to the object."""
_STRIP = 1 << 20
"""Pixels of a mask that are interpolated at once."""
_OPACITY = 0.45
_FAINT = (160, 160, 160)
_OVERLAP = 0.5
"""The intersection over union from which on two boxes are called the same, as by COCO's AP50: what is looser may be
another object, and what is stricter judges how exact a box is, which has a measure of its own."""
_GRID = 56
"""Places across and down at which two masks are compared: twice as many as they have themselves."""
_TOLD = 3
"""Detections of one side alone that are told in words."""


@dataclass(frozen=True, repr=False, eq=False)
class Detections(Answer):
    """The objects that were found in a picture, the best first."""

    boxes: Floats
    """(N, 4): x1, y1, x2, y2 in pixels of the picture."""
    scores: Floats
    """(N,): from 0 to 1, descending."""
    classes: npt.NDArray[np.int64]
    """(N,): from 0 on."""
    masks: Floats
    """(N, rows, columns): the probability that places of the box, evenly spread, belong to the object."""
    size: tuple[int, int]
    """Height and width of the picture."""
    labels: tuple[str, ...] = ()
    top: int = 5
    """How many objects the table has."""
    faint: frozenset[int] = frozenset()
    """Those that are drawn as a thin box alone."""

    columns = ("score", "class", "x", "y", "width", "height")

    def __len__(self) -> int:
        return len(self.scores)

    def label(self, number: int) -> str:
        """The name of a class; its number if nobody named it."""
        return self.labels[number] if 0 <= number < len(self.labels) else f"class {number}"

    def first(self, count: int) -> Detections:
        """With so many in the table; the JSON document has all of them."""
        return replace(self, top=count)

    def rows(self) -> list[tuple[str, ...]]:
        """A line per object; how many more there are."""
        empty = ("",) * 4
        lines = [
            (f"{score:7.2%}", self.label(int(number)), *(f"{value:.1f}" for value in box))
            for score, number, box in zip(self.scores[: self.top], self.classes, _cornered(self.boxes), strict=False)
        ]
        if not lines:
            return [("", "nothing found", *empty)]
        return lines + ([("", f"and {len(self) - self.top} more", *empty)] if len(self) > self.top else [])

    def document(self) -> dict[str, Any]:
        """All objects as COCO's results have them, with the names of their classes."""
        found = [
            line | {"label": self.label(int(number))} for line, number in zip(self._lines(), self.classes, strict=True)
        ]
        return {"size": list(self.size), "detections": found}

    def results(self, image: int | str) -> list[dict[str, Any]]:
        """A line of COCO's results per object."""
        return [{"image_id": image} | line for line in self._lines()]

    def _lines(self) -> list[dict[str, Any]]:
        return [
            {
                "category_id": coco.category_id(int(number), self.labels),
                "bbox": [_shortest(value) for value in box],
                "score": _shortest(score),
                "segmentation": coco.run_lengths(*pasted(mask, corners, self.size), self.size),
            }
            for number, score, box, corners, mask in zip(
                self.classes, self.scores, _cornered(self.boxes), self.boxes, self.masks, strict=True
            )
        ]

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All of it; masks in their boxes."""
        return {BOXES: self.boxes, SCORES: self.scores, CLASSES: self.classes, MASKS: self.masks}

    def picture(self, image: Image.Image) -> Image.Image:
        """The objects over the picture, which may have another size than the one that they were found in."""
        from PIL import Image, ImageDraw, ImageFont

        boxes = self.boxes * ((image.width / self.size[1], image.height / self.size[0]) * 2)
        drawn = [int(i) for i in np.flatnonzero(np.isfinite(boxes).all(axis=1))[::-1]]  # the best last
        bright = [i for i in drawn if i not in self.faint]
        pixels = np.array(image.convert("RGB"))
        for i in bright:
            inside, (top, left) = pasted(self.masks[i], boxes[i], (image.height, image.width))
            part = pixels[top : top + inside.shape[0], left : left + inside.shape[1]]
            for channel, value in enumerate(color_of(int(self.classes[i]))):
                mixed = ((1 - _OPACITY) * np.arange(256) + _OPACITY * value).astype(np.uint8)
                part[inside, channel] = mixed[part[inside, channel]]
        painted = Image.fromarray(pixels)
        pen = ImageDraw.Draw(painted)
        pen.font = ImageFont.load_default(max(10, min(image.size) // 40))
        width = max(1, min(image.size) // 250)
        for i in drawn:
            corners = [round(float(value)) for value in boxes[i]]
            if i in self.faint:
                pen.rectangle(corners, outline=_FAINT)
                continue
            pen.rectangle(corners, outline=color_of(int(self.classes[i])), width=width)
        for i in bright:
            text = f"{self.label(int(self.classes[i]))} {self.scores[i]:.0%}"
            _write(pen, drawable(text), boxes[i], color_of(int(self.classes[i])), image.size)
        return painted


def _cornered(boxes: Floats) -> Floats:
    """x, y, width, height."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def _shortest(value: np.floating[Any]) -> float:
    """The number with the fewest digits that is the same in its own type."""
    return float(str(value))


def _write(
    pen: ImageDraw.ImageDraw, text: str, box: Floats, color: tuple[int, int, int], size: tuple[int, int]
) -> None:
    """A text on a ground of its colour above a box, or in it if there is no room above."""
    _, _, right, bottom = pen.textbbox((0, 0), text)
    wide, high = round(right) + 4, round(bottom) + 2
    x = max(min(round(float(box[0])), size[0] - wide), 0)
    y = round(float(box[1])) - high if box[1] >= high else round(float(box[1]))
    pen.rectangle((x, y, x + wide, y + high), fill=color)
    pen.text((x + 2, y + 1), text, fill="black" if sum(color) > 380 else "white")


def pasted(mask: Floats, box: Floats, size: tuple[int, int]) -> tuple[npt.NDArray[np.bool_], tuple[int, int]]:
    """A mask in the pixels of a picture: those whose middle belongs to the object.

    Args:
        mask: (rows, columns), probabilities.
        box: x1, y1, x2, y2 in pixels.
        size: height and width of the picture.

    Returns:
        The part of the picture that the box covers, and the row and the column at which it begins.
    """
    (left, top), (right, bottom) = (
        np.clip(edge, 0, size[::-1]).astype(int) for edge in (np.ceil(box[:2] - 0.5), np.floor(box[2:] + 0.5))
    )
    inside = np.zeros((max(bottom - top, 0), max(right - left, 0)), bool)
    rows, columns = np.arange(top, bottom) + 0.5, np.arange(left, right) + 0.5
    step = max(_STRIP // max(len(columns), 1), 1)
    for start in range(0, len(rows), step):
        inside[start : start + step] = _inside(mask, box, rows[start : start + step], columns)
    return inside, (int(top), int(left))


def _inside(mask: Floats, box: Floats, rows: Floats, columns: Floats) -> npt.NDArray[np.bool_]:
    """Which places belong to an object: bilinear between the middles of the mask's cells, with zeros around."""
    x1, y1, x2, y2 = (float(value) for value in box)
    down, across = _weights((rows - y1) / (y2 - y1), len(mask)), _weights((columns - x1) / (x2 - x1), mask.shape[1])
    return np.asarray(down @ mask.astype(np.float32) @ across.T >= _INSIDE)


def _weights(parts: Floats, cells: int) -> npt.NDArray[np.float32]:
    """How much each cell counts at places that are parts of the way through the box: (places, cells)."""
    distance = parts[:, None] * cells - 0.5 - np.arange(cells)
    return np.maximum(1 - np.abs(distance), 0).astype(np.float32)


def box_ious(box: Floats, boxes: Floats) -> npt.NDArray[np.float64]:
    """Intersection over union of one box with others; 0 with what is not finite."""
    box, boxes = box.astype(np.float64), boxes.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
        both = np.maximum(sides, 0).prod(axis=1)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
        return np.nan_to_num(both / (areas - both), nan=0.0, posinf=0.0, neginf=0.0)


def matched(
    wanted: tuple[Floats, npt.NDArray[np.int64]], found: tuple[Floats, npt.NDArray[np.int64]], least: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Pairs of detections of the same class on two sides, those that overlap most first, each in one pair at most.

    Scores have no say, so that two of equal scores may change places; and both sides are treated alike.

    Args:
        wanted: boxes and classes.
        found: likewise.
        least: the intersection over union from which on two boxes may be a pair.

    Returns:
        (M, 2), the numbers of the detections in the order of the first side; and (M,), how much they overlap.
    """
    candidates = []
    for i, (box, number) in enumerate(zip(*wanted, strict=True)):
        ious = np.where(found[1] == number, box_ious(box, found[0]), 0.0)
        candidates += [(float(ious[j]), i, int(j)) for j in np.flatnonzero(ious >= least)]
    pairs: dict[int, tuple[int, float]] = {}
    taken: set[int] = set()
    for iou, i, j in sorted(candidates, key=lambda candidate: (-candidate[0], *candidate[1:])):
        if i not in pairs and j not in taken:
            pairs[i] = j, iou
            taken.add(j)
    numbers = np.array([(i, pairs[i][0]) for i in sorted(pairs)], np.int64).reshape(-1, 2)
    return numbers, np.array([pairs[i][1] for i in sorted(pairs)])


class Found(Comparison):
    """Detections of both sides: which of them are the same, and how alike these are."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._images = self._same = self._pairs = self._all = 0
        self._common = self._weight = 0.0
        self._box_iou = self._mask_iou = self._score = 0.0
        self._changes: list[Change] = []

    def add(self, reference: Sequence[Answer], candidate: Sequence[Answer]) -> None:
        """Match the detections in some more pictures."""
        for wanted, found in zip(reference, candidate, strict=True):
            assert isinstance(wanted, Detections)
            assert isinstance(found, Detections)
            self._add(wanted, found)
            self._images += 1

    def _add(self, wanted: Detections, found: Detections) -> None:
        pairs, ious = matched((wanted.boxes, wanted.classes), (found.boxes, found.classes), _OVERLAP)
        first, second = pairs.T
        self._pairs += len(pairs)
        self._all += len(wanted) + len(found)
        self._common += float(wanted.scores[first].sum() + found.scores[second].sum())
        self._weight += float(wanted.scores.sum() + found.scores.sum())
        self._box_iou += float(ious.sum())
        self._score += float(np.abs(wanted.scores[first] - found.scores[second]).sum())
        self._mask_iou += sum(
            _mask_iou((wanted.masks[i], wanted.boxes[i]), (found.masks[j], found.boxes[j])) for i, j in pairs
        )
        if len(wanted) == len(found) == len(pairs):
            self._same += 1
        elif len(self._changes) < MAX_CHANGES:
            wanted, found = (
                replace(answer, faint=frozenset(numbers.tolist()))
                for answer, numbers in ((wanted, first), (found, second))
            )
            name = image_name(self._names, self._images)
            self._changes.append(Change(name, _in_words(wanted), _in_words(found), sides=(wanted, found)))

    def result(self) -> Agreement:
        """In how many pictures all is found on both sides, and how alike what is found on both is."""
        if not self._images:
            return Agreement()
        measures = [
            Measure(f"same detections, box IoU of {_OVERLAP:.0%} at least", self._of(self._same)),
            Measure("detections that both sides have", Proportion(2 * self._pairs, self._all)),
            Measure("mean IoU of their boxes", self._mean(self._box_iou)),
            Measure("mean IoU of their masks", self._mean(self._mask_iou)),
            Measure("mean difference of their scores", self._mean(self._score)),
        ]
        told = tuple(measure for measure in measures if measure.candidate.total)
        changed = self._images - self._same
        return Agreement(told, tuple(self._changes), changed, drawing="What both sides found is a thin grey box.")

    def _of(self, count: int) -> Proportion:
        return Proportion(count, self._images)

    def _mean(self, total: float) -> Proportion:
        return Proportion(round(total, 4), self._pairs)

    def points_lost(self) -> float:
        """Percentage points of F1 with the reference's detections; each counts as much as its score.

        A score is about how probable it is that the detection is right. One of 6 % that a threshold of 5 % hides on one
        side costs next to nothing then, as it would cost of a measure of right and wrong objects.
        """
        return 100 * (1 - self._common / self._weight) if self._weight else float("nan")


def _mask_iou(*sides: tuple[Floats, Floats]) -> float:
    """Intersection over union of two masks in their boxes; 1 if both are empty."""
    left, top = np.minimum(sides[0][1][:2], sides[1][1][:2])
    right, bottom = np.maximum(sides[0][1][2:], sides[1][1][2:])
    places = (np.arange(_GRID) + 0.5) / _GRID
    rows, columns = top + places * (bottom - top), left + places * (right - left)
    wanted, found = (_inside(mask, box, rows, columns) for mask, box in sides)
    either = int((wanted | found).sum())
    return int((wanted & found).sum()) / either if either else 1.0


def _in_words(answer: Detections) -> str:
    """How many there are, and the best of those that the other side does not have."""
    alone = [i for i in range(len(answer)) if i not in answer.faint]
    text = f"{len(answer)} {'detection' if len(answer) == 1 else 'detections'}"
    if not alone:
        return text
    best = ", ".join(f"{answer.label(int(answer.classes[i]))} {answer.scores[i]:.1%}" for i in alone[:_TOLD])
    more = f" and {len(alone) - _TOLD} more" if len(alone) > _TOLD else ""
    return f"{text}, here alone: {best}{more}"
