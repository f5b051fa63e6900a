import dataclasses

import numpy as np
import pytest
import torch
from helpers import detections
from helpers.stand_in_tensorrt import Foreign
from PIL import Image

from vimdeploy.errors import ConfigError, ImageError, InputError
from vimdeploy.model_info import ModelInfo, SizeRange, TensorSpec
from vimdeploy.recipe import Recipe
from vimdeploy.runtimes.base import Session

IMAGES = TensorSpec("images", ("batch", 3, 2, 4))
ANY = TensorSpec("images", ("batch", 3, "height", "width"))
LOGITS = TensorSpec("logits", ("batch", 3))
SIZES = {"height": SizeRange(4, 12, 2, typical=4), "width": SizeRange(4, None, 2, typical=8)}
IMAGE = Image.new("RGB", (8, 8))


class Fixed(Session):
    """Answers every image with the same logits and remembers what it was given."""

    device = "cpu"
    operators = "library"

    def __init__(self, inputs=(IMAGES,), outputs=(LOGITS,), logits=(0.0, 2.0, 1.0), **facts):
        self.info = ModelInfo("fixed", inputs, outputs, **{"task": "classification"} | facts)
        self.logits = logits
        self.given = []
        self.closed = False

    def _run(self, inputs):
        self.given.append(inputs)
        batch = len(next(iter(inputs.values())))
        return {"logits": np.tile(np.asarray(self.logits, dtype=np.float32), (batch, 1))}

    def close(self):
        self.closed = True


@pytest.fixture
def any_size():
    return Fixed(inputs=(ANY,), sizes=SIZES)


class TestRun:
    @pytest.mark.parametrize("given", ["an array", "a dict", "a tensor", "a dict of tensors"])
    def test_takes(self, given):
        array = np.random.default_rng(0).standard_normal((2, 3, 2, 4), dtype=np.float32)
        value = torch.from_numpy(array).requires_grad_() if "tensor" in given else array
        session = Fixed()
        session.run({"images": value} if "dict" in given else value)
        np.testing.assert_array_equal(session.given[0]["images"], array)

    def test_gives_an_array_for_each_output(self):
        found = Fixed().run(np.zeros((7, 3, 2, 4), np.float32))
        assert {name: array.shape for name, array in found.items()} == {"logits": (7, 3)}

    def test_parts_of_a_fixed_batch_may_find_more_or_fewer(self):
        two = [dataclasses.replace(spec, dims=(2, *spec.dims[1:])) for spec in detections.INFO.inputs]
        session = detections.Found(
            [((0, 0, 9, 9), 0.9, 0)], [], [], info=dataclasses.replace(detections.INFO, inputs=tuple(two))
        )
        found = session.run(detections.batch(1, 2, 0))
        assert {name: array.shape[:2] for name, array in found.items()} == dict.fromkeys(found, (3, 1))
        assert found["scores"].round(1).tolist() == [[0], [0], [np.float32(0.9)]]

    @pytest.mark.parametrize(
        "shape", [(3, 2, 4), (1, 3, 4, 2), (1, 1, 2, 4), (1, 3, 2, 4, 1), (0, 3, 2, 4), ()], ids=str
    )
    def test_another_shape(self, shape):
        with pytest.raises(InputError) as error:
            Fixed().run(np.zeros(shape, np.float32))
        wanted = "Wanted images (batch, 3, 2, 4) of float32, every size at least 1; found "
        assert str(error.value) == f"{wanted}{shape} of float32."

    @pytest.mark.parametrize("dtype", [np.float64, np.float16, np.uint8])
    def test_another_type(self, dtype):
        with pytest.raises(InputError, match=rf"of float32, every size .*; found .* of {np.dtype(dtype)}\.$"):
            Fixed().run(np.zeros((1, 3, 2, 4), dtype))

    def test_a_tensor_of_a_type_that_numpy_does_not_have(self):
        with pytest.raises(InputError, match=r"^Wanted a type that numpy has, found torch\.bfloat16; convert it"):
            Fixed().run(torch.zeros((1, 3, 2, 4), dtype=torch.bfloat16))

    @pytest.mark.parametrize("value", [[[1.0]], "cat.jpg", IMAGE], ids=["list", "path", "picture"])
    def test_what_is_no_array(self, value):
        with pytest.raises(InputError, match=r"^Wanted arrays of numpy or tensors of torch, found .*pictures go to"):
            Fixed().run(value)

    def test_the_runtime_gets_one_dense_block(self):
        session = Fixed()
        session.run(np.zeros((2, 4, 2, 3), np.float32).transpose(0, 3, 2, 1))
        assert session.given[0]["images"].flags.c_contiguous

    @pytest.mark.parametrize("size", [(4, 4), (12, 4), (6, 400)])
    def test_any_size(self, any_size, size):
        assert any_size.run(np.zeros((1, 3, *size), np.float32))["logits"].shape == (1, 3)

    @pytest.mark.parametrize(
        ("size", "message"),
        [
            ((2, 4), r"Wanted a height of 4 to 12 in steps of 2; found 2 \(the nearest is 4\)"),
            ((14, 4), r"Wanted a height of 4 to 12 in steps of 2; found 14 \(the nearest is 12\)"),
            ((4, 9), r"Wanted a width of 4 or more in steps of 2; found 9 \(the nearest is (8|10)\)"),
        ],
    )
    def test_a_size_that_the_file_does_not_take(self, any_size, size, message):
        with pytest.raises(InputError, match=message):
            any_size.run(np.zeros((1, 3, *size), np.float32))


