"""What models give for pictures, and what their answers lose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from vimdeploy.artifact import Artifact
from vimdeploy.inputs import Inputs
from vimdeploy.model_info import ModelInfo
from vimdeploy.progress import Progress, silent, tracked
from vimdeploy.runtimes.base import Arrays
from vimdeploy.runtimes.onnxruntime import OnnxRuntimeSession
from vimdeploy.tasks import task_of
from vimdeploy.tasks.base import ABSENT, Agreement, Answer, Comparison, Outputs

BATCH = 8


@dataclass(frozen=True)
class Runner:
    """How models are run on pictures."""

    info: ModelInfo
    threads: int | None = None
    progress: Progress = silent

    def outputs(self, model: onnx.ModelProto, inputs: Inputs, phase: str) -> Iterator[Arrays]:
        """A model's outputs, at most ``BATCH`` pictures at a time.

        Raises:
            ImageError: if a picture cannot be read.
            ExecutionError: if ONNX Runtime gives up.
        """
        artifact = Artifact(None, model.SerializeToString(), self.info)
        session = OnnxRuntimeSession(artifact, device="cpu", threads=self.threads)
        batches = tracked(inputs.batches(BATCH), phase, inputs.batch_count(BATCH), self.progress)
        return (session.run(batch) for batch in batches)

    def answers(self, model: onnx.ModelProto, inputs: Inputs, phase: str) -> list[Answer]:
        """A model's answer to each picture; without a task, its outputs for each batch."""
        task = task_of(self.info)
        if task is None:
            return [RawOutputs(outputs) for outputs in self.outputs(model, inputs, phase)]
        return [a for outputs in self.outputs(model, inputs, phase) for a in task.answers(outputs, self.info)]

    def comparison(self, inputs: Inputs) -> Comparison:
        """How the task compares answers to these pictures; without one, how much the outputs change."""
        task = task_of(self.info)
        return OutputChange() if task is None else task.comparison(self.info, inputs.classes, inputs.names)


@dataclass(frozen=True, repr=False, eq=False)
class RawOutputs(Answer):
    """What a model gives that does not say what it means."""

    outputs: Arrays

    columns = ("output", "shape")

    def rows(self) -> list[tuple[str, ...]]:
        """A line per output."""
        return [(name, "x".join(map(str, values.shape))) for name, values in self.outputs.items()]

    def document(self) -> dict[str, Any]:
        """The shapes of all outputs."""
        return {"shapes": {name: list(values.shape) for name, values in self.outputs.items()}}

    def arrays(self) -> Arrays:
        """All outputs."""
        return self.outputs


class OutputChange(Comparison):
    """How much outputs change that nobody can judge otherwise; all of them are kept."""

    def __init__(self) -> None:
        self._pairs: list[tuple[Arrays, Arrays]] = []

    def add(self, reference: Sequence[Answer], candidate: Sequence[Answer]) -> None:
        """Keep the outputs of some more batches."""
        sides = zip(reference, candidate, strict=True)
        self._pairs += [(wanted.arrays(), found.arrays()) for wanted, found in sides]

    def result(self) -> Agreement:
        """Nothing is counted."""
        return Agreement()

    def points_lost(self) -> float:
        """Root of the mean square of the change, in per cent of the outputs' standard deviation."""
        return 100 * relative_change(self._pairs, {})


def relative_change(pairs: Sequence[tuple[Outputs, Outputs]], least_spread: Mapping[str, float]) -> float:
    """How much the outputs change, the one that changes most; of labels, what one side alone has counts as lost.

    Args:
        pairs: the outputs of both sides, batch by batch.
        least_spread: the least that counts as an output's standard deviation.
    """
    errors = []
    for name in pairs[0][0]:
        wanted, found = (np.concatenate([pair[side][name].reshape(-1) for pair in pairs]) for side in range(2))
        if wanted.dtype.kind == "f" and wanted.size:
            spread = max(float(wanted.std()), least_spread.get(name, 0.0), np.finfo(np.float32).tiny)
            errors.append(float(np.sqrt(np.square(found - wanted).mean())) / spread)
        elif wanted.dtype.kind != "f":
            alone = (wanted != found) & ((wanted == ABSENT) | (found == ABSENT))
            errors.append(float(np.sqrt(alone.mean())))
    return max(errors)
