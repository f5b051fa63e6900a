import dataclasses
import io
import os
import warnings
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from vimdeploy.errors import ConfigError, ImageError, InputError, VimdeployWarning
from vimdeploy.inputs import (
    Inputs,
    folder_inputs,
    picture_inputs,
    picture_windows,
    random_inputs,
    some_inputs,
    stacked,
)
from vimdeploy.model_info import ModelInfo, SizeRange, TensorSpec
from vimdeploy.preprocess import Placement, normalised, open_image, tensor_from_image, tensors_from_image
from vimdeploy.recipe import Recipe
from vimdeploy.tasks.base import Limits

FIXED = ModelInfo(
    "fixed",
    (TensorSpec("images", ("batch", 3, 16, 24)),),
    (TensorSpec("logits", ("batch", 3)),),
    task="classification",
    labels=("ant", "bee", "cat"),
)
FREE = dataclasses.replace(
    FIXED,
    inputs=(TensorSpec("images", ("batch", 3, "height", "width")),),
    sizes={"height": SizeRange(16, 64, 8, 32), "width": SizeRange(16, None, 8, 40)},
)
TWO = ModelInfo("two", (TensorSpec("a", ("batch", 4)), TensorSpec("b", ("batch", "length", 2))), ())


def array(inputs, number=0, name="images"):
    return inputs.one(number)[name]


class TestRandomInputs:
    def test_are_as_many_as_asked_for(self):
        inputs = random_inputs(FIXED, 5, seed=0)
        batches = [batch["images"] for batch in inputs.batches(2)]
        assert [batch.shape for batch in batches] == [(2, 3, 16, 24), (2, 3, 16, 24), (1, 3, 16, 24)]
        assert (len(inputs), inputs.batch_count(2)) == (5, 3)

    def test_are_the_same_for_the_same_seed_in_any_batch(self):
        first, second = (
            np.concatenate([batch["images"] for batch in random_inputs(FIXED, 3, seed=7).batches(size)])
            for size in (2, 3)
        )
        assert (first == second).all()

    def test_of_bytes_are_about_what_the_others_are(self):
        image = array(random_inputs(FIXED.with_bytes(), 1, seed=0))
        assert (image.shape, image.dtype) == ((16, 24, 3), np.uint8)
        values = normalised(image, FIXED.recipe)
        assert abs(values.mean()) < 0.1
        assert 0.85 < values.std() < 1.05  # what bytes cannot say is cut off

    def test_are_the_same_as_ever(self):
        """Reports of earlier days name the seed alone."""
        wanted = np.random.default_rng((1, 7)).standard_normal((3, 16, 24), dtype=np.float32)
        assert (array(random_inputs(FIXED, 2, seed=7), 1) == wanted).all()

    @pytest.mark.parametrize("seed", [8, -1])
    def test_are_others_for_another_seed(self, seed):
        first, second = (array(random_inputs(FIXED, 1, s)) for s in (7, seed))
        assert (first != second).any()

    def test_are_others_for_another_image(self):
        inputs = random_inputs(FIXED, 2, seed=0)
        assert (array(inputs, 0) != array(inputs, 1)).any()

    def test_are_standard_normal(self):
        image = array(random_inputs(FREE, 1, seed=0, image_size=(64, 64)))
        assert (image.dtype, abs(image.mean()) < 0.05, abs(image.std() - 1) < 0.05) == (np.float32, True, True)

    def test_have_names_and_neither_picture_nor_class(self):
        inputs = random_inputs(FIXED, 2, seed=3)
        assert (inputs.names, inputs.description) == (["input 0", "input 1"], "2 random inputs (seed 3)")
        assert (inputs.png(0), inputs.classes) == (b"", None)

    @pytest.mark.parametrize(("asked", "size"), [(None, (32, 40)), ((16, 104), (16, 104))])
    def test_of_a_model_of_any_size(self, asked, size):
        assert array(random_inputs(FREE, 1, 0, asked)).shape == (3, *size)

    @pytest.mark.parametrize(("info", "asked"), [(FIXED, (24, 24)), (FREE, (17, 24)), (FREE, (72, 24))])
    def test_of_a_size_that_the_model_does_not_take(self, info, asked):
        with pytest.raises(InputError, match="Wanted an image height of"):
            random_inputs(info, 1, 0, asked)

    def test_of_several_inputs(self):
        inputs = random_inputs(dataclasses.replace(TWO, sizes={"length": SizeRange(5)}), 3, 0)
        (batch,) = inputs.batches(8)
        assert {name: value.shape for name, value in batch.items()} == {"a": (3, 4), "b": (3, 5, 2)}
        TWO.check_shapes({n: v.shape for n, v in batch.items()}, {n: str(v.dtype) for n, v in batch.items()})

    @pytest.mark.parametrize("type_", ["float16", "float64", "int64", "uint8", "bool"])
    def test_of_another_type(self, type_):
        info = ModelInfo("other", (TensorSpec("a", ("batch", 4), type_),), ())
        assert str(array(random_inputs(info, 1, 0), name="a").dtype) == type_

    def test_of_a_type_that_numpy_does_not_have(self):
        info = ModelInfo("other", (TensorSpec("a", ("batch", 4), "no_type"),), ())
        with pytest.raises(InputError, match="no random inputs of the type no_type, which a is of"):
            random_inputs(info, 1, 0)


