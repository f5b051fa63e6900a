import json

import pytest

from vimdeploy.errors import ConfigError
from vimdeploy.models.config import VARIANTS, Recipe, VimConfig, labels_from_file, variant_by_name

RELEASED = [
    # name, parameters, dim, E, dt_rank, stride, tokens, class token at, top-1
    ("vim_tiny_patch16_224", 7_148_008, 192, 384, 12, 16, 197, 98, 76.1),
    ("vim_tiny_patch16_stride8_224", 7_250_344, 192, 384, 12, 8, 730, 364, 78.3),
    ("vim_small_patch16_224", 25_796_584, 384, 768, 24, 16, 197, 98, 80.5),
    ("vim_small_patch16_stride8_224", 26_001_256, 384, 768, 24, 8, 730, 364, 81.6),
    ("vim_base_patch16_224", 97_598_440, 768, 1536, 48, 16, 197, 98, 81.9),
]


def test_the_table_holds_the_released_variants():
    assert list(VARIANTS) == [row[0] for row in RELEASED]


@pytest.mark.parametrize("row", RELEASED, ids=lambda row: row[0])
def test_numbers_of_a_released_variant(row):
    variant = VARIANTS[row[0]]
    c = variant.config
    numbers = (c.parameters, c.dim, c.channels, c.dt_rank, c.stride, c.tokens, c.class_token_index, variant.top1)
    assert numbers == row[1:]


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=lambda variant: variant.name)
def test_what_all_released_variants_share(variant):
    c = variant.config
    shared = (c.depth, c.state_size, c.conv_width, c.norm_eps, c.patch_size, c.class_token, c.direction_scale)
    assert shared == (24, 16, 4, 1e-5, 16, "middle", 0.5)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=lambda variant: variant.name)
def test_the_upstream_name_is_an_alias(variant):
    assert variant_by_name(variant.upstream_name) is variant


def test_the_upstream_name_of_base_is_spelt_in_its_own_way():
    name = "vim_base_patch16_224_bimambav2_final_pool_mean_abs_pos_embed_with_middle_cls_token_div2"
    assert variant_by_name(name).name == "vim_base_patch16_224"


def test_an_unknown_variant_suggests_the_nearest():
    with pytest.raises(ConfigError, match=r"Did you mean vim_small_patch16_224\?"):
        variant_by_name("vim_smal_patch16")


def test_a_variant_like_none_gets_the_list_alone():
    with pytest.raises(ConfigError, match=r"There is no variant 'zzz'\. The variants are: vim_tiny_patch16_224, "):
        variant_by_name("zzz")


@pytest.mark.parametrize(
    ("class_token", "tokens", "index"),
    [("middle", 25, 12), ("first", 25, 0), ("none", 24, None)],
)
def test_the_class_token_among_24_patches(class_token, tokens, index):
    config = VimConfig(image_size=(64, 96), class_token=class_token)
    assert (config.tokens, config.class_token_index) == (tokens, index)


def test_the_grid_of_an_image_that_is_not_square():
    assert VimConfig(image_size=(64, 96)).grid == (4, 6)


def test_the_grid_of_overlapping_patches():
    assert VimConfig(image_size=(32, 48), stride=8).grid == (3, 5)


def test_the_rank_of_the_step_size_is_a_sixteenth_rounded_up():
    assert VimConfig(dim=40).dt_rank == 3


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"image_size": (250, 224)}, "image height of 250; the nearest that they divide are 240 and 256"),
        ({"image_size": (224, 250)}, "image width of 250"),
        ({"image_size": (8, 224)}, "image height of 8; the nearest that they divide are 16 and 32"),
        ({"depth": 0}, "depth must be a whole number of at least 1, found 0"),
        ({"dim": -64}, "dim must be a whole number of at least 1, found -64"),
        ({"dim": 64.5}, "dim must be a whole number of at least 1, found 64.5"),
        ({"stride": 32}, "stride must not pass patch_size 16, found 32"),
        ({"class_token": "last"}, "class_token must be one of middle, first, none, found 'last'"),
    ],
)
def test_numbers_that_no_model_can_have(numbers, message):
    with pytest.raises(ConfigError, match=message):
        VimConfig(**numbers)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"crop": 0.0}, "crop must be above 0 and at most 1"),
        ({"crop": 1.5}, "crop must be above 0 and at most 1"),
        ({"interpolation": "cubic"}, "one of bicubic, bilinear, lanczos, nearest, found 'cubic'"),
        ({"mean": (0.5,)}, "1 or 3 values each"),
        ({"std": (0.2, 0.0, 0.2)}, "std above 0"),
    ],
)
def test_recipes_that_no_picture_can_follow(fields, message):
    with pytest.raises(ConfigError, match=message):
        Recipe(**fields)


def test_the_default_recipe_is_the_evaluation_of_the_released_weights():
    recipe = Recipe()
    assert (recipe.crop, recipe.interpolation) == (0.875, "bicubic")
    assert (recipe.mean, recipe.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_replace_leaves_the_rest():
    assert VimConfig(dim=64).replace(depth=3) == VimConfig(dim=64, depth=3)


class TestDescription:
    """A model of one's own as NAME.json."""

    def test_all_fields(self, tmp_path):
        path = tmp_path / "mine.json"
        described = {"config": {"dim": 32, "num_classes": 2}, "recipe": {"crop": 1.0}, "labels": ["cat", "dog"]}
        path.write_text(json.dumps(described))
        variant = variant_by_name(str(path))
        assert (variant.name, variant.labels) == ("mine", ("cat", "dog"))
        assert (variant.config, variant.recipe) == (VimConfig(dim=32, num_classes=2), Recipe(crop=1.0))

    def test_a_missing_file(self):
        with pytest.raises(ConfigError, match=r"There is no model description no/such\.json"):
            variant_by_name("no/such.json")

    @pytest.mark.parametrize(
        "text",
        [
            "not json",
            "[]",
            "{}",
            '{"config": {"no_such_field": 1}}',
            '{"config": {"image_size": 224}}',
            '{"config": {"dim": "64"}}',
            '{"config": {}, "recipe": {"crop": "all"}}',
        ],
    )
    def test_what_describes_no_model(self, tmp_path, text):
        path = tmp_path / "mine.json"
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"mine\.json does not describe a model; wanted"):
            variant_by_name(str(path))

    def test_numbers_that_cannot_be_built_say_so(self, tmp_path):
        path = tmp_path / "mine.json"
        path.write_text('{"config": {"depth": 0}}')
        with pytest.raises(ConfigError, match="depth must be a whole number"):
            variant_by_name(str(path))


class TestLabels:
    def test_one_a_line(self, tmp_path):
        path = tmp_path / "labels.txt"
        path.write_text("tench\n great white shark \n\nkite\n")
        assert labels_from_file(path) == ("tench", "great white shark", "kite")

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(ConfigError, match="one label a line"):
            labels_from_file(tmp_path / "none.txt")

    def test_a_file_that_is_no_text(self, tmp_path):
        path = tmp_path / "labels.txt"
        path.write_bytes(b"\xff\xfe\x00")
        with pytest.raises(ConfigError, match="one label a line"):
            labels_from_file(path)
