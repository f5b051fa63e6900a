"""What every head may ask of every backbone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn


class Features(NamedTuple):
    """What a backbone finds in pictures."""

    map: Tensor
    """(B, D, rows, columns): the last block's, after the last norm if the model has one."""
    pooled: Tensor
    """(B, D): the class token after the last norm, or the mean of all tokens if there is none."""
    blocks: list[Tensor]
    """(B, D, rows, columns) of each block that was asked for."""


class StoringModule(nn.Module):
    """A module of which exported files store other tensors than its parameters."""

    def stored_tensors(self) -> dict[str, Tensor]:
        """What an exported file stores, beside the parameters as they are; names begin at this module."""
        return {}


class Backbone(StoringModule, ABC):
    """A model without a head; heads hold one under the name ``backbone``."""

    config: Any
    """The architecture's ``Config``."""

    @abstractmethod
    def features(self, images: Tensor, blocks: Sequence[int] = ()) -> Features:
        """(B, C, H, W) -> maps and a vector.

        Args:
            images: preprocessed, float32.
            blocks: numbers of the blocks whose maps are wanted too, from 0 on.
        """

    @abstractmethod
    def pooled(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D), as of ``features``, and no more computed than it needs."""
