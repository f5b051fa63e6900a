import numpy as np
import pytest
from helpers.detections import outputs

from vimdeploy.converters.quantize.answers import relative_change
from vimdeploy.tasks.classification import Classification
from vimdeploy.tasks.detect import Detection
from vimdeploy.tasks.segment import Segmentation

BOXES = [((10 * i, 2, 10 * i + 8, 60), 0.9, 0) for i in range(8)]


def change(task, wanted, found):
    return relative_change(list(task.pairs(wanted, found)), task.least_spread)


def test_of_logits():
    wanted = np.random.default_rng(0).standard_normal((6, 100))
    assert change(Classification(), {"logits": wanted}, {"logits": wanted + 0.1}) == pytest.approx(0.1 / wanted.std())


def test_labels_say_it_no_better():
    logits, classes = np.random.default_rng(0).standard_normal((1, 3, 4, 4)), np.zeros((1, 16, 16), np.int64)
    wanted, found = ({"logits": logits + by, "classes": classes + by} for by in (0, 1))
    assert change(Segmentation(), wanted, found) == pytest.approx(1 / logits.std())


class TestDetections:
    def test_the_same_in_another_order(self):
        assert change(Detection(), outputs(BOXES), outputs(BOXES[::-1])) == 0

    def test_more_are_lost_by_a_worse_layer(self):
        losses = [change(Detection(), outputs(BOXES, BOXES), outputs(BOXES, BOXES[:left])) for left in (8, 7, 4, 0)]
        assert losses == sorted(losses)
        assert losses == pytest.approx([0, *(np.sqrt(lost / 40) for lost in (1, 4, 8))])

    def test_all_are_moved(self):
        near = [(tuple(value + 0.02 for value in box), score, number) for box, score, number in BOXES]
        assert 0 < change(Detection(), outputs(BOXES), outputs(near)) < 0.01

    def test_nothing_is_found(self):
        assert change(Detection(), outputs([]), outputs([])) == 0
