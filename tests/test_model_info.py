import dataclasses
import json

import pytest

from vimdeploy.errors import ConfigError, InputError, ModelFileError
from vimdeploy.model_info import FromCheckpoint, FromSeed, ModelInfo, SizeRange, TensorSpec
from vimdeploy.recipe import Recipe

FULL = ModelInfo(
    name="mine",
    inputs=(TensorSpec("pixels", ("batch", 1, "height", "width")),),
    outputs=(TensorSpec("map", ("batch", 8, "rows", "columns")), TensorSpec("pooled", ("batch", 8), "float64")),
    task="features",
    sizes={"height": SizeRange(32, 512, 16, 224), "width": SizeRange(16)},
    architecture="vim",
    config={"image_size": [32, 48], "dim": 8, "class_token": "first", "norm_eps": 1e-6, "rotary": False},
    head={"neck": "simple", "channels": 256},
    recipe=Recipe(crop=0.9, interpolation="bilinear", mean=(0.1,), std=(0.7,), fit="slide"),
    labels=("tench", "Käfer", "a, b"),
    precision="bf16",
    origin=FromCheckpoint("abc", ema=True),
    versions={"torch": "2.13.0"},
    kept_in_float32={"layers.1.mixer.out_proj.MatMul": "a reason, with „quotes“"},
)
"""No field has its default if another value is possible."""

FIXED = ModelInfo("fixed", (TensorSpec("images", ("batch", 3, 32, 48)),), (TensorSpec("logits", ("batch", 5)),))


def free(**sizes):
    """A model of free height and width."""
    return dataclasses.replace(FIXED, inputs=(TensorSpec("images", ("batch", 3, "height", "width")),), sizes=sizes)


class TestTensorSpec:
    def test_for_people(self):
        assert str(FULL.inputs[0]) == "pixels (batch, 1, height, width) of float32"


class TestSizeRange:
    @pytest.mark.parametrize(
        ("sizes", "allowed"),
        [
            (SizeRange(), [1, 2, 1000]),
            (SizeRange(32, None, 16), [32, 48, 1024]),
            (SizeRange(16, 40, 8), [16, 24, 40]),
            (SizeRange(5, 5), [5]),
        ],
        ids=str,
    )
    def test_allows_its_steps(self, sizes, allowed):
        assert all(sizes.allows(size) for size in allowed)

    @pytest.mark.parametrize(
        ("sizes", "refused"),
        [(SizeRange(), [0, -1]), (SizeRange(32, None, 16), [16, 33, 40]), (SizeRange(16, 40, 8), [8, 48, 20])],
        ids=str,
    )
    def test_and_nothing_else(self, sizes, refused):
        assert not any(sizes.allows(size) for size in refused)

    @pytest.mark.parametrize(
        ("size", "nearest"), [(1, 32), (32, 32), (39, 32), (41, 48), (100, 96), (131, 112), (9999, 112)]
    )
    def test_the_nearest_that_it_allows(self, size, nearest):
        sizes = SizeRange(32, 120, 16)
        assert sizes.nearest(size) == nearest
        assert sizes.allows(nearest)

    @pytest.mark.parametrize(
        ("size", "covering"), [(1, 32), (32, 32), (33, 48), (48, 48), (97, 112), (112, 112), (9999, 112)]
    )
    def test_the_smallest_that_covers(self, size, covering):
        assert SizeRange(32, 120, 16).covering(size) == covering

    @pytest.mark.parametrize(
        ("sizes", "text"),
        [
            (SizeRange(), "1 or more"),
            (SizeRange(32, 64), "32 to 64"),
            (SizeRange(32, 64, 16), "32 to 64 in steps of 16"),
            (SizeRange(32, None, 16), "32 or more in steps of 16"),
        ],
    )
    def test_for_people(self, sizes, text):
        assert str(sizes) == text

    @pytest.mark.parametrize("numbers", [(0,), (1, 0), (32, 16), (1, None, 0)], ids=str)
    def test_ranges_without_sizes(self, numbers):
        with pytest.raises(ConfigError, match="No size is from"):
            SizeRange(*numbers)


