"""From the logits of windows to the class of each pixel of a picture, as mmsegmentation merges them.

The logits of each window are brought to its size, summed where windows overlap and divided by the number of these; the
result is brought to the picture's size, and the largest logit of each pixel is taken. All but the last is linear, by
bilinear interpolation, and the same in every row and every column, so that two small matrices give the logits of a tile
of the picture. Those of the whole picture, which may take gigabytes, are never held; those of windows no longer than
needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vimdeploy.bilinear import Taps

if TYPE_CHECKING:
    from vimdeploy.preprocess import Placement

_TILE = 32
"""Pixels of a tile's side: its products are so small that BLAS computes them in the cache and on one thread. Larger
ones it shares out among threads, which takes many times as long on a busy machine."""

FloatArray = npt.NDArray[np.float32]


class Merger:
    """The classes of a picture's pixels, from the logits of its windows, which come one by one, lane by lane.

    A lane is a row or a column of windows, along the shorter side of the picture.
    """

    def __init__(
        self, placement: Placement, window: tuple[int, int], logits: tuple[int, ...], type_: npt.DTypeLike
    ) -> None:
        """For a picture.

        Args:
            placement: how it lies in its windows.
            window: height and width of these in pixels.
            logits: the shape (classes, h, w) of what comes for each.
            type_: of the classes' numbers.
        """
        self.classes: npt.NDArray[Any] = np.empty(placement.original, type_)
        """(H, W); whole when the last window has come."""
        axes = (1, 0) if placement.across else (0, 1)
        self._order = (*(axis + 1 for axis in axes), 0)  # of the axes of logits; classes last
        self._turned = self.classes.transpose(axes)
        self._lanes, self._places = (
            _Side(
                placement.original[axis],
                placement.resized[axis],
                window[axis],
                sorted({start[axis] for start in placement.windows}),
                logits[axis + 1],
            )
            for axis in axes
        )
        self._tiles = [(tile, *self._places.weights(tile)) for tile in _tiles(0, placement.original[axes[1]])]
        self._seen = self._done = 0
        self._kept: dict[int, tuple[int, FloatArray]] = {}  # lines of each lane that pixels still depend on

    def add(self, logits: FloatArray) -> None:
        """The logits (classes, h, w) of the next window."""
        lines = logits.transpose(self._order)
        lane, place = divmod(self._seen, len(self._places.starts))
        self._seen += 1
        length, width, classes = lines.shape
        if place == 0:
            self._kept[lane] = 0, np.empty((length, len(self._places.starts) * width, classes), np.float32)
        self._kept[lane][1][:, place * width : (place + 1) * width] = lines
        if place + 1 == len(self._places.starts):
            self._merge(lane)

    def _merge(self, lane: int) -> None:
        """Compute the pixels that depend on no later lane, and forget what no later pixel depends on."""
        done = self._lanes.done_after(lane)
        with np.errstate(invalid="ignore"):  # logits that are not finite are told by who gave them
            for rows in _tiles(self._done, done):
                parts, weights = self._lanes.weights(rows)
                lines = np.concatenate([self._lines(part) for part in parts])
                lines = (weights @ lines.swapaxes(0, 1)).swapaxes(0, 1)
                for columns, places, others in self._tiles:
                    taken = np.concatenate([lines[:, place.start : place.stop] for place in places], axis=1)
                    self._turned[rows, columns] = (others @ taken).argmax(axis=2)
        self._done = done
        for number, (begin, kept) in list(self._kept.items()):
            first = self._lanes.first_needed(done, number)
            if first == self._lanes.values:
                del self._kept[number]
            elif first > begin:
                self._kept[number] = first, kept[first - begin :].copy()

    def _lines(self, part: range) -> FloatArray:
        """Some lines, counted through all lanes."""
        lane, first = divmod(part.start, self._lanes.values)
        begin, kept = self._kept[lane]
        return kept[first - begin :][: len(part)]


def _tiles(begin: int, end: int) -> Iterator[slice]:
    """The pixels from one on up to another, in tiles."""
    return (slice(start, min(start + _TILE, end)) for start in range(begin, end, _TILE))


class _Side:
    """How the values that windows have along one side of a picture become those of its pixels."""

    def __init__(self, original: int, resized: int, window: int, starts: Sequence[int], values: int) -> None:
        self.starts, self.values = starts, values
        self._window, self._original = window, original
        self._picture, self._enlarged = Taps.of(resized, original), Taps.of(values, window)
        self._windows_over = np.zeros(resized)
        for start in starts:
            self._windows_over[start : start + window] += 1

    def done_after(self, number: int) -> int:
        """How many pixels, from the first on, depend on no window behind one."""
        if number + 1 == len(self.starts):
            return self._original
        return int(np.searchsorted(self._picture.second, self.starts[number + 1]))

    def first_needed(self, pixel: int, number: int) -> int:
        """The first value of a window that pixels from one on depend on; as many as it has if none does."""
        row = int(self._picture.first[pixel]) - self.starts[number] if pixel < self._original else self._window
        return int(self._enlarged.first[max(row, 0)]) if row < self._window else self.values

    def weights(self, pixels: slice) -> tuple[list[range], FloatArray]:
        """On which values some pixels depend, counted through all windows, and how much (pixels, values)."""
        picture = self._picture[pixels]
        low, high = int(picture.first[0]), int(picture.second[-1]) + 1
        resize = picture.matrix(low, high) / self._windows_over[low:high]
        parts, matrices = [], []
        for number, start in enumerate(self.starts):
            begin, end = max(low, start), min(high, start + self._window)
            if begin < end:
                enlarged = self._enlarged[begin - start : end - start]
                first, last = int(enlarged.first[0]), int(enlarged.second[-1]) + 1
                parts.append(range(number * self.values + first, number * self.values + last))
                matrices.append(resize[:, begin - low : end - low] @ enlarged.matrix(first, last))
        return parts, np.concatenate(matrices, axis=1).astype(np.float32)
