import dataclasses

import numpy as np
import pytest
from helpers.detections import INFO, NAMES, half, outputs

from vimdeploy.errors import ConfigError
from vimdeploy.preprocess import Placement
from vimdeploy.tasks.base import ABSENT, Limits
from vimdeploy.tasks.classification import Classification
from vimdeploy.tasks.detect import Detection

TASK = Detection()
CAT, DOG, BIRD = range(3)
TWO = [((10, 20, 30, 60), 0.9, CAT), ((40, 8, 90, 32), 0.6, DOG)]


def placed(original, resized):
    return Placement(original, resized)


class TestLimits:
    def test_the_usual_ones(self):
        assert TASK.limits() == Limits(0.05, 100)
        assert TASK.limits(0.5) == Limits(0.5, 100)
        assert TASK.limits(max_detections=3) == Limits(0.05, 3)

    @pytest.mark.parametrize(
        "asked",
        [
            {"score_threshold": 1},
            {"score_threshold": -0.1},
            {"score_threshold": float("nan")},
            {"score_threshold": "0.5"},
            {"max_detections": 0},
            {"max_detections": 1001},
            {"max_detections": 2.5},
            {"max_detections": True},
        ],
    )
    def test_within_which_nothing_is_found(self, asked):
        (name,) = asked
        with pytest.raises(ConfigError, match=f"{name} must be from"):
            TASK.limits(**asked)

    @pytest.mark.parametrize("asked", [{"score_threshold": 0.5}, {"max_detections": 3}])
    def test_other_tasks_have_none(self, asked):
        assert Classification().limits() == Limits()
        with pytest.raises(ConfigError, match="for the task detect; classification finds no objects"):
            Classification().limits(**asked)


class TestInputs:
    def test_beside_the_picture(self):
        found = TASK.beside(INFO, placed((480, 640), (48, 64)), Limits(0.3, 7))
        assert list(found) == [spec.name for spec in INFO.inputs[1:]]
        assert [str(array.dtype) for array in found.values()] == [spec.type for spec in INFO.inputs[1:]]
        assert [array.shape for array in found.values()] == [spec.dims[1:] for spec in INFO.inputs[1:]]
        assert (found["image_sizes"].tolist(), found["max_detections"]) == ([48, 64], 7)
        assert found["score_threshold"] == np.float32(0.3)

    def test_other_tasks_have_none(self):
        assert Classification().beside(INFO, placed((2, 2), (2, 2)), Limits()) == {}


class TestAnswers:
    def test_one_per_picture_without_padding(self):
        both, none, one = TASK.answers(outputs(TWO, [], TWO[1:]), INFO)
        assert [len(answer) for answer in (both, none, one)] == [2, 0, 1]
        assert (both.boxes.tolist(), both.classes.tolist()) == ([list(box) for box, *_ in TWO], [CAT, DOG])
        assert (both.size, one.labels) == ((64, 96), NAMES)

    def test_in_the_pixels_of_the_picture(self):
        """A picture of 120 x 160 pixels, which lies in 48 x 64 of the input."""
        (answer,) = TASK.answers(outputs(TWO[:1]), INFO, [placed((120, 160), (48, 64))])
        assert (answer.boxes.tolist(), answer.size) == ([[25, 50, 75, 120]], (120, 160))

    def test_both_axes_have_their_own_scale(self):
        """Its sides were rounded when it was resized."""
        (answer,) = TASK.answers(outputs(TWO[:1]), INFO, [placed((120, 192), (60, 64))])
        assert answer.boxes.tolist() == [[30, 40, 90, 120]]

    def test_boxes_are_clipped_and_empty_ones_dropped(self):
        found = outputs([((-5, -5, 70, 50), 0.9, CAT), ((65, 3, 80, 9), 0.8, DOG), ((3, 9, 3, 9), 0.7, BIRD)])
        (answer,) = TASK.answers(found, INFO, [placed((96, 128), (48, 64))])
        assert (answer.boxes.tolist(), answer.classes.tolist()) == ([[0, 0, 128, 96]], [CAT])

    def test_what_is_not_finite_is_told(self):
        (answer,) = TASK.answers(outputs([((1, 1, np.nan, 5), np.nan, CAT), *TWO]), INFO)
        assert (
            answer.not_finite
            == "1 of 12 values of boxes are NaN or infinite, 1 of 3 values of scores are NaN or infinite"
        )

    @pytest.mark.parametrize(("found", "size"), [(TWO, (60, 90)), ([], (1, 1))])
    def test_an_input_of_any_size(self, found, size):
        images = dataclasses.replace(INFO.inputs[0], dims=("batch", 3, "height", "width"))
        (answer,) = TASK.answers(outputs(found), dataclasses.replace(INFO, inputs=(images, *INFO.inputs[1:])))
        assert answer.size == size


