"""Bilinear interpolation without antialiasing: between which values each place lies, along one axis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Taps:
    """For each place of a bilinear interpolation the two values that it lies between."""

    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    part: npt.NDArray[np.float64]
    """How much the second counts; the first counts for the rest."""

    @classmethod
    def of(cls, values: int, places: int) -> Taps:
        """From so many values to so many places, as PyTorch interpolates without ``align_corners``."""
        exact = np.maximum((np.arange(places) + 0.5) * (values / places) - 0.5, 0)
        first = np.minimum(exact.astype(np.int64), values - 1)
        return cls(first, np.minimum(first + 1, values - 1), exact - first)

    def __getitem__(self, places: slice) -> Taps:
        """Those of some places."""
        return Taps(self.first[places], self.second[places], self.part[places])

    def matrix(self, begin: int, end: int) -> npt.NDArray[np.float64]:
        """How much each place (rows) depends on each of some values (columns)."""
        matrix, rows = np.zeros((len(self.part), end - begin)), np.arange(len(self.part))
        matrix[rows, self.first - begin] += 1 - self.part
        matrix[rows, self.second - begin] += self.part
        return matrix
