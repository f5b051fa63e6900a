import dataclasses

import numpy as np
import pytest
from helpers.answers import INFO, Answers

from vimdeploy.model_info import INT8, PRECISIONS, ModelInfo, TensorSpec
from vimdeploy.parity.check import _LabelTally, check_parity
from vimdeploy.parity.results import Place
from vimdeploy.runtimes.base import Session
from vimdeploy.tasks.base import MAX_CHANGES, Agreement, Proportion
from vimdeploy.tolerance import Tolerance

RIGHT = np.array([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 4.0], [4.0, 0.0, 0.0]], dtype=np.float32)
"""Logits of four images; mean 4/3, standard deviation sqrt(16/3 - 16/9) = 1.8856."""

STD = np.sqrt(32 / 9)


def numbered(count=4, size=4):
    """Batches of images whose first value is their number."""
    images = np.zeros((count, 3, 2, 2), dtype=np.float32)
    images[:, 0, 0, 0] = range(count)
    return [{"images": images[i : i + size]} for i in range(0, count, size)]


def compare(found, batch=2, classes=None, operators="library", precision="fp32"):
    (parity,) = check_parity(
        Answers(RIGHT, "eager"), [Answers(found, operators, precision)], numbered(size=batch), classes
    )
    return parity


def logits_of(found, **options):
    """The errors of the one output."""
    (output,) = compare(found, **options).outputs
    return output


def changed(image, logit, value):
    found = RIGHT.copy()
    found[image, logit] = value
    return found


class TestEqualAnswers:
    def test_pass(self):
        assert compare(RIGHT).passed

    def test_have_no_error(self):
        parity, logits = compare(RIGHT), logits_of(RIGHT)
        assert (logits.name, logits.largest, logits.mean) == ("logits", 0, 0)
        assert (parity.answers.measures[0].candidate, parity.images) == (Proportion(4, 4), 4)

    def test_have_a_cosine_of_one(self):
        assert logits_of(RIGHT).cosine == pytest.approx(1)

    @pytest.mark.parametrize("value", [0, 1])
    def test_of_logits_all_alike_pass(self, value):
        logits = np.full((1, 3), value)
        (parity,) = check_parity(Answers(logits, "eager"), [Answers(logits)], numbered(1))
        assert (parity.passed, parity.outputs[0].relative, parity.outputs[0].cosine) == (True, 0, 1)


@pytest.mark.parametrize("batch", [1, 2, 3, 4])
class TestAPlantedError:
    """Whatever the batches are, image 2's logit 1 is off by a quarter."""

    def error(self, batch):
        return logits_of(changed(2, 1, 0.25), batch=batch)

    def test_fails(self, batch):
        assert not compare(changed(2, 1, 0.25), batch).passed
        assert not self.error(batch).passed

    def test_is_found(self, batch):
        assert self.error(batch).largest == 0.25

    def test_has_its_place(self, batch):
        assert self.error(batch).place == Place("input 2", (1,), 0.0, 0.25)

    def test_counts_in_the_mean(self, batch):
        assert self.error(batch).mean == pytest.approx(0.25 / 12)

    def test_is_measured_by_the_standard_deviation_of_the_logits(self, batch):
        logits = self.error(batch)
        assert (logits.std, logits.relative) == (pytest.approx(STD), pytest.approx(0.25 / STD))

    def test_turns_the_answer_of_its_image(self, batch):
        assert self.error(batch).cosine == pytest.approx(4 / np.hypot(4, 0.25))


class TestTolerance:
    @pytest.mark.parametrize(("part", "passed"), [(0.9, True), (1.1, False)])
    @pytest.mark.parametrize(("operators", "bound"), [("library", 1e-4), ("function body", 1e-4)])
    def test_passes_up_to_the_bound(self, operators, bound, part, passed):
        parity = compare(changed(0, 1, part * bound * STD), operators=operators)
        assert parity.passed is passed

    @pytest.mark.parametrize(("part", "passed"), [(0.9, True), (1.1, False)])
    @pytest.mark.parametrize(("precision", "bound"), [("fp16", 2**-7), ("bf16", 2**-4), ("int8", 1)])
    def test_is_that_of_the_candidates_precision(self, precision, bound, part, passed):
        parity = compare(changed(0, 1, part * bound * STD), precision=precision)
        assert parity.passed is passed

    @pytest.mark.parametrize("precision", [*PRECISIONS, INT8])
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_what_is_no_number_fails(self, value, precision):
        assert not compare(changed(1, 1, value), precision=precision).passed

    def test_nan_is_the_worst_place(self):
        found = changed(1, 2, np.nan)
        found[3, 0] = 100
        place = logits_of(found).place
        assert (place.image, place.index) == ("input 1", (2,))

    def test_nan_has_no_good_cosine(self):
        assert logits_of(np.full_like(RIGHT, np.nan)).cosine == -1

    def test_nan_of_the_reference_fails_too(self):
        (parity,) = check_parity(Answers([[np.nan, 0, 1]], "eager"), [Answers([[np.nan, 0, 1]])], numbered(1))
        assert not parity.passed

    def test_an_error_of_logits_all_alike_fails(self):
        (parity,) = check_parity(Answers(np.ones((1, 3)), "eager"), [Answers([[1, 1, 1.00001]])], numbered(1))
        assert not parity.passed

    def test_of_a_reference_that_is_not_pytorch_is_added(self):
        (parity,) = check_parity(Answers(RIGHT, "library", "fp16"), [Answers(RIGHT)], numbered(1))
        assert parity.outputs[0].tolerance.limit == 2**-7 + 1e-4
        assert "of the reference" in parity.outputs[0].tolerance.reason