class TestPictureInputs:
    @pytest.fixture
    def inputs(self, picture):
        return picture_inputs([picture, picture], FIXED, classes=np.array([1, 4]))

    def test_are_read_as_the_model_takes_them(self, inputs, picture):
        (batch,) = inputs.batches(8)
        assert (batch["images"].shape, batch["images"].dtype) == ((2, 3, 16, 24), np.float32)
        assert (batch["images"][0] == tensor_from_image(open_image(picture), (16, 24), Recipe())).all()

    def test_have_the_names_of_their_files_and_their_classes(self, inputs, picture):
        assert inputs.names == [str(picture)] * 2
        assert inputs.classes.tolist() == [1, 4]
        assert inputs.description == "2 pictures"

    def test_are_pictures_in_small(self, inputs, picture):
        Image.new("L", (600, 400)).save(picture)
        small = Image.open(io.BytesIO(inputs.png(0)))
        assert (small.format, small.size) == ("PNG", (96, 64))

    def test_paths_pictures_and_arrays_are_the_same(self, picture):
        opened = open_image(picture)
        inputs = picture_inputs([picture, str(picture), opened, np.asarray(opened)], FIXED)
        assert inputs.names == [str(picture), str(picture), "picture 2", "picture 3"]
        assert all((array(inputs, number) == array(inputs)).all() for number in range(4))
        assert all(inputs.png(number) == inputs.png(0) for number in range(4))

    @pytest.mark.parametrize(
        ("bad", "complaint"),
        [
            (np.zeros((4, 4), np.float32), r"^picture 1: Wanted a picture as an array of uint8.*; found float32"),
            (b"no picture", r"^picture 1: The picture of 10 bytes is not a picture"),
            (Image.new("F", (4, 4)), r"^picture 1: The picture has values of floats"),
            (None, r"^picture 1: Wanted a picture: .*; found NoneType"),
            ("none.png", r"^The picture none\.png cannot be read"),
        ],
        ids=["array", "bytes", "PIL", "None", "path"],
    )
    def test_one_of_several_that_is_none_is_named(self, picture, bad, complaint):
        inputs = picture_inputs([picture, bad], FIXED)
        with pytest.raises(ImageError, match=complaint):
            inputs.one(1)

    def test_one_alone_needs_no_name(self):
        with pytest.raises(ImageError, match=r"^Wanted a picture: "):
            picture_inputs([None], FIXED).one(0)

    def test_names_that_no_text_has_are_printable(self, tmp_path):
        path = tmp_path / os.fsdecode(b"caf\xe9.png")
        Image.new("RGB", (4, 4)).save(path)
        inputs = picture_inputs([path], FIXED)
        assert inputs.names[0].encode().endswith(rb"caf\udce9.png")
        assert array(inputs).shape == (3, 16, 24)

    def test_deep_grey_is_as_bright_in_small(self):
        inputs = picture_inputs([Image.fromarray(np.full((40, 40), 0x80FF, np.uint16))], FIXED)
        assert Image.open(io.BytesIO(inputs.png(0))).getpixel((0, 0)) == (0x80,) * 3

    def test_are_opened_when_their_turn_comes(self, picture):
        batches = picture_inputs([picture, "none.png"], FIXED).batches(1)
        assert next(batches)["images"].shape == (1, 3, 16, 24)
        with pytest.raises(ImageError):
            next(batches)

    def test_of_a_model_that_takes_none(self, picture):
        with pytest.raises(InputError, match=r"two takes .*: no pictures"):
            picture_inputs([picture], TWO)

    def test_go_under_the_name_of_the_input(self, picture):
        info = dataclasses.replace(FIXED, inputs=(TensorSpec("pixels", ("batch", 3, 16, 24)),))
        assert list(picture_inputs([picture], info).one(0)) == ["pixels"]

    @pytest.mark.parametrize(("asked", "size"), [(None, (32, 40)), ((24, 16), (24, 16))])
    def test_of_a_model_of_any_size(self, picture, asked, size):
        wanted = tensor_from_image(open_image(picture), size, Recipe())
        assert (array(picture_inputs([picture], FREE, asked)) == wanted).all()


