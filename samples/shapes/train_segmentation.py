"""Train the segmentation model: UperNet on a Vim, 0.34 million parameters in all, a quarter of an hour on two cores.

python samples/shapes/train_segmentation.py samples/shapes/segmentation.safetensors

The learning rate follows the clock, so that a busy machine gives a model of fewer pictures, and still a finished one.
"""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from scenes import COUNTS, scene
from sklearn.metrics import jaccard_score
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vimdeploy.models import variant_by_name
from vimdeploy.models.heads.pyramid import ConvTransposePyramid
from vimdeploy.models.heads.segment import NormedConv, Segmenter
from vimdeploy.models.vim.network import Vim, reset_parameters
from vimdeploy.ops import torch_ops
from vimdeploy.preprocess import tensor_from_image
from vimdeploy.tasks.pyramid import blocks_of

sys.path.append(str(Path(__file__).parent.parent / "fashion"))
from training_scan import TrainingScan  # noqa: E402

MINUTES, WARM_UP = 15, 0.05  # the second is a part of the first
BATCH, LEARNING_RATE, WEIGHT_DECAY = 16, 3e-3, 0.05
CHANNELS = 24
"""Within the head."""
VARIANT = variant_by_name(str(Path(__file__).with_name("segmentation.json")))


def main(output: str, minutes: float = MINUTES) -> None:
    """Train, report on the held-out pictures, write the weights."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # the second core makes the pictures
    torch_ops.scan_of_tokens = TrainingScan.apply
    config = VARIANT.config
    neck = ConvTransposePyramid(config.dim, config.patch_size)
    model = Segmenter(Vim(config), neck, blocks_of(config.depth), config.dim, CHANNELS, len(VARIANT.labels))
    reset_parameters(model)
    frozen, NormedConv.forward = NormedConv.forward, with_batch_statistics  # type: ignore[method-assign]
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    start = time.perf_counter()
    losses: list[float] = []
    for step, (images, classes) in enumerate(DataLoader(Training(), BATCH, num_workers=1)):
        progress = (time.perf_counter() - start) / (60 * minutes)
        if progress >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * rate(progress)
        logits, _ = model(images)
        loss = F.cross_entropy(F.interpolate(logits, size=classes.shape[1:], mode="bilinear"), classes)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if len(losses) == 50:
            print(
                f"{BATCH * (step + 1)} pictures, {progress:6.1%} of the time: loss {sum(losses) / 50:.3f}", flush=True
            )
            losses.clear()
            save_file(model.state_dict(), output)
    save_file(model.state_dict(), output)
    NormedConv.forward = frozen  # type: ignore[method-assign]
    print(f"held-out pictures: mean IoU {mean_iou(model):.1%}")


class Training(Dataset[tuple[Tensor, Tensor]]):
    """Pictures (3, H, W) as the model takes them and the class of each pixel (H, W), each of them once.

    The first ones are left to ``calibration``.
    """

    def __len__(self) -> int:
        return 1_000_000

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        return tensors("training", COUNTS["calibration"] + number)


def tensors(part: str, number: int) -> tuple[Tensor, Tensor]:
    """A picture (3, H, W) as the model takes it, and the class of each pixel (H, W)."""
    size = VARIANT.config.image_size
    made = scene(part, number, size[0])
    image = tensor_from_image(Image.fromarray(made.picture), size, VARIANT.recipe, whole=True)
    return torch.from_numpy(image), torch.from_numpy(made.classes)


def with_batch_statistics(self: NormedConv, x: Tensor) -> Tensor:
    """``NormedConv.forward`` with the mean and variance of the batch, of which the module keeps a running mean."""
    norm = self.bn
    normed = F.batch_norm(self.conv(x), norm.running_mean, norm.running_var, norm.weight, norm.bias, training=True)
    return F.relu(normed)


def rate(progress: float) -> float:
    """Part of the learning rate: up in a line, down in half a cosine."""
    if progress < WARM_UP:
        return progress / WARM_UP
    return (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP))) / 2


def mean_iou(model: Segmenter) -> float:
    """Of the held-out pictures: the mean over the classes of intersection over union."""
    images, wanted = map(torch.stack, zip(*(tensors("test", number) for number in range(COUNTS["test"])), strict=True))
    with torch.inference_mode():
        found = torch.cat([model.eval()(batch)[1] for batch in images.split(BATCH)])
    return float(jaccard_score(wanted.flatten(), found.flatten(), average="macro"))


if __name__ == "__main__":
    main(sys.argv[1], *map(float, sys.argv[2:]))
