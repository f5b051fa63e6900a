import io

import numpy as np
import pytest
from PIL import Image

from vimdeploy.models.config import Recipe
from vimdeploy.parity.inputs import picture_inputs, random_inputs

SHAPE = (3, 4, 5)


class TestRandomInputs:
    def test_are_as_many_as_asked_for(self):
        batches = list(random_inputs(SHAPE, 5, seed=0).batches(2))
        assert [len(batch) for batch in batches] == [2, 2, 1]
        assert {batch.shape[1:] for batch in batches} == {SHAPE}

    def test_are_the_same_for_the_same_seed_in_any_batch(self):
        first, second = (np.concatenate([*random_inputs(SHAPE, 3, seed=7).batches(size)]) for size in (2, 3))
        assert (first == second).all()

    @pytest.mark.parametrize("seed", [8, -1])
    def test_are_others_for_another_seed(self, seed):
        first, second = (random_inputs(SHAPE, 1, s).image(0) for s in (7, seed))
        assert (first != second).any()

    def test_are_others_for_another_image(self):
        inputs = random_inputs(SHAPE, 2, seed=0)
        assert (inputs.image(0) != inputs.image(1)).any()

    def test_are_standard_normal(self):
        image = random_inputs((3, 64, 64), 1, seed=0).image(0)
        assert (image.dtype, abs(image.mean()) < 0.05, abs(image.std() - 1) < 0.05) == (np.float32, True, True)

    def test_have_names_and_no_picture(self):
        inputs = random_inputs(SHAPE, 2, seed=3)
        assert (inputs.names, inputs.description) == (["input 0", "input 1"], "2 random inputs (seed 3)")
        assert inputs.png(0) == b""


class TestPictureInputs:
    @pytest.fixture
    def inputs(self, picture):
        return picture_inputs([picture, picture], (32, 32), Recipe(), np.array([1, 4]))

    def test_are_read_as_the_model_takes_them(self, inputs):
        (batch,) = inputs.batches(8)
        assert (batch.shape, batch.dtype) == ((2, 3, 32, 32), np.float32)

    def test_have_the_names_of_their_files_and_their_classes(self, inputs, picture):
        assert inputs.names == [str(picture)] * 2
        assert inputs.classes.tolist() == [1, 4]

    def test_are_pictures_in_small(self, inputs, picture):
        Image.new("L", (600, 400)).save(picture)
        small = Image.open(io.BytesIO(inputs.png(0)))
        assert (small.format, small.size) == ("PNG", (96, 64))