def whole(picture, info, asked=None):
    """What a model is given of a picture for which it is to answer."""
    [(arrays, _)] = picture_windows([picture], info, asked, Limits())
    return arrays["images"]


class TestOwnSize:
    """A file of any size takes each picture as it is, but for the rest that patches do not cover."""

    @pytest.mark.parametrize(
        ("height", "width", "size"),
        [(40, 56, (40, 56)), (43, 61, (40, 64)), (5, 7, (16, 16)), (400, 400, (64, 400)), (1, 1000, (16, 1000))],
    )
    def test_is_rounded_to_the_nearest(self, height, width, size):
        image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))
        found = whole(image, FREE)
        assert found.shape == (3, *size)
        wanted = next(tensors_from_image(image, size, Recipe(), Placement((height, width), size)))
        assert (found == wanted).all()

    def test_of_another_size_is_what_is_asked_for(self, picture):
        found = whole(picture, FREE, (24, 16))
        assert (found == tensor_from_image(open_image(picture), (24, 16), Recipe())).all()

    def test_does_not_matter_to_a_file_of_one_size(self, picture):
        found = whole(picture, FIXED)
        assert (found == array(picture_inputs([picture], FIXED))).all()

    def test_of_a_file_that_leaves_one_side_open(self, picture):
        sizes = {"width": SizeRange(16, None, 8)}
        info = dataclasses.replace(FREE, inputs=(TensorSpec("images", ("batch", 3, 32, "width")),), sizes=sizes)
        assert whole(picture, info).shape == (3, 32, 64)


def sliding(info, **fields):
    """The model as one that segments windows of 32x32, or pictures of any size."""
    return dataclasses.replace(
        info,
        task="segment",
        inputs=(TensorSpec("images", ("batch", 3, 32, 32)),) if info is FIXED else info.inputs,
        recipe=Recipe(1.0, "bilinear", fit="slide"),
        head={"classes": 3},
        **fields,
    )


def padding(info, **fields):
    """The model as one that takes whole pictures with a margin."""
    return dataclasses.replace(info, task="pyramid", recipe=Recipe(1.0, "bilinear", fit="pad"), **fields)


def placements(info, size, asked=None):
    """How a picture of a size lies in its windows, for each of them, and the shapes of these."""
    picture = Image.new("RGB", size[::-1])
    found = list(picture_windows([picture], info, asked, Limits()))
    return [placement for _, placement in found], {arrays["images"].shape for arrays, _ in found}


