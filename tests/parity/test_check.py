import dataclasses

import numpy as np
import pytest
from helpers.answers import INFO, Answers

from vimdeploy.artifact import PRECISIONS
from vimdeploy.parity.check import MAX_CHANGED, check_parity
from vimdeploy.parity.results import Place, Proportion

RIGHT = np.array([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 4.0], [4.0, 0.0, 0.0]], dtype=np.float32)
"""Logits of four images; mean 4/3, standard deviation sqrt(16/3 - 16/9) = 1.8856."""

STD = np.sqrt(32 / 9)


def compare(found, batch=2, classes=None, operators="library", precision="fp32"):
    images = np.zeros((4, 3, 2, 2), dtype=np.float32)
    images[:, 0, 0, 0] = range(4)
    batches = (images[i : i + batch] for i in range(0, 4, batch))
    (parity,) = check_parity(Answers(RIGHT, "eager"), [Answers(found, operators, precision)], batches, classes)
    return parity


def changed(image, logit, value):
    found = RIGHT.copy()
    found[image, logit] = value
    return found


class TestEqualAnswers:
    def test_pass(self):
        assert compare(RIGHT).passed

    def test_have_no_error(self):
        parity = compare(RIGHT)
        assert (parity.logits.largest, parity.logits.mean, parity.answers.top1.part, parity.images) == (0, 0, 1, 4)

    def test_have_a_cosine_of_one(self):
        assert compare(RIGHT).logits.cosine == pytest.approx(1)

    def test_of_logits_all_alike_pass(self):
        images = [np.zeros((1, 3, 2, 2), dtype=np.float32)]
        (parity,) = check_parity(Answers(np.ones((1, 3)), "eager"), [Answers(np.ones((1, 3)))], images)
        assert (parity.passed, parity.logits.relative) == (True, 0)


@pytest.mark.parametrize("batch", [1, 2, 3, 4])
class TestAPlantedError:
    """Whatever the batches are, image 2's logit 1 is off by a quarter."""

    def parity(self, batch):
        return compare(changed(2, 1, 0.25), batch)

    def test_fails(self, batch):
        assert not self.parity(batch).passed

    def test_is_found(self, batch):
        assert self.parity(batch).logits.largest == 0.25

    def test_has_its_place(self, batch):
        assert self.parity(batch).logits.place == Place("input 2", (1,), 0.0, 0.25)

    def test_counts_in_the_mean(self, batch):
        assert self.parity(batch).logits.mean == pytest.approx(0.25 / 12)

    def test_is_measured_by_the_spread_of_the_logits(self, batch):
        logits = self.parity(batch).logits
        assert (logits.spread, logits.relative) == (pytest.approx(STD), pytest.approx(0.25 / STD))

    def test_turns_the_answer_of_its_image(self, batch):
        assert self.parity(batch).logits.cosine == pytest.approx(4 / np.hypot(4, 0.25))


class TestTolerance:
    @pytest.mark.parametrize(("part", "passed"), [(0.9, True), (1.1, False)])
    @pytest.mark.parametrize(("operators", "bound"), [("library", 1e-4), ("function body", 1e-4)])
    def test_passes_up_to_the_bound(self, operators, bound, part, passed):
        parity = compare(changed(0, 1, part * bound * STD), operators=operators)
        assert parity.passed is passed

    @pytest.mark.parametrize(("part", "passed"), [(0.9, True), (1.1, False)])
    @pytest.mark.parametrize(("precision", "bound"), [("fp16", 2**-7), ("bf16", 2**-4)])
    def test_is_that_of_the_candidates_precision(self, precision, bound, part, passed):
        parity = compare(changed(0, 1, part * bound * STD), precision=precision)
        assert parity.passed is passed

    @pytest.mark.parametrize("precision", PRECISIONS)
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_what_is_no_number_fails(self, value, precision):
        assert not compare(changed(1, 1, value), precision=precision).passed

    def test_nan_is_the_worst_place(self):
        found = changed(1, 2, np.nan)
        found[3, 0] = 100
        place = compare(found).logits.place
        assert (place.image, place.index) == ("input 1", (2,))

    def test_nan_has_no_good_cosine(self):
        assert not compare(np.full_like(RIGHT, np.nan)).logits.cosine > 0

    def test_nan_of_the_reference_fails_too(self):
        images = [np.zeros((1, 3, 2, 2), dtype=np.float32)]
        (parity,) = check_parity(Answers([[np.nan, 0, 1]], "eager"), [Answers([[np.nan, 0, 1]])], images)
        assert not parity.passed

    def test_an_error_of_logits_all_alike_fails(self):
        images = [np.zeros((1, 3, 2, 2), dtype=np.float32)]
        (parity,) = check_parity(Answers(np.ones((1, 3)), "eager"), [Answers([[1, 1, 1.00001]])], images)
        assert not parity.passed

    def test_of_a_reference_that_is_not_pytorch_is_added(self):
        images = [np.zeros((1, 3, 2, 2), dtype=np.float32)]
        (parity,) = check_parity(Answers(RIGHT, "library", "fp16"), [Answers(RIGHT)], images)
        assert parity.logits.tolerance.limit == 2**-7 + 1e-4
        assert "of the reference" in parity.logits.tolerance.reason


