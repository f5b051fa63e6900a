from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import oracle
from helpers.released import released_names

from vimdeploy.models.heads.classification import Classifier
from vimdeploy.models.vim.architecture import VimArchitecture
from vimdeploy.models.vim.config import VARIANTS, VimConfig
from vimdeploy.models.vim.network import Vim, class_token_position, reset_parameters, resize_pos_embed

KEYS = Path(__file__).parents[2] / "data" / "checkpoint_keys"

DENSE = {"class_token": "none", "final_norm": False}


def released_shapes(variant):
    """Name -> shape of every tensor in a released checkpoint."""
    lines = (line.split() for line in (KEYS / f"{variant}.txt").read_text().splitlines())
    return {name: tuple(map(int, shape.split("x"))) for name, shape in lines}


@pytest.mark.parametrize("variant", sorted(path.stem for path in KEYS.glob("*.txt")))
def test_names_and_shapes_are_those_of_the_released_checkpoint(variant):
    with torch.device("meta"):
        model = Classifier(Vim(VARIANTS[variant].config))
    assert {name: tuple(value.shape) for name, value in released_names(model).items()} == released_shapes(variant)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=lambda variant: variant.name)
def test_the_config_counts_the_parameters(variant):
    with torch.device("meta"):
        model = Classifier(Vim(variant.config))
    assert sum(parameter.numel() for parameter in model.parameters()) == variant.config.parameters


@pytest.mark.parametrize("changes", [DENSE, {"class_token": "first"}, DENSE | {"rotary": True}], ids=str)
def test_the_config_counts_the_parameters_of_others(tiny, changes):
    config = tiny.config.replace(**changes)
    assert sum(parameter.numel() for parameter in Classifier(Vim(config)).parameters()) == config.parameters


def of_seed(config, seed=0, any_size=False):
    """A backbone with the random weights of a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Classifier(Vim(config, any_size))
        reset_parameters(model)
    return model.backbone.eval()


def pictures(config, count=2, image_size=None):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, config.in_channels, *(image_size or config.image_size), generator=generator)


def values(model):
    """The weights as the oracle takes them."""
    return {name: value.double().numpy() for name, value in model.state_dict().items()}


def as_map(tokens, config):
    """(L, D) -> (D, rows, columns), without the class token."""
    position = oracle.class_token_index(config)
    patches = tokens if position is None else np.delete(tokens, position, axis=0)
    return patches.T.reshape(-1, *config.grid)


def assert_near(found, wanted):
    torch.testing.assert_close(found.double(), torch.as_tensor(np.asarray(wanted)), rtol=1e-4, atol=1e-5)


class TestFeatures:
    @pytest.mark.parametrize(
        "changes",
        [{}, {"class_token": "first"}, {"class_token": "none"}, {"image_size": (16, 40)}, {"stride": 4}],
        ids=str,
    )
    def test_of_a_classifier(self, tiny, changes):
        """The map is the normed tokens of the patches, the vector the class token's, or their mean."""
        config = tiny.config.replace(image_size=(16, 24)).replace(**changes)
        model, images = of_seed(config), pictures(config)
        features = model.features(images)
        for image, map_, pooled in zip(images, features.map, features.pooled, strict=True):
            after = oracle.blocks(image.double().numpy(), values(model), config)[-1][2]
            normed = oracle.rms_norm(after, values(model)["norm_f.weight"], config.norm_eps)
            position = oracle.class_token_index(config)
            assert_near(map_, as_map(normed, config))
            assert_near(pooled, normed.mean(axis=0) if position is None else normed[position])
        assert features.blocks == []

    @pytest.mark.parametrize(
        ("rotary", "feature"),
        [(False, "residual"), (True, "residual"), (False, "mixer"), (True, "mixer"), (True, "rotated")],
    )
    def test_of_the_blocks_of_a_dense_backbone(self, tiny, rotary, feature):
        """A picture that is not square shows rows and columns that are mixed up."""
        config = tiny.config.replace(image_size=(16, 24), depth=3, **DENSE, rotary=rotary, block_feature=feature)
        model, (image,) = of_seed(config), pictures(config, 1)
        read, mixed, after = zip(*oracle.blocks(image.double().numpy(), values(model), config), strict=True)
        wanted = {"residual": after, "mixer": mixed, "rotated": (*read[1:], after[-1])}[feature]
        features = model.features(image[None], blocks=[2, 0, 1])
        for block, found in zip([2, 0, 1], features.blocks, strict=True):
            assert_near(found[0], as_map(wanted[block], config))
        assert_near(features.map[0], as_map(wanted[-1], config))
        assert_near(features.pooled[0], wanted[-1].mean(axis=0))

    def test_of_the_blocks_of_a_classifier_are_not_normed(self, tiny):
        config = tiny.config.replace(image_size=(16, 24))
        model, (image,) = of_seed(config), pictures(config, 1)
        found = model.features(image[None], blocks=[0, 1])
        for block, (_, _, after) in enumerate(oracle.blocks(image.double().numpy(), values(model), config)):
            assert_near(found.blocks[block][0], as_map(after, config))

    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"class_token": "first"},
            {"class_token": "none"},
            DENSE,
            DENSE | {"block_feature": "mixer"},
            DENSE | {"rotary": True, "block_feature": "rotated"},
            {"final_norm": False, "block_feature": "mixer"},
        ],
        ids=str,
    )
    def test_the_vector_alone_is_the_same(self, tiny, changes):
        config = tiny.config.replace(**changes)
        model, images = of_seed(config), pictures(config)
        torch.testing.assert_close(model.pooled(images), model.features(images).pooled)

    def test_an_answer_does_not_depend_on_the_rest_of_the_batch(self, tiny):
        model, images = of_seed(tiny.config), pictures(tiny.config, 3)
        torch.testing.assert_close(model.pooled(images)[1:2], model.pooled(images[1:2]), rtol=1e-5, atol=1e-6)