def aligned(wanted, found):
    """The detections of two sides for one picture, brought into one order."""
    return TASK.aligned(outputs(wanted), outputs(found))


class TestAligned:
    def test_the_same(self):
        wanted, found = aligned(TWO, TWO)
        assert [array.shape for array in wanted.values()] == [(1, 2, 4), (1, 2), (1, 20), (1, 2, 28, 28)]
        assert all(np.array_equal(wanted[name], found[name]) for name in wanted)

    def test_equal_scores_may_change_places(self):
        wanted, found = aligned(TWO, TWO[::-1])
        assert all(np.array_equal(wanted[name], found[name]) for name in wanted)
        assert wanted["scores"].tolist() == [[np.float32(0.9), np.float32(0.6)]]

    def test_padding_is_no_detection(self):
        padded = {name: values[:1] for name, values in outputs(TWO, [*TWO, *TWO]).items()}
        wanted, found = TASK.aligned(padded, outputs(TWO))
        assert (wanted["boxes"].shape, found["boxes"].shape) == ((1, 2, 4), (1, 2, 4))

    @pytest.mark.parametrize("swapped", [False, True])
    def test_one_side_has_one_more(self, swapped):
        sides = aligned(TWO, TWO[:1])
        wanted, found = reversed(aligned(TWO[:1], TWO)) if swapped else sides
        assert (wanted["scores"].shape, found["scores"].shape) == ((1, 1), (1, 1))
        assert wanted["classes"][0, :3].tolist() == [CAT, DOG, 0]
        assert found["classes"][0, :3].tolist() == [CAT, ABSENT, 0]
        assert (wanted["classes"] != found["classes"]).mean() == 1 / 20

    def test_another_class_is_another_detection(self):
        wanted, found = aligned(TWO[:1], [(*TWO[0][:2], BIRD)])
        assert wanted["boxes"].shape == found["boxes"].shape == (1, 0, 4)
        assert (wanted["classes"][0, :2].tolist(), found["classes"][0, :2].tolist()) == ([CAT, ABSENT], [ABSENT, BIRD])

    @pytest.mark.parametrize(("right", "pairs"), [(100, 1), (99, 1), (95, 0)])
    def test_another_box_is_another_detection(self, right, pairs):
        wanted, _ = aligned([((0, 0, 100, 10), 0.9, CAT)], [((0, 0, right, 10), 0.9, CAT)])
        assert wanted["scores"].shape == (1, pairs)

    @pytest.mark.parametrize(("box", "other"), [((5, 5, 5, 9), (5, 5, 5, 9)), ((5, 5, 5.001, 9), (5, 5, 5.004, 9))])
    def test_empty_and_very_thin_boxes_have_a_pair(self, box, other):
        wanted, _ = aligned([(box, 0.9, CAT)], [(other, 0.9, CAT)])
        assert wanted["scores"].shape == (1, 1)

    def test_nothing_on_both_sides(self):
        wanted, found = aligned([], [])
        assert wanted["boxes"].shape == found["boxes"].shape == (1, 0, 4)
        assert np.array_equal(wanted["classes"], found["classes"])

    def test_the_part_of_many(self):
        many = [((10 * i, 0, 10 * i + 9, 9), 0.9, CAT) for i in range(40)]
        wanted, found = aligned(many, many[:30])
        assert (wanted["classes"] != found["classes"]).mean() == 10 / 40

    def test_what_is_not_finite_is_kept(self):
        wanted, found = aligned(TWO, [TWO[0], ((np.nan, 8, 90, 32), 0.6, DOG)])
        assert wanted["boxes"][0, 1].tolist() == [0] * 4
        assert np.isnan(found["boxes"]).sum() == 1