class TestWindows:
    def test_one_for_each_start_all_of_one_placement(self):
        found, shapes = placements(sliding(FIXED), (64, 96))
        assert found == [Placement((64, 96), (32, 48), ((0, 0), (0, 16)))] * 2
        assert shapes == {(3, 32, 32)}

    def test_of_a_picture_in_the_size_that_is_asked_for(self):
        found, shapes = placements(sliding(FIXED), (64, 96), (64, 90))
        assert (found[0].resized, len(found), shapes) == ((64, 90), 12, {(3, 32, 32)})

    @pytest.mark.parametrize("asked", [(31, 64), (64, 31), (0, 0), (-5, 64)], ids=str)
    def test_of_a_size_below_a_window(self, asked):
        with pytest.raises(InputError, match=r"the file looks at pictures through windows of 32; give that at least"):
            placements(sliding(FIXED), (64, 96), asked)

    def test_are_told_as_they_are_done(self):
        told = []
        pictures = [Image.new("RGB", (96, 64)), Image.new("RGB", (40, 40))]
        list(picture_windows(pictures, sliding(FIXED), None, Limits(), None, lambda *step: told.append(step)))
        assert told == [("Windows", 0, 2), ("Windows", 1, 2), ("Windows", 2, 2), ("Windows", 2, 2)]

    def test_of_pictures_that_cannot_be_read_are_none(self):
        errors = {}
        pictures = ["none.png", Image.new("RGB", (40, 40)), b"no picture"]
        found = list(picture_windows(pictures, sliding(FIXED), None, Limits(), errors))
        assert (len(found), list(errors)) == (1, [0, 2])
        assert "none.png" in str(errors[0])

    def test_is_the_one_in_the_middle_if_sessions_are_compared(self, picture):
        wanted = tensor_from_image(open_image(picture), (32, 32), Recipe(1.0, "bilinear"))
        assert (array(picture_inputs([picture], sliding(FIXED))) == wanted).all()

    def test_a_task_that_does_not_merge_them_has_one(self):
        found, _ = placements(dataclasses.replace(sliding(FIXED), task="features"), (64, 96))
        assert found == [Placement((64, 96), (32, 48), ((0, 8),))]


class TestOpenSize:
    """A file of any size takes each picture whole, about as large as the weights were trained with."""

    @pytest.mark.parametrize(
        ("picture", "resized", "size"),
        [
            ((64, 96), (32, 48), (32, 48)),
            ((100, 140), (32, 48), (32, 48)),  # 45
            ((2, 2), (32, 32), (32, 32)),
            ((90, 10), (64, 7), (64, 16)),  # 64 at most; a margin for what is less than the least
            ((10, 900), (1, 128), (16, 128)),
        ],
        ids=str,
    )
    def test_of_a_recipe_that_slides(self, picture, resized, size):
        info = sliding(FREE, sizes={"height": SizeRange(16, 64, 8, 32), "width": SizeRange(16, None, 8, 32)})
        assert placements(info, picture) == ([Placement(picture, resized)], {(3, *size)})

    @pytest.mark.parametrize(
        ("picture", "resized", "size"),
        [
            ((64, 96), (27, 40), (32, 40)),
            ((96, 64), (40, 27), (40, 32)),
            ((2, 2), (40, 40), (40, 40)),
            ((1, 900), (1, 40), (16, 40)),
        ],
        ids=str,
    )
    def test_of_a_recipe_that_pads(self, picture, resized, size):
        info = padding(FREE, sizes={"height": SizeRange(16, 64, 8, 40), "width": SizeRange(16, None, 8, 40)})
        assert placements(info, picture) == ([Placement(picture, resized)], {(3, *size)})

    @pytest.mark.parametrize("info", [sliding(FREE), padding(FREE)], ids=["slide", "pad"])
    def test_is_the_one_that_is_asked_for(self, info):
        found, shapes = placements(info, (40, 50), (64, 72))
        assert (len(found), shapes) == (1, {(3, 64, 72)})

    @pytest.mark.parametrize("fit", [sliding, padding])
    def test_without_a_usual_one_is_the_pictures(self, fit):
        info = fit(FREE, sizes={"height": SizeRange(16, None, 8), "width": SizeRange(16, None, 8)})
        assert placements(info, (40, 56)) == ([Placement((40, 56), (40, 56))], {(3, 40, 56)})

    @pytest.mark.parametrize("fit", [sliding, padding])
    @pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (3, 5)], ids=str)
    def test_pictures_of_any_proportions_have_one(self, fit, size):
        info = fit(FREE, sizes={"height": SizeRange(16, 64, 8, 32), "width": SizeRange(16, 64, 8, 32)})
        found, [(_, height, width)] = placements(info, size)
        assert all(side in range(16, 65, 8) for side in (height, width))
        assert (found[0].resized[0] <= height, found[0].resized[1] <= width) == (True, True)