class TestNoNumbers:
    def test_are_counted(self):
        found = changed(1, 2, np.nan)
        found[3] = np.inf
        logits = logits_of(found)
        assert (logits.nan, logits.infinite) == (1, 3)

    def test_are_what_is_complained_of(self):
        fault = compare(changed(1, 2, np.nan)).fault
        assert (fault.where, fault.what) == ("Output logits", "1 NaN and 0 infinite values, the first for input 1")


class TestHistogram:
    def test_counts_every_logit(self):
        histogram = logits_of(changed(2, 1, 0.25)).histogram
        assert sum(histogram.counts) == 12
        assert len(histogram.edges) == len(histogram.counts) + 1

    def test_has_an_error_between_its_edges(self):
        histogram = logits_of(RIGHT + np.float32(0.25)).histogram
        ((low, high), count) = (histogram.edges, histogram.counts)
        assert (low <= 0.25 < high, count) == (True, (12,))

    def test_of_equal_answers_is_one_class(self):
        histogram = logits_of(RIGHT).histogram
        assert (histogram.edges[0], histogram.counts) == (0, (12,))

    def test_has_what_is_no_number_in_its_last_class(self):
        histogram = logits_of(changed(1, 2, np.nan)).histogram
        assert (histogram.edges[-1], histogram.counts[-1]) == (np.inf, 1)


class TestAnswers:
    """How the task counts them is in tests/tasks; here, what it is given."""

    def measures(self, parity):
        return {measure.name: (measure.reference, measure.candidate) for measure in parity.answers.measures}

    @pytest.mark.parametrize("batch", [1, 3, 4])
    def test_of_all_batches_are_counted_once(self, batch):
        assert self.measures(compare(changed(0, 1, 5.0), batch)) == {"same top-1": (None, Proportion(3, 4))}

    @pytest.mark.parametrize("batch", [1, 3, 4])
    def test_accuracy_of_both_sides(self, batch):
        measures = self.measures(compare(changed(0, 1, 5.0), batch, classes=np.array([0, 1, 2, 1])))
        assert measures["top-1 correct"] == (Proportion(3, 4), Proportion(2, 4))

    def test_first_five_in_any_order(self):
        wanted = np.array([[7, 6, 5, 4, 3, 2, 1]] * 3)
        found = np.array([[7, 6, 5, 4, 3, 2, 1], [3, 4, 5, 6, 7, 2, 1], [7, 6, 5, 4, 2, 3, 1]])
        reference, candidate = Answers(wanted, "eager"), Answers(found)
        reference.info = dataclasses.replace(INFO, outputs=(TensorSpec("logits", ("batch", 7)),))
        (parity,) = check_parity(reference, [candidate], numbered(3), np.array([4, 5, 5]))
        measures = self.measures(parity)
        assert measures["same top-5, in any order"] == (None, Proportion(2, 3))
        assert measures["top-5 correct"] == (Proportion(1, 3), Proportion(2, 3))

    def test_each_candidate_has_its_result(self):
        candidates = [Answers(RIGHT, "library"), Answers(RIGHT + 1, "function body")]
        results = check_parity(Answers(RIGHT, "eager"), candidates, numbered(1))
        assert [(r.candidate.description, r.outputs[0].largest) for r in results] == [
            ("Answers (library, cpu)", 0),
            ("Answers (function body, cpu)", 1),
        ]

    def test_the_reference_runs_once_for_all_candidates(self):
        reference, runs = Answers(RIGHT, "eager"), []
        right = reference._run
        reference._run = lambda inputs: runs.append(len(inputs["images"])) or right(inputs)
        check_parity(reference, [Answers(RIGHT)] * 3, numbered(size=3))
        assert runs == [3, 1]


