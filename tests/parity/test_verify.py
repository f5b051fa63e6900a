import io

import numpy as np
import pytest
from helpers.answers import Answers
from PIL import Image
from helpers.seeded_faults import changed_weight

from vimdeploy.models.config import Recipe
from vimdeploy.parity.inputs import Inputs, picture_inputs, random_inputs
from vimdeploy.parity.results import WeightCheck
from vimdeploy.parity.verify import BATCH, STAGE_IMAGES, verify


def numbered(count, made=None):
    """Inputs whose first value is their number modulo 3; ``made`` counts them."""

    def image(index):
        if made is not None:
            made.append(index)
        array = np.zeros((3, 2, 2), dtype=np.float32)
        array[0, 0, 0] = index % 3
        return array

    return Inputs(f"{count} numbers", [f"input {i}" for i in range(count)], image, lambda index: b"")


class TestParts:
    @pytest.fixture
    def sound(self, eager, four_blocks, session_of):
        [result] = verify(eager, [session_of(four_blocks)], random_inputs((3, 32, 32), 3, seed=0))
        return result

    def test_all_are_there(self, sound):
        assert (sound.images, sound.inputs) == (3, "3 random inputs (seed 0)")
        assert len(sound.stages) == 4 + 7 * 4
        assert len(sound.determinism) == 3
        assert (sound.stages_note, sound.passed) == ("", True)

    def test_the_image_with_the_worst_logit_is_among_those_of_the_stages(self, eager, four_blocks, session_of):
        inputs = random_inputs((3, 32, 32), 6, seed=0)
        seen = []
        session = session_of(four_blocks)
        stages = session.open_stages()
        session.open_stages = lambda: stages
        right = stages.values
        stages.values = lambda array: seen.append(array) or right(array)
        [result] = verify(eager, [session], inputs)
        worst = inputs.image(inputs.names.index(result.logits.place.image))
        assert STAGE_IMAGES <= len(seen) <= STAGE_IMAGES + 1
        assert any((array[0] == worst).all() for array in seen)

    def test_a_fault_is_named(self, eager, four_blocks, session_of):
        [result] = verify(eager, [session_of(changed_weight(four_blocks, 2))], random_inputs((3, 32, 32), 1, seed=0))
        assert (result.passed, result.fault.where) == (False, "Block 2, in_proj")


class TestWithoutStages:
    def test_the_note_says_why(self):
        [result] = verify(Answers(np.eye(3), "eager"), [Answers(np.eye(3), "plugin")], numbered(2))
        assert result.stages == ()
        assert result.stages_note == "Stages are left out: Answers (eager, cpu) gives its logits alone, no stages."

    def test_each_candidate_has_what_was_found_of_the_weights(self):
        weights = WeightCheck(3, (), ())
        candidates = [Answers(np.eye(3)), Answers(np.eye(3))]
        results = verify(Answers(np.eye(3), "eager"), candidates, numbered(2), weights)
        assert [result.weights for result in results] == [weights] * 2


def test_inputs_are_made_when_they_are_wanted():
    """Never more than one batch is there; of all but the first, each is made once."""
    made, shown = [], []

    def track(items, total, title):
        shown.append((title, total))
        for item in items:
            shown.append(len(item) if item.ndim == 4 else 1)
            yield item

    verify(Answers(np.eye(3), "eager"), [Answers(np.eye(3))], numbered(2 * BATCH + 1, made), track=track)
    assert shown[:4] == [("Comparing answers", 3), BATCH, BATCH, 1]
    assert sorted(made)[-BATCH:] == list(range(BATCH + 1, 2 * BATCH + 1))


def test_pictures_whose_answer_changed_are_kept_in_small(picture):
    inputs = picture_inputs([picture, picture], (2, 2), Recipe(), None)
    other = np.eye(3)[[1, 0, 2]]
    reference, candidate = Answers(np.eye(3), "eager"), Answers(other)
    reference._run, candidate._run = (
        lambda array, logits=m: np.float32(logits[[0] * len(array)]) for m in (np.eye(3), other)
    )
    [result] = verify(reference, [candidate], inputs)
    assert [change.image for change in result.changed] == [str(picture)] * 2
    assert Image.open(io.BytesIO(result.changed[0].png)).size == (60, 40)