class TestClassToken:
    @pytest.mark.parametrize(
        ("where", "patches", "position"),
        [("middle", 196, 98), ("middle", 9, 4), ("middle", 1, 0), ("first", 9, 0), ("none", 9, None)],
    )
    def test_where_it_stands(self, where, patches, position):
        assert class_token_position(VimConfig(class_token=where), patches) == position


class TestRotation:
    """The rotary embedding by its definition; the tests of features hold it against the oracle."""

    def test_the_first_token_is_not_turned(self, tiny):
        first = self.turned(tiny, torch.ones(1, 16, 16))[0, 0]
        assert torch.equal(first, torch.ones(16))

    def test_rows_turn_the_first_half_and_columns_the_second(self, tiny):
        grid = self.turned(tiny, torch.ones(1, 16, 16)).reshape(4, 4, 16)
        assert torch.equal(grid[2, 0, 8:], torch.ones(8))
        assert torch.equal(grid[0, 2, :8], torch.ones(8))
        torch.testing.assert_close(grid[3, 1, :8], grid[3, 0, :8])
        torch.testing.assert_close(grid[3, 1, 8:], grid[0, 1, 8:])
        assert not torch.allclose(grid[3, 0, :8], torch.ones(8))

    def test_pairs_of_neighbours_keep_their_length(self, tiny):
        x = torch.randn(2, 16, 16, generator=torch.Generator().manual_seed(0))
        lengths = [value.unflatten(-1, (8, 2)).norm(dim=-1) for value in (x, self.turned(tiny, x))]
        torch.testing.assert_close(*lengths)

    def test_positions_are_parts_of_14_on_every_grid(self, tiny):
        """The second half of the rows begins at 7, whatever the number of rows."""
        small = self.turned(tiny, torch.ones(1, 4, 16), (16, 16)).reshape(2, 2, 16)
        large = self.turned(tiny, torch.ones(1, 64, 16), (64, 64)).reshape(8, 8, 16)
        torch.testing.assert_close(small[1, 1], large[4, 4])
        angle = torch.tensor(7.0)
        torch.testing.assert_close(small[1, 0, :2], torch.stack([angle.cos() - angle.sin(), angle.cos() + angle.sin()]))

    def turned(self, tiny, tokens, image_size=(32, 32)):
        """What the first block reads, if these are the tokens."""
        config = tiny.config.replace(**DENSE, rotary=True, image_size=image_size)
        model = of_seed(config)
        read = []
        model.layers[0].register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
        with torch.no_grad():
            model.pos_embed.zero_()
            model.patch_embed.forward = lambda images: tokens
            model.pooled(torch.zeros(len(tokens), 3, *image_size))
        return read[0]


