"""Made-up detections: outputs of files of the task detect, whose right answers are obvious."""

import numpy as np

from vimdeploy.model_info import ModelInfo, TensorSpec
from vimdeploy.recipe import Recipe
from vimdeploy.runtimes.base import Session

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
    recipe=Recipe(crop=1.0, interpolation="bilinear", fit="pad"),
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


class Found(Session):
    """Finds in a picture what it is told; the first value of a picture is its number."""

    device = "cpu"

    def __init__(self, *pictures, operators="library", info=INFO):
        self.info, self.operators, self.pictures = info, operators, pictures

    def _run(self, inputs):
        numbers = inputs["images"][:, 0, 0, 0].astype(int)
        kept = zip(inputs["score_threshold"], inputs["max_detections"], strict=True)
        return outputs(
            *(
                [one for one in self.pictures[number] if not one[1] <= threshold][:most]
                for number, (threshold, most) in zip(numbers, kept, strict=True)
            )
        )


class Always(Found):
    """Finds the same in any picture."""

    def _run(self, inputs):
        return super()._run(inputs | {"images": np.zeros_like(inputs["images"])})


def batch(*numbers, threshold=0.05):
    """Inputs of pictures of these numbers."""
    images = np.zeros((len(numbers), 3, 64, 96), np.float32)
    images[:, 0, 0, 0] = numbers
    return {
        "images": images,
        "image_sizes": np.full((len(numbers), 2), (64, 96)),
        "score_threshold": np.full(len(numbers), threshold, np.float32),
        "max_detections": np.full(len(numbers), 100),
    }