class TestBatches:
    def test_have_no_more_values_than_they_may(self):
        rows = [({"images": np.zeros((3, 4))}, number) for number in range(5)]
        for values, sizes in ((11, [1] * 5), (24, [2, 2, 1]), (47, [3, 2]), (1000, [4, 1])):
            found = [numbers for _, numbers in stacked(rows, 4, values)]
            assert [len(numbers) for numbers in found] == sizes
            assert [number for numbers in found for number in numbers] == [0, 1, 2, 3, 4]

    def test_neighbours_of_one_shape_run_together(self):
        sizes = [(16, 16), (16, 16), (16, 24), (16, 16), (16, 16), (16, 16)]
        images = [Image.new("RGB", size) for size in sizes]
        windows = picture_windows(images, FREE, None, Limits())
        batches = [batch["images"] for batch, _ in stacked(windows, 2)]
        assert [batch.shape for batch in batches] == [
            (2, 3, 16, 16),
            (1, 3, 24, 16),
            (2, 3, 16, 16),
            (1, 3, 16, 16),
        ]

    def test_nothing_is_no_batch(self):
        assert list(random_inputs(FIXED, 0, 0).batches(4)) == []
        assert random_inputs(FIXED, 0, 0).batch_count(4) == 0


class TestSpread:
    def numbered(self, count, classes=True):
        return Inputs(
            "numbers",
            [str(n) for n in range(count)],
            lambda number: {"x": np.array(number)},
            lambda number: b"%d" % number,
            np.arange(count) if classes else None,
        )

    @pytest.mark.parametrize(
        ("count", "wanted", "chosen"),
        [(9, 3, [0, 4, 8]), (9, 1, [0]), (5, 5, [0, 1, 2, 3, 4]), (5, 99, [0, 1, 2, 3, 4]), (10, 4, [0, 3, 6, 9])],
    )
    def test_is_even(self, count, wanted, chosen):
        spread = self.numbered(count).spread(wanted)
        assert spread.names == [str(n) for n in chosen]
        assert [int(spread.one(i)["x"]) for i in range(len(spread))] == chosen
        assert [int(spread.png(i)) for i in range(len(spread))] == chosen
        assert spread.classes.tolist() == chosen

    def test_without_classes(self):
        assert self.numbered(4, classes=False).spread(2).classes is None

    def test_of_a_spread(self):
        assert self.numbered(9).spread(3).spread(2).names == ["0", "8"]