class TestOrigin:
    @pytest.mark.parametrize(
        ("origin", "text"),
        [
            (FromCheckpoint("abc"), "checkpoint"),
            (FromCheckpoint("abc", ema=True), "checkpoint model_ema"),
            (FromSeed(7), "random seed 7"),
        ],
    )
    def test_for_people(self, origin, text):
        assert str(origin) == text


class TestModelInfo:
    def test_wants_a_mean_per_channel(self):
        with pytest.raises(ConfigError, match="mean has 3 values, the model 1 channels"):
            dataclasses.replace(FULL, recipe=Recipe())

    def test_a_model_without_a_task_may_have_any_channels(self):
        assert dataclasses.replace(FULL, recipe=Recipe(), task="").channels == 1

    def test_wants_a_precision_that_there_is(self):
        with pytest.raises(ConfigError, match="precision must be one of fp32, fp16, bf16, int8, found 'fp8'"):
            dataclasses.replace(FULL, precision="fp8")

    @pytest.mark.parametrize(
        "inputs",
        [
            (),
            (TensorSpec("tokens", ("batch", 8), "int64"),),
            (TensorSpec("a", (1, 3, 8, 8)), TensorSpec("b", (1, 3, 8, 8))),
        ],
        ids=len,
    )
    def test_a_model_that_takes_no_pictures(self, inputs):
        info = ModelInfo("other", inputs, ())
        assert info.picture is None
        assert info.size_text == ", ".join(map(str, inputs))
        with pytest.raises(InputError, match=r"^other takes .*: no pictures, so there is no image size to choose"):
            info.fixed_image_size()

    @pytest.mark.parametrize(
        ("info", "text"),
        [
            (FIXED, "32x48"),
            (FULL, "dynamic (32 to 512 in steps of 16 x 16 or more)"),
            (
                free(height=SizeRange(32, None, 16), width=SizeRange(32, None, 16, 224)),
                "dynamic (32 or more in steps of 16)",
            ),
            (free(), "dynamic (1 or more)"),
        ],
    )
    def test_its_size_for_people(self, info, text):
        assert info.size_text == text


class TestBytes:
    def test_have_their_channels_last(self):
        info = FULL.with_bytes()
        assert info.inputs == (TensorSpec("pixels", ("batch", "height", "width", 1), "uint8"),)
        assert (info.takes_bytes, info.channels, info.image_size) == (True, 1, ("height", "width"))
        assert (info.size_text, info.fixed_image_size((48, 32))) == (FULL.size_text, (48, 32))
        assert info.sides_of((2, 48, 32, 1)) == (48, 32)
        assert ModelInfo.from_metadata(info.to_metadata()) == info

    def test_and_back(self):
        assert FULL.with_bytes().with_floats() == FULL
        assert FULL.with_floats() == FULL
        assert not FULL.takes_bytes

    def test_inputs_beside_the_picture_stay(self):
        beside = TensorSpec("sizes", ("batch", 2), "int64")
        info = dataclasses.replace(FULL, inputs=(*FULL.inputs, beside)).with_bytes()
        assert info.inputs[1:] == (beside,)

    def test_twice(self):
        with pytest.raises(ConfigError, match="mine takes pictures of uint8 already"):
            FULL.with_bytes().with_bytes()

    def test_of_a_model_without_a_recipe(self):
        for info in (FIXED, dataclasses.replace(FULL, inputs=(TensorSpec("tokens", ("batch", 8)),))):
            with pytest.raises(ConfigError, match="does not say how a picture becomes its input"):
                info.with_bytes()

    def test_another_program_may_mean_anything_by_them(self):
        info = dataclasses.replace(FIXED, inputs=(TensorSpec("images", ("batch", 3, 32, 48), "uint8"),))
        assert (info.takes_bytes, info.channels, info.image_size) == (False, 3, (32, 48))

    def test_channels_last_of_another_program(self):
        info = dataclasses.replace(FIXED, inputs=(TensorSpec("images", ("batch", 32, 48, 3)),))
        assert (info.takes_bytes, info.channels, info.image_size) == (False, 3, (32, 48))


