import dataclasses

import numpy as np
import pytest

from vimdeploy.artifact import PRECISIONS, ModelInfo
from vimdeploy.models.config import VimConfig
from vimdeploy.parity.check import check_parity, random_batches
from vimdeploy.runtimes.base import Session

INFO = ModelInfo("fake", VimConfig(image_size=(2, 2), patch_size=2, stride=2, dim=2, depth=1, num_classes=3))

RIGHT = np.array([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 4.0], [4.0, 0.0, 0.0]], dtype=np.float32)
"""Logits of four images; mean 4/3, standard deviation sqrt(16/3 - 16/9) = 1.8856."""

STD = np.sqrt(32 / 9)


class Answers(Session):
    """A session that knows its answers: the first value of an image is its number."""

    device = "cpu"

    def __init__(self, logits, operators="library", precision="fp32"):
        self.info = dataclasses.replace(INFO, precision=precision)
        self.logits = np.asarray(logits, dtype=np.float32)
        self.operators = operators

    def _run(self, array):
        return self.logits[array[:, 0, 0, 0].astype(int)]


def compare(found, batch=2, classes=None, operators="library", precision="fp32"):
    images = np.zeros((4, 3, 2, 2), dtype=np.float32)
    images[:, 0, 0, 0] = range(4)
    batches = (images[i : i + batch] for i in range(0, 4, batch))
    (parity,) = check_parity(Answers(RIGHT), [Answers(found, operators, precision)], batches, classes)
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
        assert (parity.max_error, parity.mean_error, parity.top1_agreement, parity.images) == (0, 0, 1, 4)

    def test_have_a_cosine_of_one(self):
        assert compare(RIGHT).min_cosine == pytest.approx(1)

    def test_of_logits_all_alike_pass(self):
        images = [np.zeros((1, 3, 2, 2), dtype=np.float32)]
        (parity,) = check_parity(Answers(np.ones((1, 3))), [Answers(np.ones((1, 3)))], images)
        assert (parity.passed, parity.relative_error) == (True, 0)


@pytest.mark.parametrize("batch", [1, 2, 3, 4])
class TestAPlantedError:
    """Whatever the batches are, image 2's logit 1 is off by a quarter."""

    def parity(self, batch):
        return compare(changed(2, 1, 0.25), batch)

    def test_fails(self, batch):
        assert not self.parity(batch).passed

    def test_is_found(self, batch):
        assert self.parity(batch).max_error == 0.25

    def test_has_its_place(self, batch):
        parity = self.parity(batch)
        assert (parity.worst_image, parity.worst_logit, parity.worst_pair) == (2, 1, (0.0, 0.25))

    def test_counts_in_the_mean(self, batch):
        assert self.parity(batch).mean_error == pytest.approx(0.25 / 12)

    def test_is_measured_by_the_spread_of_the_logits(self, batch):
        parity = self.parity(batch)
        assert (parity.logits_std, parity.relative_error) == (pytest.approx(STD), pytest.approx(0.25 / STD))

    def test_turns_the_answer_of_its_image(self, batch):
        assert self.parity(batch).min_cosine == pytest.approx(4 / np.hypot(4, 0.25))


class TestTolerance:
    @pytest.mark.parametrize(("part", "passed"), [(0.9, True), (1.1, False)])
    @pytest.mark.parametrize(("operators", "bound"), [("library", 1e-4), ("function body", 1e-3)])
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
        parity = compare(found)
        assert (parity.worst_image, parity.worst_logit) == (1, 2)

    def test_nan_has_no_good_cosine(self):
        assert not compare(np.full_like(RIGHT, np.nan)).min_cosine > 0

    def test_nan_of_the_reference_fails_too(self):
        images = [np.zeros((1, 3, 2, 2), dtype=np.float32)]
        (parity,) = check_parity(Answers([[np.nan, 0, 1]]), [Answers([[np.nan, 0, 1]])], images)
        assert not parity.passed

    def test_an_error_of_logits_all_alike_fails(self):
        images = [np.zeros((1, 3, 2, 2), dtype=np.float32)]
        (parity,) = check_parity(Answers(np.ones((1, 3))), [Answers([[1, 1, 1.00001]])], images)
        assert not parity.passed


class TestAnswers:
    def test_the_part_of_equal_first_answers(self):
        assert compare(changed(0, 1, 5.0)).top1_agreement == 0.75

    def test_accuracy_of_both_sides(self):
        parity = compare(changed(0, 1, 5.0), classes=np.array([0, 1, 2, 1]))
        assert (parity.reference_accuracy, parity.candidate_accuracy) == (0.75, 0.5)

    def test_no_accuracy_without_classes(self):
        parity = compare(RIGHT)
        assert (parity.reference_accuracy, parity.candidate_accuracy) == (None, None)

    def test_each_candidate_has_its_result(self):
        batches = [np.zeros((1, 3, 2, 2), dtype=np.float32)]
        candidates = [Answers(RIGHT, "library"), Answers(RIGHT + 1, "function body")]
        results = check_parity(Answers(RIGHT, "eager"), candidates, batches)
        assert [(r.candidate, r.max_error) for r in results] == [
            ("Answers (library, cpu)", 0),
            ("Answers (function body, cpu)", 1),
        ]


class TestRandomBatches:
    def test_are_as_many_as_asked_for(self):
        batches = list(random_batches((3, 4, 5), 5, 2, 0))
        assert [len(batch) for batch in batches] == [2, 2, 1]
        assert {batch.shape[1:] for batch in batches} == {(3, 4, 5)}

    def test_are_the_same_for_the_same_seed(self):
        first, second = (np.concatenate([*random_batches((3, 4, 5), 3, 2, seed=7)]) for _ in range(2))
        assert (first == second).all()

    def test_are_others_for_another_seed(self):
        first, second = (next(iter(random_batches((3, 4, 5), 1, 1, seed))) for seed in (7, 8))
        assert (first != second).any()

    def test_are_standard_normal(self):
        (batch,) = random_batches((3, 64, 64), 2, 2, 0)
        assert (batch.dtype, abs(batch.mean()) < 0.05, abs(batch.std() - 1) < 0.05) == (np.float32, True, True)