class TestFolders:
    @pytest.fixture
    def by_class(self, tmp_path):
        for name in ("cat/2.png", "cat/1.JPG", "ant/1.webp", "dog/notes.txt"):
            path = tmp_path / "pictures" / name
            path.parent.mkdir(exist_ok=True, parents=True)
            path.touch()
        return tmp_path / "pictures"

    def test_pictures_of_a_folder_are_sorted(self, by_class):
        inputs = folder_inputs(by_class / "cat", FIXED)
        assert inputs.names == [str(by_class / "cat" / name) for name in ("1.JPG", "2.png")]
        assert inputs.description == f"2 pictures of {by_class / 'cat'}"

    def test_a_folder_itself_has_no_classes(self, by_class):
        assert folder_inputs(by_class / "cat", FIXED).classes is None

    def test_sub_folders_with_pictures_are_classes(self, by_class):
        inputs = folder_inputs(str(by_class), FIXED)
        assert [name.removeprefix(str(by_class)) for name in inputs.names] == [
            "/ant/1.webp",
            "/cat/1.JPG",
            "/cat/2.png",
        ]
        assert inputs.classes.tolist() == [0, 2, 2]

    def test_without_labels_the_sorted_sub_folders_are_the_classes(self, by_class):
        outputs = (TensorSpec("logits", ("batch", 2)),)
        info = dataclasses.replace(FIXED, labels=(), outputs=outputs)
        assert folder_inputs(by_class, info).classes.tolist() == [0, 1, 1]

    def test_a_model_without_a_task_has_no_classes(self, by_class):
        assert folder_inputs(by_class, dataclasses.replace(FIXED, task="", labels=())).classes is None

    def test_features_have_any_classes(self, by_class):
        assert folder_inputs(by_class, dataclasses.replace(FIXED, task="features")).classes.tolist() == [0, 1, 1]

    def test_a_sub_folder_that_is_no_class(self, by_class):
        info = dataclasses.replace(FIXED, labels=("bee", "cat", "dog"))
        with pytest.raises(ImageError, match=r"\(bee, cat, dog \.\.\.\), found 'ant', which is none of them"):
            folder_inputs(by_class, info)

    @pytest.mark.parametrize("stray", ["cover.png", "cat/thumbnails/1.png", "none/deep/1.png"])
    def test_pictures_at_different_depths(self, by_class, stray):
        """Which of them are meant is not guessed."""
        path = by_class / stray
        path.parent.mkdir(exist_ok=True, parents=True)
        path.touch()
        with pytest.raises(ImageError, match=f"found some at different depths: .*{stray}.* Move the strays elsewhere"):
            folder_inputs(by_class, FIXED)

    def test_pictures_that_are_too_deep(self, by_class):
        with pytest.raises(ImageError, match=r"found them deeper, as pictures/ant/1\.webp\. Give .*/pictures instead"):
            folder_inputs(by_class.parent, FIXED)

    @pytest.mark.parametrize(
        "name", ["._1.png", ".DS_Store", "Thumbs.db", "desktop.ini", "cat/._2.png", ".ipynb_checkpoints/1.png"]
    )
    def test_what_systems_leave_beside_pictures_is_passed_over(self, by_class, name):
        (by_class / name).parent.mkdir(exist_ok=True)
        (by_class / name).write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", message=r"1 sub-folder of .* without pictures, passed over: dog\.")
            assert len(folder_inputs(by_class, FIXED)) == 3

    def test_sub_folders_without_pictures_are_told(self, by_class):
        (by_class / "bee").mkdir()
        with pytest.warns(VimdeployWarning, match=rf"2 sub-folders of {by_class} without pictures.*: bee, dog\."):
            assert folder_inputs(by_class, FIXED).classes.tolist() == [0, 2, 2]

    def test_a_folder_that_is_called_as_a_picture(self, by_class):
        (by_class / "cat" / "3.png").mkdir()
        assert len(folder_inputs(by_class / "cat", FIXED)) == 2

    def test_a_bad_picture_is_named_when_its_turn_comes(self, by_class):
        with pytest.raises(ImageError, match=r"The picture .*/ant/1\.webp is not a picture"):
            list(folder_inputs(by_class, FIXED).batches(8))

    @pytest.mark.parametrize("channels", [3, 12])
    def test_arrays_are_pictures_of_a_model_of_many_channels(self, tmp_path, channels):
        np.save(tmp_path / "many.npy", np.zeros((4, 4, 12), np.uint8))
        Image.new("RGB", (4, 4)).save(tmp_path / "rgb.png")
        recipe = Recipe(mean=(0,) * channels, std=(1,) * channels)
        spec = TensorSpec("images", ("batch", channels, 16, 24))
        inputs = folder_inputs(tmp_path, dataclasses.replace(FIXED, inputs=(spec,), recipe=recipe))
        assert [Path(name).name for name in inputs.names] == (["rgb.png"] if channels == 3 else ["many.npy", "rgb.png"])
        assert array(inputs).shape == (channels, 16, 24)

    @pytest.mark.parametrize("name", ["none", "file", "x" * 300, "x\0"], ids=["none", "file", "long", "null"])
    def test_no_folder(self, tmp_path, name):
        (tmp_path / "file").touch()
        with pytest.raises(ImageError, match=r"Wanted a folder of pictures, found no folder|cannot be read: "):
            folder_inputs(tmp_path / name, FIXED)

    def test_a_folder_that_is_not_to_be_read(self, by_class, monkeypatch):
        def denied(path):
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(Path, "iterdir", denied)
        with pytest.raises(ImageError, match=r"^The folder .*/pictures cannot be read: Permission denied\.$"):
            folder_inputs(by_class, FIXED)

    def test_a_folder_without_pictures(self, by_class):
        with pytest.raises(ImageError, match="holds no pictures"):
            folder_inputs(by_class / "dog", FIXED)

    def test_pictures_have_the_size_that_is_asked_for(self, picture):
        assert array(folder_inputs(picture.parent, FREE, image_size=(24, 16))).shape == (3, 24, 16)

    def test_pictures_have_the_trained_size_if_nobody_asks(self, picture):
        assert array(folder_inputs(picture.parent, FREE)).shape == (3, 32, 40)