class TestSeveralInputs:
    @pytest.fixture
    def session(self):
        return Fixed(inputs=(TensorSpec("left", ("batch", 2)), TensorSpec("right", ("batch", 3))), task="")

    def test_go_in_by_name(self, session):
        session.run({"right": np.zeros((4, 3), np.float32), "left": np.ones((4, 2), np.float32)})
        assert {name: array.shape for name, array in session.given[0].items()} == {"left": (4, 2), "right": (4, 3)}

    @pytest.mark.parametrize("names", [[], ["left"], ["left", "right", "middle"]])
    def test_all_and_no_others(self, session, names):
        with pytest.raises(InputError) as error:
            session.run({name: np.zeros((4, 2), np.float32) for name in names})
        wanted = "Wanted the inputs left (batch, 2) of float32, right (batch, 3) of float32; found "
        assert str(error.value) == f"{wanted}{', '.join(names) or 'none'}."

    def test_an_array_without_a_name_is_the_first_alone(self, session):
        with pytest.raises(InputError, match=r"Wanted the inputs left .*; found left\."):
            session.run(np.zeros((4, 2), np.float32))

    def test_have_one_batch(self, session):
        with pytest.raises(InputError, match=r"Wanted right \(batch, 3\).*; found \(5, 3\)"):
            session.run({"left": np.zeros((4, 2), np.float32), "right": np.zeros((5, 3), np.float32)})