class TestChangedAnswers:
    def test_have_both_answers_and_their_margins(self):
        (change,) = compare(changed(2, 1, 5.0), classes=np.array([0, 1, 2, 0])).answers.changes
        assert (change.image, change.reference, change.candidate, change.truth) == (
            "input 2",
            "class 2",
            "class 1",
            "class 2",
        )
        assert change.margins == (4, 1)

    def test_have_the_names_of_their_images(self):
        (parity,) = check_parity(Answers(RIGHT), [Answers(RIGHT[[1]])], numbered(1), names=["cat.png"])
        assert (parity.answers.changes[0].image, parity.outputs[0].place.image) == ("cat.png", "cat.png")

    def test_are_kept_up_to_a_number(self):
        count = MAX_CHANGES + 5
        (parity,) = check_parity(Answers(RIGHT), [Answers(RIGHT[[1]])], numbered(1) * count)
        assert (len(parity.answers.changes), parity.answers.changed) == (MAX_CHANGES, count)


class Maps(Session):
    """Two outputs, of a model that does not say what they mean."""

    device, operators = "cpu", "eager"

    def __init__(self, maps, vectors):
        outputs = (TensorSpec("map", ("batch", 2, 2, 3)), TensorSpec("vector", ("batch", 2)))
        self.info = ModelInfo("maps", (TensorSpec("images", ("batch", 3, 2, 2)),), outputs)
        self.values = {"map": maps, "vector": vectors}

    def _run(self, inputs):
        numbers = inputs["images"][:, 0, 0, 0].astype(int)
        return {name: values[numbers] for name, values in self.values.items()}


class TestSeveralOutputs:
    @pytest.fixture
    def values(self):
        generator = np.random.default_rng(0)
        return generator.standard_normal((4, 2, 2, 3)), generator.standard_normal((4, 2))

    def compare(self, values, found, batch=3):
        (parity,) = check_parity(Maps(*values), [Maps(*found)], numbered(size=batch))
        return parity

    def test_are_in_the_models_order(self, values):
        parity = self.compare(values, values)
        assert [output.name for output in parity.outputs] == ["map", "vector"]
        assert (parity.passed, parity.answers) == (True, Agreement())

    @pytest.mark.parametrize("batch", [1, 2, 3, 4])
    def test_an_error_has_its_place_in_its_output(self, values, batch):
        maps = values[0].copy()
        maps[3, 1, 0, 2] += 0.5
        parity = self.compare(values, (maps, values[1]), batch)
        map_, vector = parity.outputs
        assert (map_.place.image, map_.place.index) == ("input 3", (1, 0, 2))
        assert map_.place.found - map_.place.wanted == pytest.approx(0.5)
        assert (map_.passed, vector.passed, vector.largest) == (False, True, 0)

    def test_the_fault_is_the_first_output_that_is_off(self, values):
        vectors = values[1].copy()
        vectors[2, 1] += 0.5
        fault = self.compare(values, (values[0], vectors)).fault
        assert fault.where == "Output vector"
        assert "(input 2, element (1,): wanted" in fault.what

    def test_each_has_its_standard_deviation(self, values):
        outputs = self.compare(values, (values[0] + 0.25, values[1] + 0.25)).outputs
        assert [output.std for output in outputs] == pytest.approx([value.std() for value in values])
        assert [output.relative for output in outputs] == pytest.approx([0.25 / value.std() for value in values])

    def test_the_cosine_is_the_smallest_of_an_image(self, values):
        maps = values[0].copy()
        maps[1] *= -1
        map_, vector = self.compare(values, (maps, values[1])).outputs
        assert (map_.cosine, vector.cosine) == (pytest.approx(-1), pytest.approx(1))

    def test_the_histogram_counts_every_value(self, values):
        counts = [sum(output.histogram.counts) for output in self.compare(values, values).outputs]
        assert counts == [4 * 2 * 2 * 3, 4 * 2]


class TestLabels:
    """The output of labels is judged by how many differ, not by how far apart their numbers are."""

    @staticmethod
    def error(differing, total=1000):
        """The error of ``classes`` if so many labels of the second image are others."""
        wanted = np.zeros((2, 10, total // 10), np.int64)
        found = wanted.copy()
        found[1].reshape(-1)[:differing] = 149
        tally = _LabelTally("classes", ["a.png", "b.png"], Tolerance(1e-3, "a reason"), labels_off=8)
        tally.add(0, wanted.astype(np.float64), found.astype(np.float64))
        return tally.result()

    def test_none_differs(self):
        result = self.error(0)
        assert (result.relative, result.passed, result.cosine) == (0, True, 1)

    @pytest.mark.parametrize(("differing", "passed"), [(8, True), (9, False)])
    def test_some_differ(self, differing, passed):
        result = self.error(differing)
        assert (result.relative, result.passed, result.place.image) == (differing / 1000, passed, "b.png")

    def test_is_told(self):
        assert self.error(250).complaint == "25.00% of its labels that differ for b.png, 0.80% are allowed"
