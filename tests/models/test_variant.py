import dataclasses
from dataclasses import dataclass
from typing import Any

import pytest

from vimdeploy import imagenet
from vimdeploy.errors import ConfigError
from vimdeploy.models.deit.config import DeiTConfig
from vimdeploy.models.variant import Variant, check_image_size, checked_fields
from vimdeploy.models.vim.config import VimConfig
from vimdeploy.recipe import Recipe


@pytest.mark.parametrize(
    ("size", "patch", "stride"), [((16, 16), 16, 16), ((32, 48), 16, 16), ((40, 24), 16, 8), ((19, 16), 16, 1)]
)
def test_sizes_that_patches_cover(size, patch, stride):
    check_image_size(size, patch, stride)


@pytest.mark.parametrize(
    ("size", "patch", "stride", "message"),
    [
        ((40, 32), 16, 16, "Patches of 16 pixels every 16 do not divide an image height of 40; .* are 32 and 48"),
        ((32, 44), 16, 8, "Patches of 16 pixels every 8 do not divide an image width of 44; .* are 40 and 48"),
        ((0, 32), 16, 8, "image height of 0; the nearest that they divide are 16 and 24"),
        ((32, -16), 16, 16, "image width of -16; the nearest that they divide are 16 and 32"),
    ],
)
def test_sizes_that_they_do_not(size, patch, stride, message):
    with pytest.raises(ConfigError, match=message):
        check_image_size(size, patch, stride)


@dataclass(frozen=True)
class Fields:
    """One of each type that a description may have."""

    depth: "int" = 2
    part: "float" = 0.5
    is_wide: "bool" = False
    name: "str" = ""
    more: "dict[str, Any]" = dataclasses.field(default_factory=dict)
    image_size: "tuple[int, int]" = (8, 8)
    mean: "tuple[float, ...]" = ()
    labels: "tuple[str, ...]" = ()


class TestCheckedFields:
    @pytest.mark.parametrize(
        ("name", "given", "value"),
        [
            ("depth", 7, 7),
            ("part", -0.5, -0.5),
            ("part", 1, 1.0),
            ("is_wide", True, True),
            ("name", "a name", "a name"),
            ("more", {"any": ["thing"]}, {"any": ["thing"]}),
            ("image_size", [16, 32], (16, 32)),
            ("image_size", 16, (16, 16)),
            ("mean", [0, 0.5], (0.0, 0.5)),
            ("labels", ["a", "b"], ("a", "b")),
            ("labels", [0, 1, 20], ("0", "1", "20")),
        ],
    )
    def test_what_fits(self, name, given, value):
        found = checked_fields(Fields, {name: given})
        assert found == {name: value}
        assert type(found[name]) is type(value)

    @pytest.mark.parametrize(
        ("name", "given", "message"),
        [
            *(("depth", value, "depth must be a whole number from 1 to") for value in (0, -1, 1.0, True, None, [1])),
            ("depth", 10**10, "depth must be a whole number from 1 to 1000000000, found 10000000000"),
            ("depth", "2", "depth must be a whole number .* found '2', in quotes, which make it text"),
            ("part", "1e-5", "part must be a number, found '1e-5', in quotes, which make it text"),
            *(("part", value, "part must be a number, found") for value in (True, None, [0.5], {}, 10**400)),
            *(("part", float(value), f"part must be a number, found {value}") for value in ("nan", "inf")),
            *(("is_wide", value, "is_wide must be true or false, found") for value in (0, 1, "true", None)),
            *(("name", value, "name must be text of at most 1000 characters") for value in (5, {"a": 1}, "a" * 1001)),
            ("more", [], r"more must be an object, \{\.\.\.\}, found \[\]"),
            *(
                ("image_size", value, "image_size must be a whole number or two, height and width")
                for value in ([16.0, 16.0], [16], [1, 2, 3], "16", True, [True, 8], {"height": 8, "width": 8}, 10**10)
            ),
            *(("mean", value, "mean must be a list of numbers") for value in (0.5, "0.5", ["0.5"], [None])),
            *(
                ("labels", value, "labels must be a list of names")
                for value in ("abc", 5, {"0": "a"}, [1, 2.5], [None], [True], [["a"]], ["a" * 1001])
            ),
            ("dept", 2, r"no field 'dept'; did you mean depth\?"),
            ("zzzzzz", 2, "no field 'zzzzzz'; the fields are depth, part"),
        ],
    )
    def test_what_does_not(self, name, given, message):
        with pytest.raises(ConfigError, match=message) as caught:
            checked_fields(Fields, {name: given})
        assert len(str(caught.value)) < 300

    def test_long_names_and_values_are_shortened(self):
        for values in ({"x" * 10**6: 1}, {"depth": "2" * 10**6}, {"depth": [1] * 10**6}):
            with pytest.raises(ConfigError) as caught:
                checked_fields(Fields, values)
            assert len(str(caught.value)) < 300

    def test_a_field_without_a_default_is_wanted(self):
        with pytest.raises(ConfigError, match=r"The field dim is missing\."):
            checked_fields(DeiTConfig, {"heads": 2})


class TestCheckWeights:
    """Before memory is asked for."""

    @pytest.mark.parametrize(
        "numbers",
        [
            {"dim": 10**7},
            {"dim": 10**9},
            {"image_size": 800000},
            {"num_classes": 10**9},
            {"state_size": 10**8},
            {"in_channels": 10**7},
            {"image_size": 10**6, "patch_size": 10**6},
        ],
        ids=str,
    )
    def test_a_model_that_no_file_can_hold(self, numbers):
        with pytest.raises(
            ConfigError, match=r"A model of dim .* has .* weights; an ONNX file holds at most 5\.4e\+08"
        ):
            VimConfig(**numbers)

    @pytest.mark.parametrize("numbers", [{"depth": 1001, "dim": 1}, {"depth": 10**9}], ids=str)
    def test_a_model_that_is_too_deep(self, numbers):
        with pytest.raises(ConfigError, match="depth must be at most 1000, found"):
            VimConfig(**numbers)

    def test_a_deit(self):
        with pytest.raises(ConfigError, match="A model of dim 3000000"):
            DeiTConfig(3000000, 3)


def test_what_nobody_said_of_a_variant():
    variant = Variant("mine", "vim", None)
    assert dataclasses.asdict(variant)["labels"] == ()
    assert (variant.recipe, variant.upstream_name, variant.checkpoint, variant.top1) == (Recipe(), "", "", None)
    assert (variant.short_name, variant.class_names(1000)) == ("mine", ())


def test_a_model_that_was_trained_on_imagenet_has_its_classes():
    variant = Variant("vim_tiny_patch16_224", "vim", None, top1=76.1)
    assert variant.class_names(1000) == imagenet.names()
    assert variant.class_names(10) == ()
    assert dataclasses.replace(variant, labels=("cat", "dog")).class_names(2) == ("cat", "dog")
