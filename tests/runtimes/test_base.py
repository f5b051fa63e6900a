import numpy as np
import pytest
from PIL import Image

from vimdeploy.artifact import ModelInfo
from vimdeploy.errors import ConfigError, ImageError, InputError
from vimdeploy.models.config import VimConfig
from vimdeploy.runtimes.base import Prediction, Session

CONFIG = VimConfig(image_size=(2, 4), patch_size=2, stride=2, dim=2, depth=1, num_classes=3)


class Fixed(Session):
    """Answers every image with the same logits and remembers what it was given."""

    device = "cpu"
    operators = "library"

    def __init__(self, logits=(0.0, 2.0, 1.0), labels=()):
        self.info = ModelInfo("fixed", CONFIG, labels=labels)
        self.logits = logits
        self.given = []

    def _run(self, array):
        self.given.append(array)
        return np.tile(np.asarray(self.logits, dtype=np.float32), (len(array), 1))


IMAGE = Image.new("RGB", (8, 8))


class TestRun:
    def test_any_batch(self):
        assert Fixed().run(np.zeros((7, 3, 2, 4), np.float32)).shape == (7, 3)

    @pytest.mark.parametrize(
        "shape", [(3, 2, 4), (1, 3, 4, 2), (1, 1, 2, 4), (1, 3, 2, 4, 1), (0, 3, 2, 4), ()], ids=str
    )
    def test_another_shape(self, shape):
        with pytest.raises(InputError, match=r"Wanted an array \(B, 3, 2, 4\) of float32, B at least 1; found \("):
            Fixed().run(np.zeros(shape, np.float32))

    @pytest.mark.parametrize("dtype", [np.float64, np.float16, np.uint8])
    def test_another_type(self, dtype):
        with pytest.raises(InputError, match=f"found .* of {np.dtype(dtype)}"):
            Fixed().run(np.zeros((1, 3, 2, 4), dtype))

    def test_the_runtime_gets_one_dense_block(self):
        session = Fixed()
        session.run(np.zeros((2, 4, 2, 3), np.float32).transpose(0, 3, 2, 1))
        assert session.given[0].flags.c_contiguous


class TestClassify:
    def test_the_most_probable_comes_first(self):
        (answer,) = Fixed().classify([IMAGE])
        assert [prediction.index for prediction in answer] == [1, 2, 0]

    def test_probabilities_are_the_softmax(self):
        (answer,) = Fixed(logits=np.log([0.2, 0.5, 0.3])).classify([IMAGE])
        assert [prediction.probability for prediction in answer] == pytest.approx([0.5, 0.3, 0.2])

    def test_huge_logits_stay_numbers(self):
        (answer,) = Fixed(logits=(1e30, 0.0, -1e30)).classify([IMAGE])
        assert [prediction.probability for prediction in answer] == [1, 0, 0]

    def test_equal_classes_keep_their_order(self):
        (answer,) = Fixed(logits=(1.0, 1.0, 1.0)).classify([IMAGE])
        assert [prediction.index for prediction in answer] == [0, 1, 2]

    def test_top(self):
        (answer,) = Fixed().classify([IMAGE], top=1)
        assert [prediction.index for prediction in answer] == [1]

    def test_more_than_there_are_gives_all(self):
        (answer,) = Fixed().classify([IMAGE], top=99)
        assert len(answer) == 3

    def test_a_class_has_its_label(self):
        (answer,) = Fixed(logits=(0.0, 1e9, 0.0), labels=("ant", "bee", "cat")).classify([IMAGE], top=1)
        assert answer == [Prediction(1, "bee", 1.0)]

    def test_pictures_run_in_batches_and_keep_their_order(self):
        session = Fixed()
        assert len(session.classify([IMAGE] * 5, batch=2)) == 5
        assert [len(array) for array in session.given] == [2, 2, 1]

    def test_pictures_are_prepared_by_the_models_recipe(self):
        session = Fixed()
        session.classify([Image.new("RGB", (8, 8), (255, 255, 255))])
        white = (1 - np.array([0.485, 0.456, 0.406])) / [0.229, 0.224, 0.225]
        np.testing.assert_allclose(session.given[0][0, :, 0, 0], white, rtol=1e-6)

    def test_no_pictures_give_no_answers(self):
        assert Fixed().classify([]) == []

    def test_a_picture_that_is_none(self):
        with pytest.raises(ImageError):
            Fixed().classify(["none.png"])


def test_the_description_says_what_computes():
    assert Fixed().description == "Fixed (library, cpu)"


def test_a_session_that_gives_logits_alone_says_so():
    with pytest.raises(ConfigError, match=r"Fixed \(library, cpu\) gives its logits alone, no stages"):
        Fixed().open_stages()


def test_a_session_without_threads_has_no_other_on_one():
    assert Fixed().on_one_thread() is None
