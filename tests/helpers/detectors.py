"""A small Cascade Mask R-CNN with random weights, and what it detects."""

from functools import cache

import numpy as np
import torch

from helpers.dense import CONFIG, MINE, checkpoint_of, toolbox_names
from vimdeploy.models.heads.detect import Detector
from vimdeploy.models.heads.pyramid import SimplePyramid
from vimdeploy.models.vim.network import Vim
from vimdeploy.networks import network_of_variant

SIZE = (64, 96)
CLASSES = 5


@cache
def detector_checkpoint():
    """Its weights under detectron2's names."""
    config = CONFIG.replace(class_token="none", final_norm=False)
    torch.manual_seed(0)
    module = Detector(Vim(config), SimplePyramid(config.dim, 8, 4), 2, 8, CLASSES, 1, 1, 8, 16, 1, 8)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            moves_boxes = "bbox_pred" in name or "anchor_deltas" in name
            tensor += (0.02 if moves_boxes else 0.1) * torch.randn(tensor.shape)
    return checkpoint_of(toolbox_names(module, "backbone.net."))


def small_detector(image_size=SIZE):
    """Its network, with the checkpoint's weights."""
    return network_of_variant(MINE, detector_checkpoint(), "detect", image_size)


def detections(run, sizes=(SIZE,), score_threshold=0.0, max_detections=20):
    """What is found in random pictures of these sizes.

    Args:
        run: takes the inputs by name, gives the outputs by name.
        sizes: height and width of each picture, at most ``SIZE``.
        score_threshold: of all of them.
        max_detections: of all of them, or one for each.
    """
    pictures = np.random.default_rng(0).standard_normal((len(sizes), 3, *SIZE)).astype(np.float32)
    found = run(
        {
            "images": pictures,
            "image_sizes": np.array(sizes, np.int64),
            "score_threshold": np.full(len(sizes), score_threshold, np.float32),
            "max_detections": np.broadcast_to(np.array(max_detections, np.int64), len(sizes)),
        }
    )
    return [found[name] for name in ("boxes", "scores", "classes", "masks")]
