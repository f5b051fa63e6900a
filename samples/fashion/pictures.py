"""The pictures that are kept here: the first 2000 of Fashion-MNIST's test part, and the first 500 of its training part.

python samples/fashion/pictures.py FOLDER                writes the test pictures as FOLDER/<class>/<number>.png
python samples/fashion/pictures.py FOLDER calibration    writes the training pictures, for vimdeploy quantize
python samples/fashion/pictures.py FOLDER test 200       writes the first 200 alone

A part is two files: a grey picture of all its pictures, 50 a row, and a text with their classes, a digit a picture.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

HERE = Path(__file__).parent
PARTS = ("test", "calibration")
SIDE, COLUMNS = 28, 50


def pictures_and_classes(part: str = "test") -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """One of ``PARTS``.

    Returns:
        Pictures (n, 28, 28) of 8 bits, white on black, and the class of each.
    """
    with Image.open(HERE / f"{part}.png") as sheet:
        rows = np.asarray(sheet).reshape(-1, SIDE, COLUMNS, SIDE)
    digits = (HERE / f"{part}.txt").read_text(encoding="ascii").replace("\n", "")
    return rows.swapaxes(1, 2).reshape(-1, SIDE, SIDE), np.array([int(digit) for digit in digits])


def write_files(folder: Path, part: str = "test", count: int | None = None) -> int:
    """The pictures of a part, or the first of them, as PNG files, one sub-folder a class; how many there are."""
    names = json.loads((HERE / "fashion.json").read_text(encoding="utf-8"))["labels"]
    pictures, classes = (values[:count] for values in pictures_and_classes(part))
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number, (picture, of_class) in enumerate(zip(pictures, classes, strict=True)):
        Image.fromarray(picture).save(folder / names[of_class] / f"{number:04}.png")
    return len(pictures)


if __name__ == "__main__":
    folder, *rest = sys.argv[1:]
    part, *count = rest or ["test"]
    print(f"{write_files(Path(folder), part, *map(int, count))} pictures in {folder}")
