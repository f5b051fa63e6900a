import io

import numpy as np
import pytest
from helpers.answers import INFO, Answers
from helpers.seeded_faults import changed_weight
from PIL import Image

from vimdeploy.inputs import Inputs, picture_inputs, random_inputs
from vimdeploy.parity.results import WeightCheck
from vimdeploy.parity.verify import BATCH, STAGE_IMAGES, verify_sessions
from vimdeploy.runtimes.eager import EagerSession


def numbered(count, made=None):
    """Inputs whose first value is their number modulo 3; ``made`` counts them."""

    def one(index):
        if made is not None:
            made.append(index)
        array = np.zeros((3, 2, 2), dtype=np.float32)
        array[0, 0, 0] = index % 3
        return {"images": array}

    return Inputs(f"{count} numbers", [f"input {i}" for i in range(count)], one)


class TestParts:
    @pytest.fixture
    def sound(self, eager, four_blocks, session_of, inputs_of):
        [result] = verify_sessions(eager, [session_of(four_blocks)], inputs_of(3))
        return result

    def test_all_are_there(self, sound):
        assert (sound.images, sound.inputs) == (3, "3 random inputs (seed 0)")
        assert len(sound.stages) == 4 + 7 * 4
        assert len(sound.determinism) == 3
        assert (sound.stages_note, sound.passed) == ("", True)

    def test_the_image_with_the_worst_output_is_among_those_of_the_stages(
        self, eager, four_blocks, session_of, inputs_of
    ):
        inputs = inputs_of(6)
        seen = []
        session = session_of(four_blocks)
        stages = session.open_stages()
        session.open_stages = lambda: stages
        right = stages.values
        stages.values = lambda arrays, *chosen: seen.append(arrays["images"]) or right(arrays, *chosen)
        [result] = verify_sessions(eager, [session], inputs)
        worst = inputs.one(inputs.names.index(result.worst.place.image))["images"]
        assert STAGE_IMAGES <= len(seen) <= STAGE_IMAGES + 1
        assert any((array[0] == worst).all() for array in seen)

    def test_a_fault_is_named(self, eager, four_blocks, session_of, inputs_of):
        [result] = verify_sessions(eager, [session_of(changed_weight(four_blocks, 2))], inputs_of(1))
        assert (result.passed, result.fault.where) == (False, "Block 2, in_proj")

    @pytest.mark.parametrize("size", [None, (24, 40)])
    def test_several_outputs_of_any_size(self, any_size_network, any_size_proto, session_of, operators, size):
        inputs = random_inputs(any_size_network.info, 3, seed=0, image_size=size)
        [result] = verify_sessions(EagerSession(any_size_network), [session_of(any_size_proto, operators)], inputs)
        assert result.passed, result.fault
        assert [output.name for output in result.outputs] == ["map", "pooled", "block_0"]
        assert (len(result.stages), len(result.determinism)) == (3 + 7 * 2, 3)
        assert [measure.name for measure in result.answers.measures] == ["same nearest neighbour"]


class TestWithoutStages:
    def test_the_note_says_why(self):
        [result] = verify_sessions(Answers(np.eye(3), "eager"), [Answers(np.eye(3), "plugin")], numbered(2))
        assert result.stages == ()
        assert result.stages_note == "Stages are left out: Answers (eager, cpu) gives its outputs alone, no stages."

    def test_each_candidate_has_what_was_found_of_the_weights(self):
        weights = WeightCheck(3, (), ())
        candidates = [Answers(np.eye(3)), Answers(np.eye(3))]
        results = verify_sessions(Answers(np.eye(3), "eager"), candidates, numbered(2), weights)
        assert [result.weights for result in results] == [weights] * 2


class TestProgress:
    def test_tells_the_phases_step_by_step(self, eager, four_blocks, session_of, inputs_of):
        told = []
        verify_sessions(eager, [session_of(four_blocks)], inputs_of(1), progress=lambda *step: told.append(step))
        assert told[0] == ("Comparing answers", 0, 1)
        assert [phase for phase, done, steps in told if done == steps] == ["Comparing answers"] * 2 + [
            "Comparing stages"
        ] * 2
        assert all(done <= steps for _, done, steps in told)

    def test_counts_batches(self):
        told = []
        inputs = numbered(2 * BATCH + 1)
        verify_sessions(
            Answers(np.eye(3), "eager"), [Answers(np.eye(3))], inputs, progress=lambda *step: told.append(step)
        )
        assert dict.fromkeys(told) == dict.fromkeys(("Comparing answers", done, 3) for done in range(4))


def test_inputs_are_made_when_they_are_wanted():
    """Never more than one batch is there; all but the first are made once."""
    made, then = [], []

    class Watching(Answers):
        def _run(self, inputs):
            then.append(len(made))
            return super()._run(inputs)

    verify_sessions(Watching(np.eye(3), "eager"), [Answers(np.eye(3))], numbered(2 * BATCH + 1, made))
    assert then == [BATCH, 2 * BATCH, 2 * BATCH + 1]
    assert sorted(made)[-BATCH:] == list(range(BATCH + 1, 2 * BATCH + 1))


def test_pictures_whose_answer_changed_are_kept_in_small(picture):
    inputs = picture_inputs([picture, picture], INFO)
    other = np.eye(3)[[1, 0, 2]]
    reference, candidate = Answers(np.eye(3), "eager"), Answers(other)
    reference._run, candidate._run = (
        lambda inputs, logits=m: {"logits": np.float32(logits[[0] * len(inputs["images"])])} for m in (np.eye(3), other)
    )
    [result] = verify_sessions(reference, [candidate], inputs)
    assert [change.image for change in result.answers.changes] == [str(picture)] * 2
    assert Image.open(io.BytesIO(result.answers.changes[0].png)).size == (60, 40)
