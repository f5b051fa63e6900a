"""What models give for pictures, and what their answers lose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx

from vimdeploy.artifact import Artifact
from vimdeploy.errors import ConfigError
from vimdeploy.inputs import Inputs
from vimdeploy.model_info import ModelInfo
from vimdeploy.progress import Progress, silent, tracked
from vimdeploy.runtimes.base import Arrays
from vimdeploy.runtimes.onnxruntime import OnnxRuntimeSession
from vimdeploy.tasks import task_of
from vimdeploy.tasks.base import Answer, Comparison

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
        """A model's answer to each picture.

        Raises:
            ConfigError: if the model does not say what its outputs mean.
        """
        task = task_of(self.info)
        if task is None:
            raise ConfigError(f"{self.info.name} does not say what its outputs mean, so nobody can judge its answers.")
        return [a for outputs in self.outputs(model, inputs, phase) for a in task.answers(outputs, self.info)]

    def comparison(self, inputs: Inputs) -> Comparison:
        """How the task compares answers to these pictures."""
        task = task_of(self.info)
        assert task is not None  # answers() comes first
        return task.comparison(self.info, inputs.classes, inputs.names)
