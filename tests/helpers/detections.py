"""Made-up detections: outputs of files of the task detect, whose right answers are obvious."""

import numpy as np

from vimdeploy.model_info import ModelInfo, TensorSpec

NAMES = ("cat", "dog", "bird")
INFO = ModelInfo(
    "fake",
    (
        TensorSpec("images", ("batch", 3, 64, 96)),
        TensorSpec("image_sizes", ("batch", 2), "int64"),
        TensorSpec("score_threshold", ("batch",)),
        TensorSpec("max_detections", ("batch",), "int64"),
    ),
    (
        TensorSpec("boxes", ("batch", "detections", 4)),
        TensorSpec("scores", ("batch", "detections")),
        TensorSpec("classes", ("batch", "detections"), "int64"),
        TensorSpec("masks", ("batch", "detections", 28, 28)),
    ),
    task="detect",
    labels=NAMES,
)


def outputs(*pictures):
    """What a file gives: for each picture a list of (box, score, class) or (box, score, class, mask)."""
    most = max(map(len, pictures))
    made = {
        "boxes": np.zeros((len(pictures), most, 4), np.float32),
        "scores": np.zeros((len(pictures), most), np.float32),
        "classes": np.zeros((len(pictures), most), np.int64),
        "masks": np.zeros((len(pictures), most, 28, 28), np.float32),
    }
    for picture, found in enumerate(pictures):
        for place, (box, score, number, *mask) in enumerate(found):
            for name, value in zip(made, (box, score, number, mask[0] if mask else 0.9), strict=True):
                made[name][picture, place] = value
    return made


def half(side):
    """A mask of the left or the right half of its box."""
    mask = np.zeros((28, 28), np.float32)
    mask[:, slice(14) if side == "left" else slice(14, 28)] = 1
    return mask
