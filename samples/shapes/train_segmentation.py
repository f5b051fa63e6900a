"""Train the segmentation model: UperNet on a Vim, 0.31 million parameters in all, a quarter of an hour on two cores.

python samples/shapes/train_segmentation.py samples/shapes/segmentation.safetensors
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from learning import Learner, TrainingScenes, image_of, prepare
from scenes import COUNTS, Scene, scene
from sklearn.metrics import jaccard_score
from torch import Tensor
from torch.utils.data import DataLoader

from vimdeploy.models import variant_by_name
from vimdeploy.models.heads.pyramid import ConvTransposePyramid, Pyramid
from vimdeploy.models.heads.segment import NormedConv, Segmenter
from vimdeploy.models.vim.network import Vim, reset_parameters
from vimdeploy.tasks.pyramid import blocks_of

MINUTES, BATCH, LEARNING_RATE = 15, 16, 3e-3
CHANNELS = 32
"""Within the head."""
VARIANT = variant_by_name(str(Path(__file__).with_name("segmentation.json")))
SIDE = VARIANT.config.image_size[0]


def main(output: str, minutes: float = MINUTES) -> None:
    """Train, report on the held-out pictures, write the weights."""
    prepare()
    model = new_segmenter()
    frozen, NormedConv.forward = NormedConv.forward, with_batch_statistics  # type: ignore[method-assign]
    learner = Learner(model, LEARNING_RATE, minutes, output)
    for images, classes in DataLoader(TrainingScenes(tensors, SIDE), BATCH, num_workers=1):
        logits = model.decode_head(Pyramid.forward(model, images))
        one_hot = F.one_hot(classes, len(VARIANT.labels)).permute(0, 3, 1, 2).float()
        wanted = F.adaptive_avg_pool2d(one_hot, logits.shape[2:])  # parts of a place that are of each class
        if not learner.step(F.cross_entropy(logits, wanted)[None]):
            break
    NormedConv.forward = frozen  # type: ignore[method-assign]
    print(f"held-out pictures: mean IoU {mean_iou(model):.1%}")


def new_segmenter() -> Segmenter:
    """The network before training."""
    config = VARIANT.config
    neck = ConvTransposePyramid(config.dim, config.patch_size)
    model = Segmenter(Vim(config), neck, blocks_of(config.depth), config.dim, CHANNELS, len(VARIANT.labels))
    reset_parameters(model)
    return model


def tensors(made: Scene) -> tuple[Tensor, Tensor]:
    """A picture (3, H, W) as the model takes it, and the class of each pixel (H, W)."""
    return image_of(made, VARIANT), torch.from_numpy(made.classes)


def with_batch_statistics(self: NormedConv, x: Tensor) -> Tensor:
    """``NormedConv.forward`` with the mean and variance of the batch, of which the module keeps a running mean."""
    norm = self.bn
    normed = F.batch_norm(self.conv(x), norm.running_mean, norm.running_var, norm.weight, norm.bias, training=True)
    return F.relu(normed)


def mean_iou(model: Segmenter) -> float:
    """The mean over the classes of intersection over union, on the held-out pictures."""
    pairs = [tensors(scene("test", number, SIDE)) for number in range(COUNTS["test"])]
    images, wanted = (torch.stack(part) for part in zip(*pairs, strict=True))
    with torch.inference_mode():
        found = torch.cat([model.eval()(batch)[1] for batch in images.split(BATCH)])
    return float(jaccard_score(wanted.flatten(), found.flatten(), average="macro"))


if __name__ == "__main__":
    main(sys.argv[1], *map(float, sys.argv[2:]))
