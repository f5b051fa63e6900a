import pytest

from vimdeploy.errors import ConfigError
from vimdeploy.models.vim.config import VARIANTS, VimConfig

RELEASED = [
    # name, parameters, dim, E, dt_rank, stride, tokens, top-1
    ("vim_tiny_patch16_224", 7_148_008, 192, 384, 12, 16, 197, 76.1),
    ("vim_tiny_patch16_stride8_224", 7_250_344, 192, 384, 12, 8, 730, 78.3),
    ("vim_small_patch16_224", 25_796_584, 384, 768, 24, 16, 197, 80.5),
    ("vim_small_patch16_stride8_224", 26_001_256, 384, 768, 24, 8, 730, 81.6),
    ("vim_base_patch16_224", 97_598_440, 768, 1536, 48, 16, 197, 81.9),
]


def test_the_table_holds_the_released_variants():
    assert list(VARIANTS) == [row[0] for row in RELEASED]


@pytest.mark.parametrize("row", RELEASED, ids=lambda row: row[0])
def test_numbers_of_a_released_variant(row):
    variant = VARIANTS[row[0]]
    c = variant.config
    assert (c.parameters, c.dim, c.channels, c.dt_rank, c.stride, c.tokens, variant.top1) == row[1:]


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=lambda variant: variant.name)
def test_what_all_released_variants_share(variant):
    c = variant.config
    shared = (c.depth, c.state_size, c.conv_width, c.norm_eps, c.patch_size, c.class_token, c.direction_scale)
    assert shared == (24, 16, 4, 1e-5, 16, "middle", 0.5)
    assert (c.rotary, c.final_norm, c.block_feature) == (False, True, "residual")
    assert variant.architecture == "vim"
    assert variant.checkpoint.startswith("hf://hustvl/Vim-")


@pytest.mark.parametrize(("class_token", "tokens"), [("middle", 25), ("first", 25), ("none", 24)])
def test_the_class_token_beside_24_patches(class_token, tokens):
    assert VimConfig(image_size=(64, 96), class_token=class_token).tokens == tokens


def test_the_grid_of_an_image_that_is_not_square():
    assert VimConfig(image_size=(64, 96)).grid == (4, 6)


def test_the_grid_of_overlapping_patches():
    assert VimConfig(image_size=(32, 48), stride=8).grid == (3, 5)


def test_the_rank_of_the_step_size_is_a_sixteenth_rounded_up():
    assert VimConfig(dim=40).dt_rank == 3


def test_a_list_for_the_image_size_is_as_good():
    """As JSON has it."""
    assert VimConfig(image_size=[64, 96]) == VimConfig(image_size=(64, 96))


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"image_size": (250, 224)}, "image height of 250; the nearest that they divide are 240 and 256"),
        ({"image_size": (224, 250)}, "image width of 250"),
        ({"image_size": (8, 224)}, "image height of 8; the nearest that they divide are 16 and 32"),
        ({"depth": 0}, "depth must be a whole number from 1 to 1000000000, found 0"),
        ({"dim": -64}, "dim must be a whole number from 1 to 1000000000, found -64"),
        ({"dim": 64.5}, "dim must be a whole number from 1 to 1000000000, found 64.5"),
        ({"stride": 32}, "stride must not pass patch_size 16, found 32"),
        ({"class_token": "last"}, "class_token must be one of middle, first, none, found 'last'"),
        ({"block_feature": "all"}, "block_feature must be one of residual, mixer, rotated, found 'all'"),
        ({"block_feature": "rotated"}, "block_feature rotated wants a rotary embedding"),
        ({"rotary": True}, "A rotary embedding wants a dim that is a multiple of 4 and no class token"),
        ({"rotary": True, "class_token": "none", "dim": 18}, "A rotary embedding wants a dim that is a multiple of 4"),
    ],
)
def test_numbers_that_no_model_can_have(numbers, message):
    with pytest.raises(ConfigError, match=message):
        VimConfig(**numbers)


def test_replace_leaves_the_rest():
    assert VimConfig(dim=64).replace(depth=3) == VimConfig(dim=64, depth=3)