class TestFixedImageSize:
    @pytest.mark.parametrize("asked", [None, (32, 48)])
    def test_of_a_file_of_one_size(self, asked):
        assert FIXED.fixed_image_size(asked) == (32, 48)

    @pytest.mark.parametrize(
        ("asked", "message"),
        [
            ((48, 48), "Wanted an image height of 48, the file takes 32 alone; export it again with that --image-size"),
            ((32, 32), "Wanted an image width of 32, the file takes 48 alone"),
        ],
    )
    def test_another_one(self, asked, message):
        with pytest.raises(InputError, match=message):
            FIXED.fixed_image_size(asked)

    def test_of_any_size_is_the_trained_one(self):
        assert free(height=SizeRange(32, None, 16, 224), width=SizeRange(32, typical=256)).fixed_image_size() == (
            224,
            256,
        )

    def test_of_any_size_is_what_is_asked_for(self):
        assert FULL.fixed_image_size((64, 17)) == (64, 17)

    @pytest.mark.parametrize(
        ("asked", "message"),
        [
            ((40, 16), "image height of 40, the file takes 32 to 512 in steps of 16; the nearest is 32"),
            ((1024, 16), "image height of 1024, .* the nearest is 512"),
            ((64, 8), "image width of 8, the file takes 16 or more; the nearest is 16"),
        ],
    )
    def test_a_size_that_is_none(self, asked, message):
        with pytest.raises(InputError, match=message):
            FULL.fixed_image_size(asked)

    def test_nobody_says_which(self):
        with pytest.raises(InputError, match="takes pictures of any height; say which with --image-size"):
            free().fixed_image_size()


class TestCheckShapes:
    def check(self, info, **arrays):
        info.check_shapes({name: shape for name, (shape, _) in arrays.items()}, {n: t for n, (_, t) in arrays.items()})

    @pytest.mark.parametrize("batch", [1, 7])
    def test_what_the_model_takes(self, batch):
        self.check(FIXED, images=((batch, 3, 32, 48), "float32"))

    @pytest.mark.parametrize(
        ("shape", "type_"),
        [
            ((3, 32, 48), "float32"),
            ((1, 3, 48, 32), "float32"),
            ((0, 3, 32, 48), "float32"),
            ((1, 3, 32, 48), "float64"),
            ((1, 3, 32, 48), "uint8"),
        ],
        ids=str,
    )
    def test_other_shapes_and_types(self, shape, type_):
        with pytest.raises(InputError) as caught:
            self.check(FIXED, images=(shape, type_))
        assert str(caught.value) == (
            f"Wanted images (batch, 3, 32, 48) of float32, every size at least 1; found {shape} of {type_}."
        )

    def test_other_names(self):
        with pytest.raises(InputError, match=r"Wanted the inputs images \(batch, 3, 32, 48\) of float32; found x\.$"):
            self.check(FIXED, x=((1, 3, 32, 48), "float32"))

    def test_nothing(self):
        with pytest.raises(InputError, match=r"found none\.$"):
            self.check(FIXED)

    @pytest.mark.parametrize(("size", "nearest"), [(40, 32), (16, 32), (528, 512)])
    def test_a_free_size_out_of_its_range(self, size, nearest):
        message = rf"Wanted a height of 32 to 512 in steps of 16; found {size} \(the nearest is {nearest}\)"
        with pytest.raises(InputError, match=message):
            self.check(FULL, pixels=((1, 1, size, 16), "float32"))

    def test_a_word_is_one_size_in_all_inputs(self):
        two = ModelInfo("two", (TensorSpec("a", ("batch", 4)), TensorSpec("b", ("batch", "length"))), ())
        self.check(two, a=((2, 4), "float32"), b=((2, 9), "float32"))
        with pytest.raises(InputError, match=r"Wanted b \(batch, length\) of float32"):
            self.check(two, a=((2, 4), "float32"), b=((3, 9), "float32"))

    def test_a_word_is_one_size_within_an_input(self):
        square = ModelInfo("square", (TensorSpec("a", ("side", "side")),), ())
        self.check(square, a=((2, 2), "float32"))
        with pytest.raises(InputError):
            self.check(square, a=((2, 3), "float32"))


