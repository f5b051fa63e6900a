import numpy as np
import pytest
from helpers.answers import Answers

from vimdeploy.inputs import random_inputs
from vimdeploy.parity.determinism import PLACES, SAME_RUN, THREADS, check_determinism
from vimdeploy.tolerance import Tolerance

ALLOWED = Tolerance(1e-4, "a reason")


class Unsteady(Answers):
    """A session whose answers grow by a step from run to run."""

    step = 0.5

    def _run(self, inputs):
        self.logits = self.logits + np.float32(self.step)
        return super()._run(inputs)


class ByBatch(Answers):
    """A session whose answers depend on how many images run together."""

    def _run(self, inputs):
        return {name: values + np.float32(len(values)) for name, values in super()._run(inputs).items()}


class TwoOutputs(Answers):
    """A session whose second output changes from run to run by a step."""

    step = 0.5
    runs = 0

    def _run(self, inputs):
        self.runs += 1
        logits = super()._run(inputs)["logits"]
        return {"logits": logits, "other": logits + np.float32(self.step * self.runs)}


@pytest.fixture
def batch():
    images = np.zeros((3, 3, 2, 2), dtype=np.float32)
    images[:, 0, 0, 0] = range(3)
    return {"images": images}


def errors(session, batch, one_thread=None):
    checks = check_determinism(session, one_thread, batch, {"logits": 2.0, "other": 4.0}, ALLOWED)
    return {check.name: (check.error, check.passed) for check in checks}


def test_the_same_answers_pass(batch):
    session = Answers(np.eye(3))
    assert errors(session, batch, session) == dict.fromkeys((SAME_RUN, THREADS, PLACES), (0, True))


def test_a_change_from_run_to_run_fails_in_standard_deviations(batch):
    assert errors(Unsteady(np.eye(3)), batch)[SAME_RUN] == (0.25, False)


def test_of_several_outputs_the_worst_counts_by_its_own_standard_deviation(batch):
    assert errors(TwoOutputs(np.eye(3)), batch)[SAME_RUN] == (0.125, False)


def test_an_output_all_alike_may_not_change_at_all(batch):
    [check, *_] = check_determinism(Unsteady(np.ones((3, 3))), None, batch, {"logits": 0.0}, ALLOWED)
    assert (check.error, check.passed) == (np.inf, False)


def test_on_a_cpu_the_same_run_has_to_be_equal_to_the_bit(batch):
    session = Unsteady(np.eye(3))
    session.step = 2.0**-20
    assert errors(session, batch)[SAME_RUN] == (2.0**-21, False)
    session.device = "cuda"
    assert errors(session, batch)[SAME_RUN] == (2.0**-21, True)


def test_other_answers_on_one_thread_fail(batch):
    assert errors(Answers(np.eye(3)), batch, Answers(np.eye(3) + 1))[THREADS] == (0.5, False)


def test_without_threads_to_choose_they_are_not_compared(batch):
    assert THREADS not in errors(Answers(np.eye(3)), batch)


def test_answers_that_depend_on_the_batch_fail(batch):
    assert errors(ByBatch(np.eye(3)), batch)[PLACES] == (1, False)


def test_one_image_has_no_places(batch):
    assert PLACES not in errors(Answers(np.eye(3)), {"images": batch["images"][:1]})


def test_nan_fails_unless_it_is_the_same(batch):
    assert errors(Answers(np.eye(3)), batch, Answers(np.full((3, 3), np.nan)))[THREADS] == (np.inf, False)


def test_onnx_runtime(four_blocks, session_of, inputs_of, operators):
    session = session_of(four_blocks, operators)
    batch = next(inputs_of(3).batches(3))
    checks = check_determinism(session, session.on_one_thread(), batch, {"logits": 1.0}, ALLOWED)
    assert [(check.name, check.passed) for check in checks] == [(n, True) for n in (SAME_RUN, THREADS, PLACES)]


def test_onnx_runtime_with_several_outputs_of_any_size(any_size_proto, any_size_network, session_of):
    session = session_of(any_size_proto)
    inputs = random_inputs(any_size_network.info, 3, seed=0, image_size=(24, 40))
    stds = {spec.name: 1.0 for spec in session.info.outputs}
    checks = check_determinism(session, session.on_one_thread(), next(inputs.batches(3)), stds, ALLOWED)
    assert [(check.name, check.passed) for check in checks] == [(n, True) for n in (SAME_RUN, THREADS, PLACES)]


class Labels(Answers):
    """A session whose labels are others in one of a thousand places on every second run."""

    runs = 0

    def _run(self, inputs):
        self.runs += 1
        labels = np.zeros((len(inputs["images"]), 1000), np.int64)
        labels[:, 0] = 149 * (self.runs % 2)
        return {"logits": labels}


def test_labels_count_by_how_many_differ(batch):
    found = check_determinism(Labels(np.zeros((3, 4))), None, batch, {"logits": 1.0}, Tolerance(1e-3, "a reason"))
    errors = {check.name: check.error for check in found}
    assert errors[SAME_RUN] == pytest.approx(1e-3 / 8)
