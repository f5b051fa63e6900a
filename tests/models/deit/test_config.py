import pytest

from vimdeploy.errors import ConfigError
from vimdeploy.models.deit.config import VARIANTS, DeiTConfig


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("deit_tiny_patch16_224", 5_717_416),
        ("deit_small_patch16_224", 22_050_664),
        ("deit_base_patch16_224", 86_567_656),
    ],
)
def test_parameters_are_those_of_the_released_models(name, parameters):
    assert VARIANTS[name].config.parameters == parameters


def test_the_grid_and_the_tokens_of_an_image_that_is_not_square():
    config = DeiTConfig(dim=24, heads=3, image_size=[32, 48])
    assert (config.image_size, config.grid, config.tokens, config.stride) == ((32, 48), (2, 3), 7, 16)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"image_size": (40, 32)}, "Patches of 16 pixels every 16 do not divide an image height of 40"),
        ({"image_size": (32, 40)}, "do not divide an image width of 40"),
        ({"image_size": (0, 32)}, "do not divide an image height of 0"),
        ({"heads": 0}, "heads must be a whole number from 1 to 1000000000, found 0"),
        ({"depth": 1.5}, "depth must be a whole number"),
        ({"heads": 5}, "dim must be a multiple of heads, found 24 and 5"),
    ],
)
def test_numbers_that_no_model_can_have(numbers, message):
    with pytest.raises(ConfigError, match=message):
        DeiTConfig(**{"dim": 24, "heads": 3} | numbers)


def test_replace_leaves_the_rest():
    assert DeiTConfig(24, 3).replace(depth=2) == DeiTConfig(24, 3, depth=2)