def compared(*pairs, names=()):
    """The comparison of some pictures, each with the detections of both sides."""
    comparison = TASK.comparison(INFO, names=names)
    for wanted, found in pairs:
        comparison.add(TASK.answers(outputs(wanted), INFO), TASK.answers(outputs(found), INFO))
    return comparison


def measures(comparison):
    return [measure.candidate.part for measure in comparison.result().measures]


class TestComparison:
    def test_the_same(self):
        comparison = compared((TWO, TWO), (TWO[:1], TWO[:1]))
        assert measures(comparison) == [1, 1, 1, 1, 0]
        assert (comparison.points_lost(), comparison.result().changed) == (0, 0)

    def test_order_does_not_matter(self):
        assert measures(compared((TWO, TWO[::-1]))) == [1, 1, 1, 1, 0]

    def test_one_is_lost(self):
        comparison = compared((TWO, TWO[:1]), (TWO, TWO), names=["a.png", "b.png"])
        assert measures(comparison) == pytest.approx([1 / 2, 6 / 7, 1, 1, 0])
        (change,) = comparison.result().changes
        assert (change.image, change.reference, change.candidate) == (
            "a.png",
            "2 detections, here alone: dog 60.0%",
            "1 detection",
        )
        assert comparison.points_lost() == pytest.approx(100 * (1 - 4.8 / 5.4))

    def test_a_doubtful_one_costs_little(self):
        doubtful = [*TWO, ((1, 1, 9, 9), 0.051, BIRD)]
        assert compared((doubtful, TWO)).points_lost() == pytest.approx(100 * 0.051 / 3.051, rel=1e-4)

    def test_boxes_that_are_off(self):
        """By a fifth of the width: 80 of 120 pixels in common."""
        comparison = compared(([((0, 0, 50, 2), 0.9, CAT)], [((10, 0, 60, 2), 0.7, CAT)]))
        assert measures(comparison) == pytest.approx([1, 1, 2 / 3, 40 / 58, 0.2], abs=0.02)

    def test_boxes_that_are_too_far_off(self):
        comparison = compared(([((0, 0, 50, 2), 0.9, CAT)], [((20, 0, 70, 2), 0.9, CAT)]))
        assert (comparison.points_lost(), comparison.result().changed) == (100, 1)
        assert measures(comparison) == [0, 0]  # nothing in common whose boxes could be compared

    def test_masks_of_the_same_box(self):
        box = (0, 0, 40, 40)
        halves = [(box, 0.9, CAT, half("left"))], [(box, 0.9, CAT, half("right"))]
        assert measures(compared(halves)) == pytest.approx([1, 1, 1, 0, 0], abs=0.04)
        whole = [(box, 0.9, CAT)]
        assert measures(compared((whole, halves[0])))[3] == pytest.approx(1 / 2, abs=0.02)

    def test_masks_that_are_empty(self):
        empty = [((0, 0, 9, 9), 0.9, CAT, 0.0)]
        assert measures(compared((empty, empty))) == [1, 1, 1, 1, 0]

    def test_nothing_is_found(self):
        comparison = compared(([], []))
        assert measures(comparison) == [1]
        assert np.isnan(comparison.points_lost())

    def test_the_best_overlap_wins(self):
        """One detection of the reference lies between two of the candidate."""
        wanted = [((0, 0, 50, 10), 0.9, CAT)]
        found = [((15, 0, 65, 10), 0.9, CAT), ((5, 0, 55, 10), 0.3, CAT)]
        assert measures(compared((wanted, found)))[:3] == pytest.approx([0, 2 / 3, 45 / 55], abs=1e-4)

    def test_what_is_not_finite_matches_nothing(self):
        comparison = compared((TWO, [((np.nan, 20, 30, 60), 0.9, CAT), TWO[1]]))
        assert measures(comparison)[:2] == pytest.approx([0, 1 / 2])

    def test_no_images(self):
        assert compared().result().measures == ()
