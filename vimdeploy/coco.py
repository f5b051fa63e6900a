"""What COCO laid down: its classes and their numbers, and masks as lengths of runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

CATEGORIES = {
    number: name
    for number, name in enumerate(
        """
        person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, , stop sign,
        parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, , backpack, umbrella,
        , , handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove,
        skateboard, surfboard, tennis racket, bottle, , wine glass, cup, fork, knife, spoon, bowl, banana, apple,
        sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, ,
        dining table, , , toilet, , tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink,
        refrigerator, , book, clock, vase, scissors, teddy bear, hair drier, toothbrush
        """.replace("\n", " ").split(","),
        1,
    )
    for name in [name.strip()]
    if name
}
"""The names of COCO's 80 classes by their ``category_id``, 1 to 90; ten of these stand for classes that it left out."""

NAMES = tuple(CATEGORIES.values())
"""As models number them: from 0 on, without gaps."""


def category_id(number: int, labels: Sequence[str]) -> int:
    """The ``category_id`` of a model's class: COCO's own if the labels are COCO's, else the class's number."""
    return list(CATEGORIES)[number] if tuple(labels) == NAMES and 0 <= number < len(NAMES) else number


def run_lengths(inside: npt.NDArray[np.bool_], corner: tuple[int, int], size: tuple[int, int]) -> dict[str, Any]:
    """A mask as COCO's compressed RLE: ``{"size": [height, width], "counts": "..."}``.

    The runs go down the columns, from one to the next, first those that are outside. They are found in a part of the
    picture alone; pycocotools, which gives the same text, would want the whole picture for every mask.

    Args:
        inside: (h, w), a part of the picture that holds the whole mask.
        corner: the row and the column of the picture at which the part begins.
        size: height and width of the picture.
    """
    (height, width), (top, left) = size, corner
    columns = np.pad(inside.T.astype(np.int8), ((0, 0), (1, 1)))  # (w, h + 2)
    column, row = np.nonzero(np.diff(columns, axis=1))
    turns = (left + column) * height + top + row
    joined = turns[1:] == turns[:-1]  # down to the last row, and on from the first row of the next column
    turns = turns[~(np.append(joined, [False]) | np.append([False], joined))[: len(turns)]]
    counts = np.diff(turns, prepend=0, append=height * width)
    if len(counts) > 1 and counts[-1] == 0:
        counts = counts[:-1]
    return {"size": [height, width], "counts": _compressed(counts)}


def _compressed(counts: npt.NDArray[np.int64]) -> str:
    """Lengths as text: from the fourth on what each differs by from the one before the last, five bits a letter."""
    rest = counts.astype(np.int64)
    rest[3:] -= counts[1:-2]
    letters, wanted = [], [np.ones(len(rest), bool)]
    while wanted[-1].any():
        bits, rest = rest & 31, rest >> 5
        more = np.where(bits & 16, rest != -1, rest != 0) & wanted[-1]
        letters.append(bits + 32 * more + 48)
        wanted.append(more)
    table, there = np.stack(letters, axis=1), np.stack(wanted[:-1], axis=1)
    return table[there].astype(np.uint8).tobytes().decode("ascii")
