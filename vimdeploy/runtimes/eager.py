"""PyTorch as a runtime: the reference that artifacts are compared with."""

from __future__ import annotations

import torch

from vimdeploy.artifact import ModelInfo
from vimdeploy.models.vim import Vim
from vimdeploy.preprocess import FloatArray
from vimdeploy.runtimes.base import Session


class EagerSession(Session):
    """A Vim in PyTorch on the CPU, its scan a plain loop over the tokens."""

    def __init__(self, model: Vim, info: ModelInfo) -> None:
        self.model = model.eval()
        self.info = info
        self.device = "cpu"
        self.operators = "eager"

    def _run(self, array: FloatArray) -> FloatArray:
        with torch.inference_mode():
            logits: FloatArray = self.model(torch.from_numpy(array)).numpy()
        return logits
