"""Features: a picture to the maps and the vector that a head of another program goes on with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vimdeploy.errors import ConfigError
from vimdeploy.model_info import BATCH, ModelInfo, TensorSpec
from vimdeploy.tasks.base import (
    MAX_CHANGES,
    Agreement,
    Answer,
    Change,
    Comparison,
    Measure,
    Outputs,
    Proportion,
    Task,
    image_name,
)

if TYPE_CHECKING:
    from PIL import Image
    from torch import nn

    from vimdeploy.models.backbone import Backbone
    from vimdeploy.preprocess import Placement

MAP, POOLED, BLOCK = "map", "pooled", "block_"


@dataclass(frozen=True, repr=False, eq=False)
class FeatureMaps(Answer):
    """The features of a picture."""

    features: dict[str, npt.NDArray[np.float32]]
    """``map`` (D, rows, columns), ``pooled`` (D,), and ``block_N`` (D, rows, columns) of each block asked for."""

    columns = ("output", "shape", "mean", "standard deviation", "smallest", "largest")

    @property
    def pooled(self) -> npt.NDArray[np.float32]:
        """(D,): the vector of the whole picture."""
        return self.features[POOLED]

    @property
    def drawn(self) -> npt.NDArray[np.float32]:
        """(D, rows, columns): the map that ``picture`` shows."""
        return self.features[MAP]

    def rows(self) -> list[tuple[str, ...]]:
        """A line per output."""
        return [
            (
                name,
                "x".join(map(str, values.shape)),
                *(f"{float(value):.4g}" for value in (values.mean(), values.std(), values.min(), values.max())),
            )
            for name, values in self.features.items()
        ]

    def document(self) -> dict[str, Any]:
        """The vector itself, and the shapes of all outputs."""
        shapes = {name: list(values.shape) for name, values in self.features.items()}
        return {"shapes": shapes, POOLED: self.pooled.tolist()}

    def picture(self, image: Image.Image) -> Image.Image:
        """The map's three strongest directions as red, green and blue, over the whole picture."""
        from PIL import Image

        values = np.nan_to_num(self.drawn.astype(np.float64), posinf=0, neginf=0)
        tokens = values.reshape(len(values), -1).T  # (M, D)
        tokens = tokens - tokens.mean(axis=0)
        directions = np.linalg.svd(tokens, full_matrices=False)[2][:3]  # (3, D)
        colors = tokens @ directions.T  # (M, 3)
        low, high = np.percentile(colors, [2, 98], axis=0)
        scaled = np.clip((colors - low) / np.maximum(high - low, 1e-12), 0, 1)
        pixels = (255 * scaled).astype(np.uint8).reshape(*values.shape[1:], -1)
        padded = np.zeros((*values.shape[1:], 3), np.uint8)
        padded[..., : pixels.shape[-1]] = pixels
        return Image.fromarray(padded).resize(image.size, Image.Resampling.BICUBIC)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All outputs."""
        return dict(self.features)


class FeatureExtraction(Task):
    """Maps and a vector."""

    name = "features"
    summary = "feature maps and a vector"
    counts = ("nearest neighbours of the same class", "equal nearest neighbours")
    fields = ("shapes", POOLED)
    vector = POOLED

    def outputs(
        self, config: Any, grid: tuple[int | str, int | str], blocks: Sequence[int], numbers: Mapping[str, Any]
    ) -> tuple[TensorSpec, ...]:
        """``map`` (batch, D, rows, columns), ``pooled`` (batch, D), ``block_N`` (batch, D, rows, columns)."""
        wrong = [block for block in blocks if not 0 <= block < config.depth]
        if wrong or len(set(blocks)) < len(blocks):
            raise ConfigError(
                f"blocks must be different numbers from 0 to {config.depth - 1}, found {', '.join(map(str, blocks))}."
            )
        maps = (MAP, *(f"{BLOCK}{block}" for block in blocks))
        first, *others = (TensorSpec(name, (BATCH, config.dim, *grid)) for name in maps)
        return (first, TensorSpec(POOLED, (BATCH, config.dim)), *others)

    def head(self, backbone: Backbone, info: ModelInfo) -> nn.Module:
        """A ``FeatureExtractor``."""
        from vimdeploy.models.heads.features import FeatureExtractor

        names = [spec.name for spec in info.outputs]
        return FeatureExtractor(backbone, [int(name[len(BLOCK) :]) for name in names if name.startswith(BLOCK)])

    def rounding(self, info: ModelInfo) -> float:
        """A map has more values than logits; one that a mixer gave has no residual that outweighs its roundings.

        Seen: 13 units of float16 in maps of residuals, 31 in those of mixers.
        """
        return 5.0 if info.config.get("block_feature") == "mixer" else 2.0

    def answers(self, outputs: Outputs, info: ModelInfo, placements: Sequence[Placement] = ()) -> list[Answer]:
        """The features of each picture."""
        return [
            FeatureMaps({name: values[number] for name, values in outputs.items()})
            for number in range(len(outputs[POOLED]))
        ]

    def comparison(
        self, info: ModelInfo, classes: npt.NDArray[np.int64] | None = None, names: Sequence[str] = ()
    ) -> Comparison:
        """By nearest neighbours: what retrieval and k-nearest-neighbour classifiers would answer."""
        return Neighbours(classes, names)


class Neighbours(Comparison):
    """Nearest neighbours by the pooled vectors of both sides; D numbers per image are kept."""

    def __init__(self, classes: npt.NDArray[np.int64] | None, names: Sequence[str]) -> None:
        self._classes, self._names = classes, names
        self._vectors: tuple[list[npt.NDArray[np.float32]], list[npt.NDArray[np.float32]]] = ([], [])

    def add(self, reference: Sequence[Answer], candidate: Sequence[Answer]) -> None:
        """Keep the vectors of some more images."""
        for vectors, answers in zip(self._vectors, (reference, candidate), strict=True):
            vectors += [answer.pooled for answer in answers if isinstance(answer, FeatureMaps)]

    def result(self) -> Agreement:
        """How often an image's nearest neighbour among the others is the same, and of the image's class."""
        images = len(self._vectors[0])
        if images < 2:
            return Agreement()
        wanted, found = self._nearest()
        same = wanted == found
        measures = [Measure("same nearest neighbour", Proportion(int(same.sum()), images))]
        if self._classes is not None:
            of_class = [Proportion(int(right.sum()), images) for right in self._right(wanted, found)]
            measures.append(Measure("nearest neighbour of the same class", of_class[1], of_class[0]))
        changes = [
            Change(
                image_name(self._names, int(image)),
                image_name(self._names, int(wanted[image])),
                image_name(self._names, int(found[image])),
            )
            for image in np.flatnonzero(~same)[:MAX_CHANGES]
        ]
        return Agreement(tuple(measures), tuple(changes), int((~same).sum()))

    def points_lost(self) -> float:
        """Percentage points of neighbours of the same class if the classes are known, else of equal neighbours."""
        if len(self._vectors[0]) < 2:
            return 0.0
        wanted, found = self._nearest()
        if self._classes is None:
            return 100 * float((wanted != found).mean())
        right, ours = self._right(wanted, found)
        return 100 * float(right.mean() - ours.mean())

    def _nearest(self) -> list[npt.NDArray[np.int64]]:
        """For each image the one among the others whose vector has the largest cosine with its own, on each side."""
        nearest = []
        for vectors in self._vectors:
            rows = np.stack(vectors).astype(np.float64)
            rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
            found = []
            for start in range(0, len(rows), 1024):  # a part of the table at a time
                cosines = rows[start : start + 1024] @ rows.T
                cosines[np.arange(len(cosines)), np.arange(start, start + len(cosines))] = -np.inf
                found.append(cosines.argmax(axis=1))
            nearest.append(np.concatenate(found))
        return nearest

    def _right(self, *nearest: npt.NDArray[np.int64]) -> list[npt.NDArray[np.bool_]]:
        assert self._classes is not None
        classes = self._classes[: len(nearest[0])]
        return [classes[found] == classes for found in nearest]