class TestTables:
    """A CSV file with the class of each picture."""

    @pytest.fixture
    def table(self, tmp_path, picture):
        def write(text):
            (tmp_path / "classes.csv").write_text(text)
            return tmp_path / "classes.csv"

        return write

    def test_pictures_are_in_its_order(self, table, picture):
        inputs = folder_inputs(picture.parent, FIXED, table("class,file\ncat,picture.png\nant,picture.png\n"))
        assert inputs.names == [str(picture)] * 2
        assert inputs.classes.tolist() == [2, 0]

    def test_a_class_that_the_model_does_not_have(self, table, picture):
        with pytest.raises(ImageError, match="'wasp', which is none of them"):
            folder_inputs(picture.parent, FIXED, table("file,class\npicture.png,wasp\n"))

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("file,label\npicture.png,cat\n", "columns file and class in .*, found file, label"),
            ("", "found no row"),
            ("file,class\n", "found no row"),
            ("file;class\npicture.png;cat\n", "columns file and class in .*, found file;class"),
            ("file,class,class\npicture.png,cat,ant\n", "columns file and class in .*, found file, class, class"),
            ("file,class\npicture.png\n", "found an empty cell in line 2"),
            ("file,class\npicture.png,cat\n,cat\n", "found an empty cell in line 3"),
            ("file,class\npicture.png, \n", "found an empty cell in line 2"),
            ("file,class\na,b.png,cat\n", "Line 2 of .* has more cells than there are columns"),
            ("file,class\nnone.png,cat\n", r"Line 2 of .* lists none\.png, and there is no file"),
            ("file,class\n../picture.png,cat\n", r"Line 2 of .* lists \.\./picture\.png, which is not in the folder"),
            ("file,class\nsub/../../x.png,cat\n", r"Line 2 of .* which is not in the folder"),
            ("file,class\n/etc/hostname,cat\n", r"Line 2 of .* lists /etc/hostname, which is not in the folder"),
            ("file,class\n..\\\\picture.png,cat\n", r"Line 2 of .* which is not in the folder"),
            (f"file,class\n{'x' * 300}.png,cat\n", "Line 2 of .*, which cannot be read: File name too long"),
            (f"file,class\n{'x' * 200_000},cat\n", "cannot be read: field larger than field limit"),
        ],
    )
    def test_a_wrong_table(self, table, picture, text, complaint):
        with pytest.raises(ImageError, match=complaint):
            folder_inputs(picture.parent, FIXED, table(text))

    @pytest.mark.parametrize(
        "text",
        [
            "\ufefffile,class\npicture.png,cat\n",
            "file,class\r\npicture.png,cat\r\n",
            " File , CLASS \n picture.png , cat \n",
            "file,class,note\npicture.png,cat,\n,,\n\n",
            '"file","class"\n"picture.png","cat"',
            "file,class\n.\\picture.png,cat\n",
        ],
        ids=["mark", "lines", "spaces", "empty rows", "quotes", "Windows"],
    )
    def test_as_other_programs_write_it(self, tmp_path, picture, text):
        (tmp_path / "classes.csv").write_bytes(text.encode())
        inputs = folder_inputs(picture.parent, FIXED, tmp_path / "classes.csv")
        assert (len(inputs), inputs.classes.tolist()) == (1, [2])
        assert array(inputs).shape == (3, 16, 24)

    def test_a_whole_path_in_the_folder(self, table, picture):
        assert len(folder_inputs(picture.parent, FIXED, table(f"file,class\n{picture},cat\n"))) == 1

    @pytest.mark.parametrize("folder", [".", "../pictures"])
    def test_a_folder_is_where_it_is(self, tmp_path, picture, table, monkeypatch, folder):
        (tmp_path / "pictures").mkdir()
        monkeypatch.chdir(tmp_path / "pictures")
        picture.rename(tmp_path / "pictures" / "picture.png")
        assert len(folder_inputs(folder, FIXED, table("file,class\npicture.png,cat\n"))) == 1
        with pytest.raises(ImageError, match="not in the folder"):
            folder_inputs(folder, FIXED, table("file,class\n../classes.csv,cat\n"))

    def test_a_missing_table(self, tmp_path):
        with pytest.raises(ImageError, match="cannot be read: No such file"):
            folder_inputs(tmp_path, FIXED, tmp_path / "none.csv")

    def test_a_table_that_is_no_text(self, tmp_path):
        (tmp_path / "classes.csv").write_bytes("file,class".encode("utf-16"))
        with pytest.raises(ImageError, match=r"The table .*classes\.csv cannot be read: it is not UTF-8 but UTF-16"):
            folder_inputs(tmp_path, FIXED, tmp_path / "classes.csv")

    def test_a_table_that_is_no_file(self, tmp_path):
        os.mkfifo(tmp_path / "classes.csv")
        with pytest.raises(ImageError, match=r"The table .* cannot be read: it is a device, a pipe or a socket"):
            folder_inputs(tmp_path, FIXED, tmp_path / "classes.csv")


