"""Detections of two sides, which come in another order and number."""

import io

import numpy as np
import pytest
from helpers.detections import INFO, Always, Found, batch
from PIL import Image

from vimdeploy.inputs import picture_inputs, random_inputs
from vimdeploy.parity.check import check_parity
from vimdeploy.parity.determinism import PLACES, SAME_RUN, check_determinism
from vimdeploy.parity.verify import verify_sessions
from vimdeploy.tasks.detect import Detection
from vimdeploy.tasks.segment import color_of
from vimdeploy.tolerance import Tolerance

CAT, DOG, BIRD = range(3)
SOME = [((10 * i, 2, 10 * i + 8, 60), 0.9 - i / 20, i % 3) for i in range(9)]


def moved(detections, by=0.0, score=0.0):
    return [(tuple(value + by for value in box), old + score, number) for box, old, number in detections]


def compared(wanted, found):
    """The outputs of pictures, each with the detections of both sides, and the whole result."""
    sides = Found(*wanted, operators="eager"), Found(*found)
    (result,) = check_parity(sides[0], [sides[1]], [batch(*range(len(wanted)))])
    return {output.name: output for output in result.outputs}, result


class TestOutputs:
    def test_the_same(self):
        outputs, result = compared([SOME, SOME[:2]], [SOME, SOME[:2]])
        assert result.passed
        assert [output.largest for output in outputs.values()] == [0] * 4
        assert outputs["boxes"].values == 11 * 4

    def test_two_of_equal_scores_change_places(self):
        equal = [(box, 0.5, number) for box, _, number in SOME]
        _, result = compared([equal], [equal[::-1]])
        assert result.passed
        assert result.worst.largest == 0

    def test_an_error_of_a_box_is_told(self):
        outputs, result = compared([SOME, SOME], [SOME, [*SOME[:3], *moved(SOME[3:4], 0.02), *SOME[4:]]])
        assert not result.passed
        assert outputs["boxes"].largest == pytest.approx(0.02, rel=1e-3)
        assert (outputs["boxes"].place.image, outputs["boxes"].place.index[0]) == ("input 1", 3)
        assert outputs["classes"].passed

    def test_boxes_that_are_farther_off_are_others(self):
        outputs, result = compared([SOME], [moved(SOME, 0.25)])
        assert not result.passed
        assert outputs["boxes"].largest == 0
        assert not outputs["classes"].passed

    def test_an_error_of_a_score_is_told(self):
        outputs, _ = compared([SOME], [moved(SOME, score=-0.01)])
        assert [name for name, output in outputs.items() if not output.passed] == ["scores"]
        assert outputs["scores"].largest == pytest.approx(0.01, rel=1e-4)

    def test_an_error_of_a_mask_is_told(self):
        outputs, _ = compared([SOME], [[(*one, 0.7) for one in SOME]])
        assert [name for name, output in outputs.items() if not output.passed] == ["masks"]
        assert outputs["masks"].largest == pytest.approx(0.2)

    def test_one_of_a_few_may_be_on_one_side_alone(self):
        outputs, result = compared([SOME], [SOME[:-1]])
        assert result.passed
        assert outputs["classes"].relative == pytest.approx(1 / 20)

    @pytest.mark.parametrize("found", [SOME[:6], [], [(box, score, BIRD - n) for box, score, n in SOME[:6]]])
    def test_many_may_not(self, found):
        outputs, result = compared([SOME], [found])
        assert not result.passed
        assert not outputs["classes"].passed

    def test_what_is_not_finite_is_no_detection_less(self):
        outputs, result = compared([SOME], [[*SOME[:-1], (SOME[-1][0], np.nan, SOME[-1][2])]])
        assert not result.passed
        assert outputs["scores"].nan == 1
        assert result.fault.what.startswith("1 NaN and 0 infinite values")

    def test_nothing_is_found(self):
        outputs, result = compared([[], []], [[], []])
        assert result.passed
        assert [output.values for output in outputs.values()] == [0, 0, 2, 0]
        assert [output.relative for output in outputs.values()] == [0] * 4
        assert outputs["boxes"].place.image == "input 0"

    def test_nothing_is_found_in_the_first_picture(self):
        outputs, result = compared([[], SOME], [[], SOME])
        assert result.passed
        assert outputs["boxes"].values == 9 * 4

    def test_a_single_detection_has_a_spread(self):
        outputs, result = compared([SOME[:1]], [moved(SOME[:1], 1e-4, 1e-6)])
        assert result.passed
        assert outputs["scores"].std == 1

    def test_answers_are_compared_too(self):
        _, result = compared([SOME, SOME], [SOME, SOME[:-1]])
        assert [measure.candidate.part for measure in result.answers.measures[:2]] == pytest.approx([1 / 2, 34 / 35])


class TestDeterminism:
    def check(self, session):
        stds = {"boxes": 30.0, "scores": 0.2, "masks": 0.1, "classes": 1.0}
        return check_determinism(session, None, batch(0, 1, 2), stds, Tolerance(1e-4, "a reason"))

    def test_pictures_with_as_many_detections_as_there_are(self):
        checks = self.check(Found(SOME, [], SOME[:2]))
        assert [(check.name, check.error) for check in checks] == [(SAME_RUN, 0), (PLACES, 0)]

    def test_a_session_that_finds_other_things_alone(self):
        class Unsteady(Found):
            def _run(self, inputs):
                found = super()._run(inputs)
                return found if len(inputs["images"]) > 1 else {name: values[:, :6] for name, values in found.items()}

        same, places = self.check(Unsteady(SOME, [], SOME[:2]))
        assert (same.passed, places.passed) == (True, False)
        assert places.error == pytest.approx(3 / 20 / Detection.labels_off)


class TestPictures:
    """What changed is drawn on what the models saw: a white picture on the left, the padding on its right."""

    @pytest.fixture
    def change(self, tmp_path):
        Image.new("RGB", (60, 60), "white").save(tmp_path / "white.png")
        inputs = picture_inputs([tmp_path / "white.png"], INFO)
        [result] = verify_sessions(Always(SOME, operators="eager"), [Always(SOME[:-2])], inputs)
        (change,) = result.answers.changes
        return change

    def test_both_sides_are_drawn(self, change):
        assert change.sides is None
        sides = [np.asarray(Image.open(io.BytesIO(side)).convert("RGB")).astype(int) for side in change.drawn]
        assert [side.shape for side in sides] == [(171, 256, 3)] * 2
        lone = [abs(side[80, 256 * 74 // 96] - color_of(CAT + 7 % 3)).max() for side in sides]  # within the eighth box
        assert abs(sides[0] - sides[1]).max() > 50
        assert lone[0] < lone[1]
        assert (sides[1][100, 2] > 240).all()
        assert (sides[1][100, 250] < 200).all()

    def test_in_words(self, change):
        assert change.reference == "9 detections, here alone: dog 55.0%, bird 50.0%"
        assert change.candidate == "7 detections"

    def test_random_inputs_are_not_drawn(self):
        inputs = random_inputs(INFO, 2, 0)
        [result] = verify_sessions(Always(SOME, operators="eager"), [Always(SOME[:-2])], inputs)
        assert [(change.png, change.drawn, change.sides) for change in result.answers.changes] == [
            (b"", None, None)
        ] * 2
