"""The face of every runtime: ``Session``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vimdeploy.artifact import ModelInfo
from vimdeploy.errors import ConfigError, InputError
from vimdeploy.preprocess import FloatArray, batches_from_images

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Prediction:
    """One answer to one picture."""

    index: int
    label: str
    probability: float


class Stages(ABC):
    """The inner values of a model, under the names of ``models.stages``; all float32."""

    names: frozenset[str]
    """The stages whose values it gives."""

    @abstractmethod
    def values(self, array: FloatArray) -> Mapping[str, FloatArray]:
        """Every stage's value.

        Args:
            array: (B, C, H, W) float32, preprocessed.
        """

    def values_apart(self, array: FloatArray, fed: Mapping[str, FloatArray]) -> Mapping[str, FloatArray]:
        """Every stage's value where it reads another model's values in place of this one's; none where it cannot.

        Args:
            array: (B, C, H, W) float32, preprocessed.
            fed: a value for each of ``names``.
        """
        return {}


class Session(ABC):
    """A model, loaded and ready to answer."""

    info: ModelInfo
    device: str
    """Where it runs: ``cpu``, ``cuda``."""
    operators: str
    """What computes our operators: ``library``, ``plugin``, ``function body`` or ``eager``."""

    @property
    def description(self) -> str:
        """The session in a few words, for reports."""
        return f"{type(self).__name__.removesuffix('Session')} ({self.operators}, {self.device})"

    def run(self, array: FloatArray) -> FloatArray:
        """The model's first output.

        Args:
            array: (B, C, H, W) float32, preprocessed.

        Raises:
            InputError: where the array has another shape or type.
            ExecutionError: where the runtime gives up.
        """
        wanted = (self.info.config.in_channels, *self.info.config.image_size)
        if array.ndim != 4 or len(array) == 0 or array.shape[1:] != wanted or array.dtype != np.float32:
            raise InputError(
                f"Wanted an array (B, {', '.join(map(str, wanted))}) of float32, B at least 1; "
                f"found {array.shape} of {array.dtype}."
            )
        return self._run(np.ascontiguousarray(array))

    def open_stages(self) -> Stages:
        """The inner values of the same model, computed as this session computes them.

        Raises:
            ConfigError: where they cannot be had: says why.
        """
        raise ConfigError(f"{self.description} gives its logits alone, no stages")

    def on_one_thread(self) -> Session | None:
        """The same session on one thread of the CPU; None where it runs on none."""
        return None

    @abstractmethod
    def _run(self, array: FloatArray) -> FloatArray:
        """As ``run``, on an array that was checked and is contiguous."""

    def classify(
        self, images: Sequence[str | Path | Image.Image], top: int = 5, batch: int = 8
    ) -> list[list[Prediction]]:
        """The most probable classes of each picture.

        Args:
            images: paths or opened pictures; preprocessed by the recipe that the model carries.
            top: how many classes, at most as many as there are.
            batch: pictures that run together.

        Raises:
            ImageError: where a picture cannot be read.
        """
        answers = []
        for array in batches_from_images(images, self.info.config.image_size, self.info.recipe, batch):
            logits = self.run(array).astype(np.float64)
            exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
            probabilities = exponentials / exponentials.sum(axis=-1, keepdims=True)
            for row in probabilities:
                best = np.argsort(-row, kind="stable")[:top]
                answers.append([Prediction(int(i), self.info.label(int(i)), float(row[i])) for i in best])
        return answers