class TestOnAGpu:
    """Arrays that say that they are there are another way in; sessions on a CPU have none."""

    THERE = Foreign(np.zeros((4, 2), np.float32))

    @pytest.fixture
    def session(self):
        session = Fixed(inputs=(TensorSpec("left", ("batch", 2)), TensorSpec("right", ("batch", 3))), task="")
        session.device = "cuda:1"
        return session

    def test_a_session_that_has_no_way_in_says_so(self, session):
        with pytest.raises(InputError, match=r"^Fixed \(.*cuda:1\) takes arrays in the CPU's memory\.$"):
            session.run({"left": self.THERE, "right": self.THERE})

    def test_all_inputs_are_there_or_none(self, session):
        with pytest.raises(InputError, match=r"all inputs on the GPU or none; left is there, the others are not\.$"):
            session.run({"left": self.THERE, "right": np.zeros((4, 3), np.float32)})

    def test_a_session_on_the_cpu_takes_none(self):
        with pytest.raises(InputError, match=r"Wanted arrays of numpy or tensors of torch, found Foreign"):
            Fixed().run(self.THERE)

    @pytest.mark.parametrize("device", ["cpu", "cuda"])
    @pytest.mark.parametrize("option", [{"outputs": {}}, {"stream": 0}])
    def test_options_of_it_are_refused_elsewhere(self, device, option):
        session = Fixed()
        session.device = device
        with pytest.raises(InputError, match="outputs and stream are for inputs that are on the GPU of the session"):
            session.run(np.zeros((1, 3, 2, 4), np.float32), **option)
        assert session.given == []

    @pytest.mark.parametrize(("device", "on_gpu"), [("cpu", False), ("", False), ("cuda", True), ("cuda:1", True)])
    def test_a_session_says_whether_it_is_on_one(self, device, on_gpu):
        session = Fixed()
        session.device = device
        assert session.runs_on_gpu is on_gpu


class TestPredict:
    @pytest.fixture
    def pixels(self):
        return np.random.default_rng(0).integers(0, 256, (4, 8, 3), dtype=np.uint8)

    def test_one_picture_has_one_answer(self):
        answer = Fixed(labels=("ant", "bee", "cat")).predict(IMAGE)
        assert [prediction.label for prediction in answer.predictions] == ["bee", "cat", "ant"]

    @pytest.mark.parametrize("kind", [list, tuple])
    def test_several_have_a_list_of_answers(self, kind):
        assert [answer.order[0] for answer in Fixed().predict(kind([IMAGE]))] == [1]

    @pytest.mark.parametrize(
        "kind",
        [
            lambda pixels, path: path,
            lambda pixels, path: str(path),
            lambda pixels, path: path.read_bytes(),
            lambda pixels, path: bytearray(path.read_bytes()),
            lambda pixels, path: memoryview(path.read_bytes()),
            lambda pixels, path: Image.fromarray(pixels),
            lambda pixels, path: pixels,
            lambda pixels, path: torch.from_numpy(pixels),
        ],
        ids=["Path", "str", "bytes", "bytearray", "memoryview", "PIL", "array", "tensor"],
    )
    def test_a_picture_may_be(self, kind, pixels, tmp_path):
        path = tmp_path / "picture.png"
        Image.fromarray(pixels).save(path)
        first, second = Fixed(), Fixed()
        first.predict(kind(pixels, path))
        second.predict([Image.fromarray(pixels)])
        np.testing.assert_array_equal(first.given[0]["images"], second.given[0]["images"])

    def test_pictures_run_in_batches_and_keep_their_order(self):
        session = Fixed()
        assert len(session.predict([IMAGE] * 5, batch=2)) == 5
        assert [len(arrays["images"]) for arrays in session.given] == [2, 2, 1]

    @pytest.mark.parametrize("batch", [0, -1, 2.5, "8"], ids=repr)
    def test_a_batch_of_none(self, batch):
        with pytest.raises(ConfigError, match=f"batch must be a whole number of at least 1, found {batch!r}"):
            Fixed().predict([IMAGE], batch=batch)

    def test_pictures_are_prepared_by_the_models_recipe(self):
        session = Fixed()
        session.predict(Image.new("RGB", (8, 8), (255, 255, 255)))
        white = (1 - np.array([0.485, 0.456, 0.406])) / [0.229, 0.224, 0.225]
        np.testing.assert_allclose(session.given[0]["images"][0, :, 0, 0], white, rtol=1e-6)

    def test_no_pictures_give_no_answers(self):
        assert Fixed().predict([]) == []

    def test_a_picture_that_is_none_is_named(self):
        with pytest.raises(ImageError, match=r"none\.png"):
            Fixed().predict([IMAGE, "none.png"])
        with pytest.raises(ImageError, match="picture 1: "):
            Fixed().predict([IMAGE, None])

    def test_a_file_that_does_not_say_what_its_outputs_mean(self):
        with pytest.raises(
            ConfigError, match=r"^fixed does not say what its outputs mean; vimdeploy\.load\(FILE\)\.run"
        ):
            Fixed(task="").predict(IMAGE)

    @pytest.mark.parametrize("size", [4, (4,), ("2", "4"), (2, 4, 3), "2x4"], ids=repr)
    def test_what_is_no_size(self, size):
        with pytest.raises(InputError, match=r"Wanted an image size as \(height, width\) in pixels, found "):
            Fixed().predict(IMAGE, image_size=size)

    def test_a_size_that_a_fixed_file_does_not_have(self):
        with pytest.raises(InputError, match="Wanted an image height of 4, the file takes 2 alone"):
            Fixed().predict(IMAGE, image_size=(4, 4))