class TestMetadata:
    def test_comes_back_whole(self):
        assert ModelInfo.from_metadata(FULL.to_metadata()) == FULL

    @pytest.mark.parametrize("origin", [None, FromSeed(-1), FromCheckpoint()])
    def test_defaults_come_back_too(self, origin):
        info = dataclasses.replace(FIXED, origin=origin)
        assert ModelInfo.from_metadata(info.to_metadata()) == info

    def test_is_text_under_our_prefix(self):
        assert all(
            name.startswith("vimdeploy.") and isinstance(value, str) for name, value in FULL.to_metadata().items()
        )

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("format", "2"),
            ("name", "mine"),
            ("inputs", '[{"name": "pixels", "dims": ["batch", 1, "height", "width"], "type": "float32"}]'),
            ("labels", '["tench", "Käfer", "a, b"]'),
            ("precision", "bf16"),
            ("task", "features"),
            ("architecture", "vim"),
            ("operators_version", "1"),
            ("recipe", '{"crop": 0.9, "interpolation": "bilinear", "mean": [0.1], "std": [0.7], "fit": "slide"}'),
            ("origin", '{"type": "FromCheckpoint", "sha256": "abc", "ema": true}'),
        ],
    )
    def test_can_be_read_by_other_programs(self, name, value):
        assert FULL.to_metadata()[f"vimdeploy.{name}"] == value

    def test_of_other_programs_is_passed_over(self):
        assert ModelInfo.from_metadata(FULL.to_metadata() | {"producer.note": "x"}) == FULL

    def test_is_wanted(self):
        with pytest.raises(ModelFileError, match=r"no vimdeploy\.\* metadata, so vimdeploy did not make it"):
            ModelInfo.from_metadata({"producer.note": "x"})

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [("format", "3", "has format 3"), ("operators_version", "2", "operators of version 2")],
    )
    def test_of_a_newer_vimdeploy(self, name, value, message):
        with pytest.raises(ModelFileError, match=f"{message}.*reads the formats 1, 2 and .*update vimdeploy"):
            ModelInfo.from_metadata(FULL.to_metadata() | {f"vimdeploy.{name}": value})

    @pytest.mark.parametrize(
        "name", [f.name for f in dataclasses.fields(ModelInfo) if f.name not in ("operators_version", "head", "form")]
    )
    def test_that_lacks_an_entry(self, name):
        metadata = FULL.to_metadata()
        del metadata[f"vimdeploy.{name}"]
        with pytest.raises(ModelFileError, match=f"metadata is damaged .'{name}'.; export it again"):
            ModelInfo.from_metadata(metadata)

    def test_of_a_file_from_before_heads_had_numbers(self):
        metadata = FULL.to_metadata()
        del metadata["vimdeploy.head"]
        assert ModelInfo.from_metadata(metadata) == dataclasses.replace(FULL, head={})

    @pytest.mark.parametrize("name", ["format", "operators_version"])
    def test_that_lacks_its_version(self, name):
        metadata = FULL.to_metadata()
        del metadata[f"vimdeploy.{name}"]
        with pytest.raises(ModelFileError, match="None"):
            ModelInfo.from_metadata(metadata)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("inputs", "{"),
            ("inputs", "5"),
            ("inputs", "[5]"),
            ("outputs", '[{"name": "logits"}]'),
            ("sizes", "[1]"),
            ("sizes", '{"height": {"least": 0}}'),
            ("sizes", '{"height": {"least": "a"}}'),
            ("sizes", '{"height": {"no_such_field": 1}}'),
            ("config", "{"),
            ("config", "[1]"),
            ("recipe", '{"crop": "all"}'),
            ("recipe", '{"crop": 0}'),
            ("recipe", '{"mean": 5}'),
            ("recipe", '{"mean": [0.5, 0.5, 0.5], "std": [1, 1, 1]}'),
            ("labels", "5"),
            ("precision", "fp8"),
            ("origin", "[]x"),
            ("origin", '{"type": "FromNowhere"}'),
            ("origin", '{"sha256": "abc"}'),
            ("kept_in_float32", "[1]"),
            ("versions", "{"),
        ],
    )
    def test_that_is_damaged(self, name, value):
        with pytest.raises(ModelFileError, match="metadata is damaged"):
            ModelInfo.from_metadata(FULL.to_metadata() | {f"vimdeploy.{name}": value})


