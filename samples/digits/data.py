"""The pictures: scikit-learn's handwritten digits, 1797 scans of 8 x 8 pixels by 43 people, from that package.

python samples/digits/data.py FOLDER                writes the held-out pictures as FOLDER/<digit>/<number>.png
python samples/digits/data.py FOLDER calibration    writes the others, for vimdeploy quantize
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


def images_and_digits(held_out: bool) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """One of the two parts: the quarter that training never sees, or the rest.

    Returns:
        Pictures (n, 8, 8) of 8 bits, and the digit of each.
    """
    digits = load_digits()
    pixels = (digits.images * (255 / 16)).round().astype(np.uint8)
    parts = train_test_split(pixels, digits.target, test_size=0.25, random_state=0, stratify=digits.target)
    return (parts[1], parts[3]) if held_out else (parts[0], parts[2])


def write_files(folder: Path, held_out: bool = True) -> int:
    """The pictures of a part as PNG files, one sub-folder a digit; how many there are."""
    pictures, digits = images_and_digits(held_out)
    for digit in range(10):
        of_digit = folder / str(digit)
        of_digit.mkdir(parents=True, exist_ok=True)
        for number, picture in enumerate(pictures[digits == digit]):
            Image.fromarray(picture).save(of_digit / f"{number:02}.png")
    return len(pictures)


if __name__ == "__main__":
    print(f"{write_files(Path(sys.argv[1]), sys.argv[2:] != ['calibration'])} pictures in {sys.argv[1]}")