class TestSomeInputs:
    def test_are_random_without_a_folder(self):
        assert some_inputs(FREE, None, 3, seed=5, image_size=(16, 16)).description == "3 random inputs (seed 5)"

    def test_are_the_pictures_of_a_folder(self, picture):
        inputs = some_inputs(FREE, picture.parent, 3, image_size=(16, 24))
        assert inputs.description == f"1 picture of {picture.parent}"
        assert array(inputs).shape == (3, 16, 24)

    def test_a_table_wants_a_folder(self, tmp_path):
        with pytest.raises(ConfigError, match="give their folder too, with --images DIR"):
            some_inputs(FIXED, None, 3, table=tmp_path / "classes.csv")


class TestRandomInputsOfAForeignModel:
    INFO = ModelInfo(
        "theirs",
        (
            TensorSpec("share", ("batch", 50)),
            TensorSpec("class_id", ("batch",), "int64"),
            TensorSpec("time", ("batch",)),
            TensorSpec("empty", ("batch", 40)),
        ),
        (TensorSpec("y", ("batch",)),),
    )
    EXAMPLES: ClassVar = {
        "share": np.linspace(0, 1, 100, dtype=np.float32).reshape(2, 50),
        "class_id": np.array([3, 5]),
        "time": np.float32([7, 9]),
        "empty": np.zeros((2, 40), np.float32),
    }

    def test_the_first_are_the_examples(self):
        inputs = random_inputs(self.INFO, 3, seed=0, examples=self.EXAMPLES)
        assert inputs.description == "2 example inputs and 1 random input (seed 0)"
        assert list(inputs.names) == ["example 0", "example 1", "input 2"]
        batch = next(inputs.batches(2))
        assert all((batch[name] == array).all() for name, array in self.EXAMPLES.items())

    def test_the_others_are_like_them(self):
        inputs = random_inputs(self.INFO, 5, seed=0, examples=self.EXAMPLES)
        one = inputs.one(3)
        assert (one["class_id"], one["time"], one["empty"].std() > 0.5) == (5, 9, True)
        assert 0.5 <= one["share"].min() < one["share"].max() <= 1  # as the second example, in other places
        assert one["share"].dtype == np.float32

    def test_without_examples_whole_numbers_are_zeros(self):
        assert random_inputs(self.INFO, 1, seed=0).one(0)["class_id"] == 0

    def test_fewer_than_there_are_examples(self):
        inputs = random_inputs(self.INFO, 1, seed=0, examples=self.EXAMPLES)
        assert (len(inputs), inputs.description) == (1, "1 example input")

    def test_without_a_batch_each_is_a_whole_call(self):
        info = ModelInfo("tokens", (TensorSpec("x", (6, 2)), TensorSpec("scale", ())), (TensorSpec("y", (6, 2)),))
        examples = {"x": np.arange(12, dtype=np.float32).reshape(6, 2), "scale": np.float32(2)}
        inputs = random_inputs(info, 3, seed=0, examples={name: np.asarray(each) for name, each in examples.items()})
        assert inputs.whole
        assert [batch["x"].shape for batch in inputs.batches(8)] == [(6, 2)] * 3
        assert (inputs.batch_count(8), inputs.call(0)["x"].shape, inputs.spread(2).whole) == (3, (6, 2), True)
        assert inputs.one(2)["scale"] == 2

    def test_one_in_a_batch(self):
        assert random_inputs(self.INFO, 1, seed=0).call(0, 3)["share"].shape == (3, 50)
