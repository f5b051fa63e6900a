import dataclasses
from dataclasses import dataclass

import pytest

from vimdeploy.errors import ConfigError
from vimdeploy.models.variant import Variant, check_image_size, check_whole_numbers
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
class Numbers:
    depth: "int" = 2
    part: "float" = 0.5
    name: "str" = ""


def test_fields_that_are_no_whole_numbers_may_be_anything():
    check_whole_numbers(Numbers(part=-0.5))


@pytest.mark.parametrize("value", [0, -1, 1.0, "2", None])
def test_whole_numbers_are_at_least_one(value):
    with pytest.raises(ConfigError, match=f"depth must be a whole number of at least 1, found {value}"):
        check_whole_numbers(Numbers(depth=value))


def test_what_nobody_said_of_a_variant():
    variant = Variant("mine", "vim", None)
    assert dataclasses.asdict(variant)["labels"] == ()
    assert (variant.recipe, variant.upstream_name, variant.checkpoint, variant.top1) == (Recipe(), "", "", None)
