"""Train the digits model by mambapy's own scan in PyTorch, two minutes on two cores.

python samples/mambapy/train_mambapy.py
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mambapy_digits import WEIGHTS, Digits, pictures_and_digits
from safetensors.torch import save_file

EPOCHS, BATCH, LEARNING_RATE, WEIGHT_DECAY = 25, 64, 4e-3, 0.05


def main() -> None:
    """Train, report on the held-out part, write the weights."""
    torch.manual_seed(0)
    pictures, digits = pictures_and_digits(held_out=False)
    model = Digits(use_cuda=False)
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = EPOCHS * (len(pictures) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for epoch in range(EPOCHS):
        for chosen in torch.randperm(len(pictures))[: steps // EPOCHS * BATCH].split(BATCH):
            moved = F.pad(pictures[chosen], (1, 1, 1, 1), value=-1.0)
            row, column = torch.randint(0, 3, (2,)).tolist()  # the batch moved by up to one pixel
            loss = F.cross_entropy(model(moved[..., row : row + 8, column : column + 8]), digits[chosen])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1:2}: loss {loss.item():.3f}", flush=True)
    pictures, digits = pictures_and_digits(held_out=True)
    with torch.inference_mode():
        right = (model.eval()(pictures).argmax(1) == digits).float().mean()
    print(f"held-out accuracy: {right:.2%}")
    save_file(model.state_dict(), WEIGHTS)


if __name__ == "__main__":
    main()
