"""Train the digits model: a Vim of 0.36 million parameters, some minutes on two cores.

python samples/digits/train.py samples/digits/digits.safetensors
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from data import images_and_digits
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from vimdeploy.models import variant_by_name
from vimdeploy.networks import network_of_variant, released_tensors
from vimdeploy.preprocess import tensor_from_image

EPOCHS, BATCH, LEARNING_RATE, WEIGHT_DECAY = 30, 64, 2e-3, 0.05
VARIANT = variant_by_name(str(Path(__file__).with_name("digits.json")))


def main(output: str) -> None:
    """Train, report on the held-out part, write the weights."""
    torch.manual_seed(0)
    images, digits = tensors(held_out=False)
    model = network_of_variant(VARIANT, 0).module.train()
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = EPOCHS * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    start = time.perf_counter()
    for epoch in range(EPOCHS):
        losses = []
        for chosen in torch.randperm(len(images))[: steps // EPOCHS * BATCH].split(BATCH):
            logits = model(augmented(images[chosen]))
            loss = F.cross_entropy(logits, digits[chosen], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1:2}: loss {np.mean(losses):.3f}, {time.perf_counter() - start:.0f} s", flush=True)
    print(f"held-out accuracy: {accuracy(model):.2%}")
    save_file(released_tensors(model), output)


def tensors(held_out: bool) -> tuple[Tensor, Tensor]:
    """Pictures (n, 1, 8, 8) as the model takes them, and their digits (n,)."""
    pictures, digits = images_and_digits(held_out)
    size, recipe = VARIANT.config.image_size, VARIANT.recipe
    arrays = [tensor_from_image(Image.fromarray(picture), size, recipe) for picture in pictures]
    return torch.from_numpy(np.stack(arrays)), torch.from_numpy(digits)


def augmented(images: Tensor) -> Tensor:
    """Each picture turned by up to 10 degrees, scaled by up to 10 % and moved by up to one pixel."""
    count = len(images)
    angle = (torch.rand(count) - 0.5) * 0.35
    scale = 1 + (torch.rand(count) - 0.5) * 0.2
    shift = (torch.rand(count, 2) - 0.5) * 0.5
    cos, sin = scale * angle.cos(), scale * angle.sin()
    rows = torch.stack([cos, -sin, shift[:, 0], sin, cos, shift[:, 1]], dim=1)
    grid = F.affine_grid(rows.view(count, 2, 3), list(images.shape), align_corners=False)
    background = images.min()
    return F.grid_sample(images - background, grid, align_corners=False) + background


def accuracy(model: nn.Module) -> float:
    """The part of the held-out pictures whose digit is found."""
    images, digits = tensors(held_out=True)
    with torch.inference_mode():
        return float((model.eval()(images).argmax(1) == digits).float().mean())


if __name__ == "__main__":
    main(sys.argv[1])
