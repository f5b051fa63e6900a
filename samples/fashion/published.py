"""Fashion-MNIST as its authors publish it: 70,000 pictures of clothes from a shop, 28 x 28 pixels, 10 classes.

Four files in the idx format: a header of big-endian numbers, then bytes; compressed by gzip.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pictures import SIDE

from vimdeploy.errors import ImageError
from vimdeploy.text import reason_of

_PICTURES_HEADER, _CLASSES_HEADER = 16, 8  # bytes: a magic number and the sizes, 4 bytes each
_HOW_TO_GET = (
    "apt install dataset-fashion-mnist brings it to Debian's /usr/share/datasets/fashion-mnist; for everybody it is in "
    "data/fashion of https://github.com/zalandoresearch/fashion-mnist"
)


@dataclass(frozen=True)
class Part:
    """One of the two parts, by the names of its files and the SHA-256 of what is compressed in them.

    (Debian's files are compressed without a name and a date, so that they differ from the authors' in a few bytes.)
    """

    pictures: tuple[str, str]
    classes: tuple[str, str]


TRAINING = Part(
    pictures=("train-images-idx3-ubyte.gz", "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
    classes=("train-labels-idx1-ubyte.gz", "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
)
TEST = Part(
    pictures=("t10k-images-idx3-ubyte.gz", "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
    classes=("t10k-labels-idx1-ubyte.gz", "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
)


def read_part(folder: Path, part: Part) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """All pictures of a part, in their published order.

    Args:
        folder: where the files lie.
        part: ``TRAINING``, 60,000 pictures, or ``TEST``, 10,000.

    Returns:
        Pictures (n, 28, 28) of 8 bits, white on black, and the class of each.

    Raises:
        ImageError: if a file is not there, or not the published one; says how to get it.
    """
    pictures = _values(folder, *part.pictures)[_PICTURES_HEADER:].reshape(-1, SIDE, SIDE)
    return pictures, _values(folder, *part.classes)[_CLASSES_HEADER:].astype(np.int64)


def _values(folder: Path, name: str, sha256: str) -> npt.NDArray[np.uint8]:
    """A file's bytes, header included."""
    try:
        content = gzip.decompress((folder / name).read_bytes())
    except OSError as error:  # gzip's own are among them, and have no strerror
        reason = error.strerror or reason_of(error)
        raise ImageError(f"Wanted {name} of Fashion-MNIST in {folder}: {reason}; {_HOW_TO_GET}.") from error
    except (EOFError, zlib.error) as error:
        raise ImageError(f"{folder / name} is damaged or was cut short ({error}); {_HOW_TO_GET}.") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ImageError(
            f"{folder / name} is another file than that of Fashion-MNIST: wanted SHA-256 {sha256[:16]}..., found "
            f"{found[:16]}... over its {len(content)} bytes; {_HOW_TO_GET}."
        )
    return np.frombuffer(content, np.uint8)
