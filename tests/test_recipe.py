import numpy as np
import pytest

from vimdeploy.errors import ConfigError
from vimdeploy.recipe import INTERPOLATIONS, OPENCV, Recipe


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"crop": 0.0}, "crop must be at least 0.01 and at most 1"),
        ({"crop": 1.5}, "crop must be at least 0.01 and at most 1"),
        ({"crop": 1e-300}, "crop must be at least 0.01 and at most 1"),
        ({"crop": float("nan")}, "crop wants numbers up to 1e\\+30, found nan"),
        ({"crop": "0.9"}, "crop wants numbers up to 1e\\+30, found '0.9'"),
        ({"crop": True}, "crop wants numbers up to 1e\\+30, found True"),
        ({"interpolation": ["bicubic"]}, "one of bicubic, bilinear, lanczos, nearest"),
        ({"mean": "123"}, "mean must be a list of numbers, one per channel, found '123'"),
        ({"mean": 0.5}, "mean must be a list of numbers, one per channel, found 0.5"),
        ({"mean": ["0.5"] * 3}, "mean wants numbers up to 1e\\+30, found '0.5'"),
        ({"mean": [10**400] * 3}, "mean wants numbers up to 1e\\+30, found 1000"),
        ({"std": [float("inf")] * 3}, "std wants numbers up to 1e\\+30, found inf"),
        ({"mean": (), "std": ()}, "as many values each, one per channel"),
        ({"fit": "squeeze"}, "fit must be one of crop, slide, pad, found 'squeeze'"),
        ({"fit": None}, "fit must be one of crop, slide, pad, found None"),
        ({"fit": ["pad"]}, r"fit must be one of crop, slide, pad, found \['pad'\]"),
        ({"interpolation": "cubic"}, "one of bicubic, bilinear, lanczos, nearest, opencv-bilinear, found 'cubic'"),
        ({"mean": (0.5,)}, "as many values each, one per channel"),
        ({"std": (0.2, 0.0, 0.2)}, "std above 0"),
    ],
)
def test_recipes_that_no_picture_can_follow(fields, message):
    with pytest.raises(ConfigError, match=message):
        Recipe(**fields)


def test_the_default_recipe_is_the_evaluation_of_the_released_weights():
    recipe = Recipe()
    assert (recipe.crop, recipe.interpolation, recipe.fit) == (0.875, "bicubic", "crop")
    assert (recipe.mean, recipe.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_lists_of_whole_numbers_are_as_good():
    """As JSON has them."""
    assert Recipe(mean=[0, 0, 0], std=[1, 1, 1]) == Recipe(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


@pytest.mark.parametrize("channels", [1, 2, 4, 12])
def test_any_number_of_channels(channels):
    assert len(Recipe(mean=np.zeros(channels), std=[1] * channels).mean) == channels


@pytest.mark.parametrize("interpolation", [name for name in INTERPOLATIONS if name != OPENCV])
def test_every_other_interpolation_is_pillows(interpolation):
    from PIL import Image

    assert Image.Resampling[Recipe(interpolation=interpolation).interpolation.upper()] is not None


@pytest.mark.parametrize(
    ("mean", "margin"), [((0.485, 0.456, 0.406), (124, 116, 104)), ((-0.1,), (0,)), ((1.5,), (255,))], ids=str
)
def test_the_colour_of_margins(mean, margin):
    assert Recipe(mean=mean, std=(1.0,) * len(mean)).margin == margin