class TestNoNumbers:
    def test_are_counted(self):
        found = changed(1, 2, np.nan)
        found[3] = np.inf
        logits = compare(found).logits
        assert (logits.nan, logits.infinite) == (1, 3)

    def test_are_what_is_complained_of(self):
        fault = compare(changed(1, 2, np.nan)).fault
        assert (fault.where, fault.what) == ("Logits", "1 NaN and 0 infinite ones, the first for input 1")


class TestHistogram:
    def test_counts_every_logit(self):
        histogram = compare(changed(2, 1, 0.25)).logits.histogram
        assert sum(histogram.counts) == 12
        assert len(histogram.edges) == len(histogram.counts) + 1

    def test_has_an_error_between_its_edges(self):
        histogram = compare(RIGHT + np.float32(0.25)).logits.histogram
        ((low, high), count) = (histogram.edges, histogram.counts)
        assert (low <= 0.25 < high, count) == (True, (12,))

    def test_of_equal_answers_is_one_class(self):
        histogram = compare(RIGHT).logits.histogram
        assert (histogram.edges[0], histogram.counts) == (0, (12,))

    def test_has_what_is_no_number_in_its_last_class(self):
        histogram = compare(changed(1, 2, np.nan)).logits.histogram
        assert (histogram.edges[-1], histogram.counts[-1]) == (np.inf, 1)


class TestAnswers:
    def test_the_part_of_equal_first_answers(self):
        assert compare(changed(0, 1, 5.0)).answers.top1 == Proportion(3, 4)

    def test_accuracy_of_both_sides(self):
        answers = compare(changed(0, 1, 5.0), classes=np.array([0, 1, 2, 1])).answers
        assert (answers.reference_top1, answers.candidate_top1) == (Proportion(3, 4), Proportion(2, 4))

    def test_no_accuracy_without_classes(self):
        answers = compare(RIGHT).answers
        assert (answers.reference_top1, answers.candidate_top1) == (None, None)

    def test_no_first_five_of_three_classes(self):
        answers = compare(RIGHT, classes=np.array([0, 1, 2, 0])).answers
        assert (answers.top5, answers.reference_top5, answers.candidate_top5) == (None, None, None)

    def test_first_five_in_any_order(self):
        wanted = np.array([[7, 6, 5, 4, 3, 2, 1]] * 3)
        found = np.array([[7, 6, 5, 4, 3, 2, 1], [3, 4, 5, 6, 7, 2, 1], [7, 6, 5, 4, 2, 3, 1]])
        images = np.zeros((3, 3, 2, 2), dtype=np.float32)
        images[:, 0, 0, 0] = range(3)
        reference, candidate = Answers(wanted, "eager"), Answers(found)
        reference.info = dataclasses.replace(INFO, config=INFO.config.replace(num_classes=7))
        (parity,) = check_parity(reference, [candidate], [images], np.array([4, 5, 5]))
        assert parity.answers.top5 == Proportion(2, 3)
        assert (parity.answers.reference_top5, parity.answers.candidate_top5) == (Proportion(1, 3), Proportion(2, 3))

    def test_each_candidate_has_its_result(self):
        batches = [np.zeros((1, 3, 2, 2), dtype=np.float32)]
        candidates = [Answers(RIGHT, "library"), Answers(RIGHT + 1, "function body")]
        results = check_parity(Answers(RIGHT, "eager"), candidates, batches)
        assert [(r.candidate.description, r.logits.largest) for r in results] == [
            ("Answers (library, cpu)", 0),
            ("Answers (function body, cpu)", 1),
        ]


class TestChangedAnswers:
    def test_have_both_answers_and_their_margins(self):
        (change,) = compare(changed(2, 1, 5.0), classes=np.array([0, 1, 2, 0])).changed
        assert (change.image, change.wanted, change.found, change.truth) == (
            "input 2",
            "class 2",
            "class 1",
            "class 2",
        )
        assert (change.reference_margin, change.candidate_margin) == (4, 1)

    def test_have_the_names_of_their_images(self):
        batches = [np.zeros((1, 3, 2, 2), dtype=np.float32)]
        (parity,) = check_parity(Answers(RIGHT), [Answers(RIGHT[[1]])], batches, names=["cat.png"])
        assert (parity.changed[0].image, parity.logits.place.image) == ("cat.png", "cat.png")

    def test_are_kept_up_to_a_number(self):
        batches = (np.zeros((1, 3, 2, 2), dtype=np.float32) for _ in range(MAX_CHANGED + 5))
        (parity,) = check_parity(Answers(RIGHT), [Answers(RIGHT[[1]])], batches)
        assert (len(parity.changed), parity.answers.top1.count) == (MAX_CHANGED, 0)
