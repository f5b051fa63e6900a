import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vimdeploy.preprocess import Placement, placed
from vimdeploy.recipe import Recipe
from vimdeploy.tasks.merge import Merger

SLIDE = Recipe(fit="slide")
CLASSES = 7


def logits_of(placement, window, stride=4):
    """Random logits for each window."""
    generator = np.random.default_rng(0)
    shape = (CLASSES, window[0] // stride, window[1] // stride)
    return [generator.standard_normal(shape, np.float32) for _ in placement.windows]


def merged(placement, window, logits):
    merger = Merger(placement, window, logits[0].shape, np.uint8)
    for values in logits:
        merger.add(values)
    return merger


def resized(values, size):
    return F.interpolate(values, size=size, mode="bilinear", align_corners=False)


def whole_logits(placement, window, logits):
    """The logits (classes, H, W) of the whole picture in float64, step by step as mmsegmentation computes them."""
    height, width = (max(sides) for sides in zip(placement.resized, window, strict=True))
    total, count = torch.zeros(1, CLASSES, height, width, dtype=torch.float64), torch.zeros(1, 1, height, width)
    for values, (top, left) in zip(logits, placement.windows, strict=True):
        there = (..., slice(top, top + window[0]), slice(left, left + window[1]))
        total[there] += resized(torch.from_numpy(values)[None].double(), window)
        count[there] += 1
    height, width = placement.resized
    return resized((total / count)[..., :height, :width], placement.original)[0]


@pytest.mark.parametrize(
    ("original", "window", "size"),
    [
        ((70, 50), (32, 32), None),
        ((50, 70), (32, 32), None),
        ((131, 200), (32, 32), (131, 200)),
        ((200, 131), (32, 32), (200, 131)),
        ((33, 33), (32, 32), (33, 33)),
        ((500, 400), (48, 32), (100, 90)),
        ((60, 60), (32, 32), (150, 140)),
        ((300, 20), (32, 32), None),
        ((20, 300), (32, 48), None),
        ((1, 1), (32, 32), None),
    ],
    ids=str,
)
def test_is_the_argmax_of_the_logits_of_the_whole_picture(original, window, size):
    """Pixels whose two largest logits are as good as equal may be of either class."""
    placement = placed(original, window, SLIDE, size, every=True)
    logits = logits_of(placement, window)
    wanted = whole_logits(placement, window, logits)
    best = wanted.topk(2, dim=0).values
    sure = (best[0] - best[1] > 1e-5).numpy()
    found = merged(placement, window, logits).classes
    assert sure.mean() > 0.99
    assert (found == wanted.argmax(dim=0).numpy())[sure].all()


def test_one_window_of_the_picture_itself_is_what_the_file_answers():
    placement = Placement((32, 48), (32, 48))
    logits = logits_of(placement, (32, 48))
    wanted = resized(torch.from_numpy(logits[0])[None], (32, 48))[0].argmax(dim=0)
    assert (merged(placement, (32, 48), logits).classes == wanted.numpy()).mean() > 0.999


def most_kept(size):
    """Bytes of logits that are held at once for a picture of a size."""
    placement = placed(size, (32, 32), SLIDE, size, every=True)
    logits = logits_of(placement, (32, 32))
    merger, most = Merger(placement, (32, 32), logits[0].shape, np.uint8), 0
    for values in logits:
        merger.add(values)
        most = max(most, sum(lines.nbytes for _, lines in merger._kept.values()))
    assert merger._kept == {}
    return most / logits[0].nbytes


def test_what_is_kept_grows_with_the_shorter_side_alone():
    """Less than two lanes of three windows each."""
    assert all(3 < most_kept(size) < 6 for size in ((64, 200), (64, 800), (800, 64)))


def test_logits_that_are_not_finite_make_no_noise():
    placement = Placement((32, 32), (32, 32))
    logits = logits_of(placement, (32, 32))
    logits[0][0, 0, 0], logits[0][1, 3, 3] = np.nan, np.inf
    assert merged(placement, (32, 32), logits).classes.shape == (32, 32)