class TestPredictEach:
    def test_an_answer_or_the_reason_for_each_in_order(self):
        images = ["none.png", IMAGE, None, b"", IMAGE, "last.png"]
        found = list(Fixed().predict_each(images))
        assert [isinstance(answer, ImageError) for answer in found] == [True, False, True, True, False, True]
        assert ["none.png" in str(found[0]), "picture 2: " in str(found[2]), "last.png" in str(found[5])] == [True] * 3

    def test_those_that_can_be_read_run_together(self):
        session = Fixed()
        list(session.predict_each([IMAGE, None, IMAGE, IMAGE], batch=2))
        assert [len(arrays["images"]) for arrays in session.given] == [2, 1]

    def test_nothing(self):
        assert list(Fixed().predict_each([])) == []

    def test_answers_come_one_after_the_other(self):
        session = Fixed()
        answers = session.predict_each([IMAGE] * 4, batch=2)
        next(answers)
        assert len(session.given) == 1


class TestUsualBatch:
    @pytest.mark.parametrize(("device", "sizes"), [("cpu", [2, 2, 1]), ("cuda", [5])])
    def test_large_pictures_are_fewer_on_a_cpu(self, device, sizes):
        session = Fixed((TensorSpec("images", ("batch", 3, 400, 400)),))
        session.device = device
        session.predict([IMAGE] * 5)
        assert [len(arrays["images"]) for arrays in session.given] == sizes


