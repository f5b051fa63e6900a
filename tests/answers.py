"""A session that knows its answers."""

import dataclasses

import numpy as np

from vimdeploy.artifact import ModelInfo
from vimdeploy.models.config import VimConfig
from vimdeploy.runtimes.base import Session

INFO = ModelInfo("fake", VimConfig(image_size=(2, 2), patch_size=2, stride=2, dim=2, depth=1, num_classes=3))


class Answers(Session):
    """The first value of an image is its number, and the number of its answer."""

    def __init__(self, logits, operators="library", precision="fp32"):
        self.info = dataclasses.replace(INFO, precision=precision)
        self.logits = np.asarray(logits, dtype=np.float32)
        self.operators = operators
        self.device = "cpu"

    def _run(self, array):
        return self.logits[array[:, 0, 0, 0].astype(int)]
