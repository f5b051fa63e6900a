"""Make the pictures that are kept here out of the published files: python samples/fashion/pack.py FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pictures import COLUMNS, HERE, SIDE
from PIL import Image
from published import TEST, TRAINING, read_part

from vimdeploy.errors import ImageError


def main(folder: Path) -> None:
    """Pack the first 2000 test pictures, and the first 500 training pictures for calibration."""
    for part, name, count in ((TEST, "test", 2000), (TRAINING, "calibration", 500)):
        pictures, classes = read_part(folder, part)
        pack(pictures[:count], classes[:count], name)


def pack(pictures: npt.NDArray[np.uint8], classes: npt.NDArray[np.int64], name: str) -> None:
    """Write the two files that ``pictures.pictures_and_classes`` reads.

    Args:
        pictures: (n, 28, 28), n a multiple of ``COLUMNS``.
        classes: (n,).
        name: of the files, without what follows the dot.
    """
    rows = pictures.reshape(-1, COLUMNS, SIDE, SIDE).swapaxes(1, 2)
    Image.fromarray(rows.reshape(-1, COLUMNS * SIDE)).save(HERE / f"{name}.png", optimize=True)
    lines = ("".join(map(str, row)) for row in classes.reshape(-1, COLUMNS))
    (HERE / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="ascii")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except ImageError as error:
        sys.exit(str(error))
