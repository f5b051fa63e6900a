"""Train the fashion model: a Vim of 0.2 million parameters, half an hour on one core.

python samples/fashion/training.py FOLDER samples/fashion/fashion.safetensors     FOLDER holds the published files

The learning rate follows the clock, so that a busy machine gives a model of fewer epochs, and still a finished one.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from published import TEST, TRAINING, Part, read_part
from safetensors.torch import save_file
from torch import Tensor, nn
from training_scan import TrainingScan

from vimdeploy.errors import ImageError
from vimdeploy.models import variant_by_name
from vimdeploy.networks import network_of_variant, released_tensors
from vimdeploy.ops import torch_ops
from vimdeploy.preprocess import tensor_from_image

MINUTES, WARM_UP = 30, 0.1  # the second is a part of the first
BATCH, LEARNING_RATE, WEIGHT_DECAY = 128, 3e-3, 0.05
VARIANT = variant_by_name(str(Path(__file__).with_name("fashion.json")))


def main(folder: str, output: str) -> None:
    """Train, report on all test pictures, write the weights."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch_ops.scan_of_tokens = TrainingScan.apply  # autograd through the loop would take three times as long
    images, classes = tensors(Path(folder), TRAINING)
    model = network_of_variant(VARIANT, 0).module.train()
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    start = time.perf_counter()
    losses: list[float] = []
    for epoch, chosen in batches(len(images)):
        progress = (time.perf_counter() - start) / (60 * MINUTES)
        if progress >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * rate(progress)
        loss = F.cross_entropy(model(flipped(images[chosen])), classes[chosen], label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if len(losses) == 100:
            print(f"epoch {epoch:5.2f}, {progress:6.1%} of the time: loss {sum(losses) / 100:.3f}", flush=True)
            losses.clear()
            save_file(released_tensors(model), output)
    save_file(released_tensors(model), output)
    print(f"test pictures: {accuracy(model, *tensors(Path(folder), TEST)):.2%} right")


def tensors(folder: Path, part: Part) -> tuple[Tensor, Tensor]:
    """Pictures (n, 1, 28, 28) as the model takes them, and their classes (n,)."""
    pictures, classes = read_part(folder, part)
    size, recipe = VARIANT.config.image_size, VARIANT.recipe
    arrays = [torch.from_numpy(tensor_from_image(Image.fromarray(picture), size, recipe)) for picture in pictures]
    return torch.stack(arrays), torch.from_numpy(classes)


def batches(count: int) -> Iterator[tuple[float, Tensor]]:
    """Epochs so far and the numbers of a batch's pictures, without end; each epoch in another order."""
    steps = count // BATCH
    step = 0
    while True:
        for chosen in torch.randperm(count)[: steps * BATCH].split(BATCH):
            yield step / steps, chosen
            step += 1


def rate(progress: float) -> float:
    """Part of the learning rate: up in a line, down in half a cosine."""
    if progress < WARM_UP:
        return progress / WARM_UP
    return (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP))) / 2


def flipped(images: Tensor) -> Tensor:
    """Every other picture, by chance, as in a mirror."""
    return torch.where(torch.rand(len(images), 1, 1, 1) < 0.5, images.flip(-1), images)


def accuracy(model: nn.Module, images: Tensor, classes: Tensor) -> float:
    """Part of the pictures whose class is found."""
    with torch.inference_mode():
        answers = torch.cat([model.eval()(batch).argmax(1) for batch in images.split(500)])
        return float((answers == classes).float().mean())


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except ImageError as error:
        sys.exit(str(error))