class Colors(Fixed):
    """Segments windows of 32 x 32 by their strongest colour: the logits of a place are the means of 4 x 4 pixels."""

    def __init__(self, size=(32, 32), **facts):
        outputs = (
            TensorSpec("logits", ("batch", 3, "rows", "columns")),
            TensorSpec("classes", ("batch", *size), "int64"),
        )
        recipe = Recipe(1.0, "bilinear", (0.0,) * 3, (1.0,) * 3, "slide")
        inputs = (TensorSpec("images", ("batch", 3, *size)),)
        super().__init__(inputs, outputs, task="segment", head={"classes": 3}, recipe=recipe, **facts)

    def _run(self, inputs):
        images = inputs["images"]
        self.given.append(len(images))
        batch, _, height, width = images.shape
        logits = images.reshape(batch, 3, height // 4, 4, width // 4, 4).mean(axis=(3, 5))
        return {"logits": logits, "classes": np.zeros((batch, height, width), np.int64)}


STRIPES = np.zeros((60, 150, 3), np.uint8)
for _stripe in range(6):
    STRIPES[:, 25 * _stripe : 25 * (_stripe + 1), _stripe % 3] = 255


class TestWindows:
    def wrong(self, answer, picture=STRIPES):
        return (answer.classes != picture.argmax(axis=2)).mean()

    @pytest.mark.parametrize("turned", [False, True])
    @pytest.mark.parametrize("size", [None, (60, 150), (120, 300)])
    def test_the_answer_is_in_the_pictures_own_pixels(self, size, turned):
        picture = STRIPES.swapaxes(0, 1) if turned else STRIPES
        answer = Colors().predict(picture, size[::-1] if size and turned else size)
        assert answer.classes.shape == picture.shape[:2]
        assert self.wrong(answer, picture) < 0.03  # at the edges of the stripes

    @pytest.mark.parametrize("batch", [1, 3, 8])
    def test_how_many_run_together_changes_nothing(self, batch):
        session = Colors()
        noise = np.random.default_rng(0).integers(0, 256, STRIPES.shape, dtype=np.uint8)
        answers = session.predict([noise, STRIPES, noise], (60, 150), batch=batch)
        assert session.given == [batch] * (3 * 21 // batch) + [3 * 21 % batch] * (3 * 21 % batch > 0)
        alone = Colors().predict(noise, (60, 150), batch=1).classes
        assert [(answer.classes == alone).all() for answer in answers] == [True, False, True]

    def test_a_picture_that_is_shorter_than_a_window_has_a_margin(self):
        assert self.wrong(Colors().predict(STRIPES[:12]), STRIPES[:12]) < 0.05

    def test_the_whole_picture_at_once_if_the_file_takes_any_size(self):
        session = Colors(("height", "width"), sizes={side: SizeRange(8, None, 8, 64) for side in ("height", "width")})
        assert self.wrong(session.predict(STRIPES)) < 0.03
        assert session.given == [1]


class TestPredictAtAnySize:
    def shapes(self, session, *sizes, **options):
        pictures = [Image.new("RGB", size) for size in sizes]
        assert len(session.predict(pictures, **options)) == len(sizes)
        return [arrays["images"].shape for arrays in session.given]

    def test_a_picture_has_its_own_size_rounded_to_one_that_the_file_takes(self, any_size):
        assert self.shapes(any_size, (20, 11)) in ([(1, 3, 10, 20)], [(1, 3, 12, 20)])

    def test_or_the_nearest_bound(self, any_size):
        assert self.shapes(any_size, (1, 99)) == [(1, 3, 12, 4)]

    def test_neighbours_of_one_size_run_together(self, any_size):
        shapes = self.shapes(any_size, (8, 6), (8, 6), (6, 8), (8, 6), batch=8)
        assert shapes == [(2, 3, 6, 8), (1, 3, 8, 6), (1, 3, 6, 8)]

    def test_or_a_size_that_is_asked_for(self, any_size):
        assert self.shapes(any_size, (20, 11), (6, 8), image_size=(6, 10)) == [(2, 3, 6, 10)]

    def test_which_has_to_be_one_that_the_file_takes(self, any_size):
        with pytest.raises(InputError, match="Wanted an image height of 5, the file takes 4 to 12 in steps of 2; the"):
            any_size.predict(IMAGE, image_size=(5, 8))

    def test_a_picture_is_not_cropped(self, any_size):
        pixels = np.zeros((6, 10, 3), np.uint8)
        pixels[:, 0] = 255
        any_size.predict(pixels)
        first, *_, last = any_size.given[0]["images"][0, 0, 3]
        assert first > 2 > 0 > last


def test_the_description_says_what_computes():
    assert Fixed().description == "Fixed (library, cpu)"


def test_the_description_of_a_model_without_our_operators_says_where():
    session = Fixed()
    session.operators = ""
    assert session.description == "Fixed (cpu)"


def test_the_repr_tells_what_goes_in_and_out():
    assert repr(Fixed()) == (
        "<Fixed (library, cpu): fixed, classification, fp32; images (batch, 3, 2, 4) of float32 -> "
        "logits (batch, 3) of float32>"
    )


def test_a_session_is_closed_behind_a_with():
    with Fixed() as session:
        assert not session.closed
    assert session.closed


def test_a_session_that_gives_its_outputs_alone_says_so():
    with pytest.raises(ConfigError, match=r"Fixed \(library, cpu\) gives its outputs alone, no stages"):
        Fixed().open_stages()


def test_a_session_without_threads_has_no_other_on_one():
    assert Fixed().on_one_thread() is None
