"""What the trainings of both models share: a fast scan, pictures without end, and steps that follow the clock."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from scenes import Scene, scene
from torch import Tensor, nn
from torch.utils.data import Dataset

from vimdeploy.models.variant import Variant
from vimdeploy.ops import torch_ops
from vimdeploy.preprocess import tensor_from_image

sys.path.append(str(Path(__file__).parent.parent / "fashion"))
from training_scan import TrainingScan

WARM_UP, WEIGHT_DECAY = 0.05, 0.05  # the first is a part of the time
_REPORT = 50
"""Steps between two lines of what is printed."""

_OURS, _RELEASED = "backbone.", "backbone.net."
"""What the names of a backbone's tensors begin with, in our modules and in files."""

T = TypeVar("T")


def prepare() -> None:
    """One core for the network, the other one makes the pictures; the scan with a gradient of its own."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch_ops.scan_of_tokens = TrainingScan.apply


class TrainingScenes(Dataset[T]):
    """More pictures than anybody trains with, so that none comes twice."""

    def __init__(self, made_of: Callable[[Scene], T], side: int) -> None:
        self._made_of, self._side = made_of, side

    def __len__(self) -> int:
        return 1_000_000

    def __getitem__(self, number: int) -> T:
        return self._made_of(scene("training", number, self._side))


def image_of(made: Scene, variant: Variant) -> Tensor:
    """A picture as the model takes it, (3, H, W)."""
    recipe = replace(variant.recipe, crop=1.0)
    return torch.from_numpy(tensor_from_image(Image.fromarray(made.picture), variant.config.image_size, recipe))


class Learner:
    """Steps of a training that ends when its time is up.

    The learning rate follows the clock, so that a busy machine gives a model of fewer pictures, and still a finished
    one.
    """

    def __init__(self, model: nn.Module, learning_rate: float, minutes: float, output: str) -> None:
        self._model, self._rate, self._seconds, self._output = model, learning_rate, 60 * minutes, output
        self._optimizer = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=WEIGHT_DECAY)
        self._start = time.perf_counter()
        self._losses: list[Tensor] = []
        self._steps = 0

    def step(self, losses: Tensor) -> bool:
        """Follow the gradient of the sum of some losses; whether there is time for another step."""
        progress = min(1.0, (time.perf_counter() - self._start) / self._seconds)
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate * rate(progress)
        self._optimizer.zero_grad()
        losses.sum().backward()
        nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimizer.step()
        self._losses.append(losses.detach())
        self._steps += 1
        if len(self._losses) == _REPORT or progress == 1:
            words = ", ".join(f"{value:.3f}" for value in torch.stack(self._losses).mean(0).tolist())
            print(f"step {self._steps}, {progress:6.1%} of the time: losses {words}", flush=True)
            self._losses.clear()
            save_file(released(self._model), self._output)
        return progress < 1


def released(model: nn.Module) -> dict[str, Tensor]:
    """A model's tensors under detectron2's names, whose maps are the residuals, as ours were while training."""
    return {name.replace(_OURS, _RELEASED, 1): tensor for name, tensor in model.state_dict().items()}


def started(model: nn.Module, weights: Path) -> None:
    """Give a model's backbone the weights of another one."""
    trained = load_file(weights)
    backbone = {
        name: trained[name.replace(_OURS, _RELEASED, 1)] for name in model.state_dict() if name.startswith(_OURS)
    }
    model.load_state_dict(model.state_dict() | backbone)


def rate(progress: float) -> float:
    """Part of the learning rate: up in a line, down in half a cosine."""
    if progress < WARM_UP:
        return progress / WARM_UP
    return (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP))) / 2
