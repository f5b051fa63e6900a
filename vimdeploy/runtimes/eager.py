"""PyTorch as a runtime: the reference that artifacts are compared with."""

from __future__ import annotations

import torch

from vimdeploy.artifact import ModelInfo
from vimdeploy.models.vim import Vim
from vimdeploy.preprocess import FloatArray
from vimdeploy.runtimes.base import Session


class EagerSession(Session):
    """A Vim in PyTorch on the CPU, its scan a plain loop over the tokens.

    It runs on one thread where no other number is asked for: the loop's operations are so small that threads only wait
    for each other. Vim-Ti at 224 took 270 ms on one and 307 ms on two idle cores, which are torch's own choice; on a
    busy machine the wait is a hundred times as long as the work.
    """

    def __init__(self, model: Vim, info: ModelInfo, threads: int | None = None) -> None:
        self._threads = threads or 1
        self.model = model.eval()
        self.info = info
        self.device = "cpu"
        self.operators = "eager"

    def _run(self, array: FloatArray) -> FloatArray:
        threads = torch.get_num_threads()
        torch.set_num_threads(self._threads)
        try:
            with torch.inference_mode():
                logits: FloatArray = self.model(torch.from_numpy(array)).numpy()
        finally:
            torch.set_num_threads(threads)
        return logits