CONFIG_OF_FORMAT_1 = {
    "image_size": [32, 48],
    "patch_size": 8,
    "stride": 8,
    "in_channels": 1,
    "dim": 40,
    "depth": 2,
    "num_classes": 3,
    "class_token": "first",
    "direction_scale": 0.5,
    "state_size": 16,
    "conv_width": 4,
    "expand": 2,
    "dt_rank": 3,
    "norm_eps": 1e-6,
}
FORMAT_1 = {
    "format": "1",
    "image_size": "32x48",
    "variant": "mine",
    "config": json.dumps(CONFIG_OF_FORMAT_1),
    "labels": '["tench", "Käfer", "a, b"]',
    "task": "classification",
    "precision": "fp16",
    "trained_image_size": "[64, 64]",
    "weights": "checkpoint model_ema",
    "checkpoint_sha256": "abc",
    "operators_version": "1",
    "versions": '{"torch": "2.13.0"}',
    "kept_in_float32": '{"head.Gemm": "a reason"}',
    "crop": "0.9",
    "interpolation": "bilinear",
    "mean": "[0.1]",
    "std": "[0.7]",
}
"""What the first release wrote, for a file of another image size than the trained one."""

OPTIONAL = ("format", "operators_version", "image_size", "task", "kept_in_float32")
"""The entries that say what it is, and those that are not needed."""


def read_format_1(**changes):
    entries = {name: value for name, value in (FORMAT_1 | changes).items() if value is not None}
    return ModelInfo.from_metadata({f"vimdeploy.{name}": value for name, value in entries.items()})


class TestFormat1:
    def test_is_read_whole(self):
        assert read_format_1() == ModelInfo(
            name="mine",
            inputs=(TensorSpec("images", ("batch", 1, 32, 48)),),
            outputs=(TensorSpec("logits", ("batch", 3)),),
            task="classification",
            architecture="vim",
            config=CONFIG_OF_FORMAT_1 | {"image_size": [64, 64]},
            recipe=Recipe(crop=0.9, interpolation="bilinear", mean=(0.1,), std=(0.7,)),
            labels=("tench", "Käfer", "a, b"),
            precision="fp16",
            origin=FromCheckpoint("abc", ema=True),
            versions={"torch": "2.13.0"},
            kept_in_float32={"head.Gemm": "a reason"},
        )

    def test_is_written_as_format_2(self):
        info = read_format_1()
        assert ModelInfo.from_metadata(info.to_metadata()) == info

    @pytest.mark.parametrize(
        ("weights", "sha256", "origin"),
        [
            ("checkpoint", "abc", FromCheckpoint("abc")),
            ("random seed 7", "", FromSeed(7)),
            ("random seed -1", "", FromSeed(-1)),
        ],
    )
    def test_where_the_weights_came_from(self, weights, sha256, origin):
        assert read_format_1(weights=weights, checkpoint_sha256=sha256).origin == origin

    def test_what_the_first_files_did_not_tell(self):
        assert read_format_1(kept_in_float32=None).kept_in_float32 == {}

    def test_of_later_operators(self):
        with pytest.raises(ModelFileError, match="operators of version 2"):
            read_format_1(operators_version="2")

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *((name, None) for name in FORMAT_1 if name not in OPTIONAL),
            ("config", "{"),
            ("config", '{"depth": 2}'),
            ("crop", "all"),
            ("crop", "0"),
            ("mean", "5"),
            ("mean", "[0.5, 0.5, 0.5]"),
            ("precision", "fp8"),
            ("weights", "found"),
            ("weights", "random seed x"),
            ("trained_image_size", "5"),
            ("kept_in_float32", "[1]"),
        ],
    )
    def test_that_is_damaged(self, name, value):
        with pytest.raises(ModelFileError, match="metadata is damaged"):
            read_format_1(**{name: value})