class TestAnySize:
    """The position embedding in the graph against one that is resized when the weights are loaded."""

    @pytest.mark.parametrize("image_size", [(32, 32), (64, 64), (16, 16), (24, 64), (72, 40), (16, 104)])
    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"class_token": "first"},
            {"class_token": "none"},
            {"stride": 4},
            {"image_size": (24, 48)},
            DENSE | {"rotary": True, "block_feature": "rotated"},
        ],
        ids=str,
    )
    def test_is_the_same_model(self, tiny, changes, image_size):
        config = tiny.config.replace(**changes)
        free, fixed = of_seed(config, any_size=True), Vim(config.replace(image_size=image_size)).eval()
        tensors = {f"backbone.{name}": tensor for name, tensor in free.state_dict().items()}
        resized = VimArchitecture().at_image_size(tensors, config, image_size)
        fixed.load_state_dict({name.removeprefix("backbone."): tensor for name, tensor in resized.items()})
        images = pictures(config, image_size=image_size)
        for found, wanted in zip(free.features(images, [0])[:2], fixed.features(images, [0])[:2], strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(free.features(images, [0]).blocks, fixed.features(images, [0]).blocks)

    def test_its_weights_are_those_of_the_fixed_size(self, tiny):
        assert Vim(tiny.config, any_size=True).state_dict().keys() == Vim(tiny.config).state_dict().keys()


class TestStoredTensors:
    @pytest.mark.parametrize("any_size", [False, True])
    def test_the_operands_of_each_mixer(self, tiny, any_size):
        model = of_seed(tiny.config, any_size=any_size)
        stored = model.stored_tensors()
        for block, layer in enumerate(model.layers):
            for name, operand in layer.mixer.operands()._asdict().items():
                assert torch.equal(stored[f"layers.{block}.mixer.{name}"], operand)
        assert not any(tensor.requires_grad for tensor in stored.values())

    @pytest.mark.parametrize("class_token", ["middle", "first", "none"])
    def test_the_parts_of_the_position_embedding(self, tiny, class_token):
        config = tiny.config.replace(image_size=(16, 24), class_token=class_token)
        model = of_seed(config, any_size=True)
        stored, position = model.stored_tensors(), oracle.class_token_index(config)
        rows = model.pos_embed.detach()[0].numpy()
        assert (stored["pos_embed.grid"][0].numpy() == as_map(rows, config)).all()
        assert ("pos_embed.class_row" in stored) == (position is not None)
        if position is not None:
            assert (stored["pos_embed.class_row"].numpy() == rows[position]).all()

    def test_a_fixed_size_stores_the_embedding_as_it_is(self, tiny):
        assert not [name for name in of_seed(tiny.config).stored_tensors() if name.startswith("pos_embed")]


class TestRandomWeights:
    """Files of ``--random-weights`` store the seed alone, so the weights of a seed must never change."""

    @pytest.mark.parametrize(
        ("changes", "seed", "digest"),
        [
            ({}, 0, "77fcaaff69746660e7bf37a01b84102504ad9f2fe4aa505dcdebf91b98485854"),
            ({}, 3, "08d871373ded954fc31561e52ff9b457a09f8e1076d0b8de6f4a112f33adbe2b"),
            ({"class_token": "none"}, 0, "48f7fd2596a59fe2f6a67195763f6ca8ad4a227068d062ce2dabdc02f9350284"),
        ],
    )
    def test_are_those_of_the_first_release(self, tiny, changes, seed, digest):
        torch.manual_seed(seed)
        model = Classifier(Vim(tiny.config.replace(**changes)))
        reset_parameters(model)
        released = released_names(model)
        found = sha256()
        for name in sorted(released):
            found.update(released[name].numpy().tobytes())
        assert found.hexdigest() == digest


def keys(distance, a=-0.75):
    """Keys' cubic kernel, with the slope that torch takes."""
    d = abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else 0.0


class TestResize:
    """The position embedding of a 4 x 4 grid, the class token at number 8 of 17."""

    def embedding(self, grid, class_row=100.0, position=8):
        """(1, 17, 1) from 4 x 4 values."""
        rows = torch.as_tensor(grid, dtype=torch.float32).reshape(16, 1)
        return torch.cat([rows[:position], torch.tensor([[class_row]]), rows[position:]])[None]

    def test_the_same_size_changes_nothing(self, tiny):
        embedding = self.embedding(torch.arange(16.0))
        assert torch.equal(resize_pos_embed(embedding, tiny.config, 4, 4), embedding)

    @pytest.mark.parametrize(("rows", "columns"), [(8, 8), (2, 2), (4, 8), (5, 3)])
    def test_a_constant_stays_constant_and_the_class_row_stands_in_the_middle(self, tiny, rows, columns):
        wanted = torch.full((1, rows * columns + 1, 1), 7.0)
        wanted[0, rows * columns // 2] = 100.0
        found = resize_pos_embed(self.embedding(torch.full((4, 4), 7.0)), tiny.config, rows, columns)
        torch.testing.assert_close(found, wanted)

    def test_the_class_row_in_front_stays_in_front(self, tiny):
        config = tiny.config.replace(class_token="first")
        resized = resize_pos_embed(self.embedding(torch.zeros(4, 4), position=0), config, 8, 8)
        assert resized[0, :, 0].tolist() == [100.0] + [0.0] * 64

    def test_without_class_token_all_rows_are_grid(self, tiny):
        config = tiny.config.replace(class_token="none")
        assert torch.equal(resize_pos_embed(torch.ones(1, 16, 1), config, 8, 8), torch.ones(1, 64, 1))

    def test_between_rows_by_the_bicubic_kernel(self, tiny):
        """Twice the columns: column j of 8 lies at (j + 0.5) / 2 - 0.5 of the 4, whose border is repeated."""
        config = tiny.config.replace(class_token="none")
        old = [0.0, 1.0, 5.0, 2.0]
        grid = resize_pos_embed(torch.tensor(old).repeat(4, 1).reshape(1, 16, 1), config, 4, 8).reshape(4, 8)
        places = [(j + 0.5) / 2 - 0.5 for j in range(8)]
        wanted = [sum(keys(place - i) * old[min(max(i, 0), 3)] for i in range(-3, 7)) for place in places]
        torch.testing.assert_close(grid, torch.tensor(wanted).expand(4, 8))

    def test_rows_and_columns_are_not_mixed_up(self, tiny):
        config = tiny.config.replace(class_token="none")
        ramp = torch.arange(4.0).repeat(4, 1)
        grid = resize_pos_embed(ramp.reshape(1, 16, 1), config, 8, 4).reshape(8, 4)
        torch.testing.assert_close(grid, torch.arange(4.0).repeat(8, 1))

    def test_a_grid_of_as_many_patches_is_laid_out_anew(self, tiny):
        """Row i of 4 x 4 patches holds i everywhere; in 2 x 8 patches the columns have to be equal still."""
        config = tiny.config.replace(class_token="none")
        ramp = torch.arange(4.0).repeat_interleave(4).reshape(1, 16, 1)
        grid = resize_pos_embed(ramp, config, 2, 8).reshape(2, 8)
        torch.testing.assert_close(grid, grid[:, :1].expand(2, 8))
        assert grid[0, 0] < grid[1, 0]


@pytest.mark.parametrize("any_size", [False, True])
@pytest.mark.parametrize("changes", [{}, {"class_token": "first"}, DENSE, DENSE | {"rotary": True}], ids=str)
def test_computes_on_the_device_of_its_weights(changes, any_size):
    """Not on torch's default device, which is one without values here, so that the test needs no GPU."""
    numbers = {"image_size": (32, 48), "patch_size": 8, "stride": 8, "dim": 16, "depth": 2, "state_size": 4}
    torch.manual_seed(0)
    model = Vim(VimConfig(**numbers | changes), any_size)
    images = torch.randn(2, 3, 32, 48)
    with torch.inference_mode():
        wanted = model.features(images, (0,))
        with torch.device("meta"):
            found = model.features(images, (0,))
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
