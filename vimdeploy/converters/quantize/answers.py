"""What models answer to pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from vimdeploy.artifact import ModelInfo
from vimdeploy.exporters.build_progress import Report
from vimdeploy.preprocess import FloatArray, batches_from_images
from vimdeploy.runtimes.onnxruntime import OnnxRuntimeSession

BATCH = 8
Classes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pictures:
    """Files of pictures, and the class of each where they are known."""

    paths: tuple[Path, ...]
    classes: Classes | None = None

    def spread(self, count: int) -> Pictures:
        """At most so many of them, evenly spaced."""
        chosen = np.unique(np.linspace(0, len(self.paths) - 1, min(count, len(self.paths))).round().astype(int))
        return Pictures(tuple(self.paths[i] for i in chosen), None if self.classes is None else self.classes[chosen])


@dataclass(frozen=True)
class Runner:
    """How models are run on pictures."""

    info: ModelInfo
    threads: int | None = None
    report: Report = lambda phase, done, steps: None
    """Is told how far each phase is."""

    def batches(self, pictures: Pictures, batch: int, phase: str) -> Iterator[FloatArray]:
        """The pictures (at most batch, C, H, W) as the model takes them.

        Raises:
            ImageError: where one cannot be read.
        """
        count = len(pictures.paths)
        arrays = batches_from_images(pictures.paths, self.info.config.image_size, self.info.recipe, batch)
        for done, array in enumerate(arrays):
            self.report(phase, done * batch, count)
            yield array
        self.report(phase, count, count)

    def logits(self, model: onnx.ModelProto, pictures: Pictures, phase: str) -> Iterator[FloatArray]:
        """A model's logits (at most BATCH, classes), some pictures at a time.

        Raises:
            ImageError: where a picture cannot be read.
            ExecutionError: where ONNX Runtime gives up.
        """
        session = OnnxRuntimeSession(model.SerializeToString(), self.info, device="cpu", threads=self.threads)
        return (session.run(array) for array in self.batches(pictures, BATCH, phase))

    def first_answers(self, model: onnx.ModelProto, pictures: Pictures, phase: str) -> Classes:
        """A model's most probable class of each picture."""
        return np.concatenate([logits.argmax(axis=1) for logits in self.logits(model, pictures, phase)])


def points_lost(reference: Classes, found: Classes, right: Classes | None) -> float:
    """How much worse answers are than others, in points of a hundred.

    Args:
        reference: the first answer to each picture.
        found: those to compare.
        right: the class of each picture; then the points are of accuracy, else of how often the answers are the same.
    """
    if right is None:
        return 100 * float((found != reference).mean())
    return 100 * float((reference == right).mean() - (found == right).mean())
