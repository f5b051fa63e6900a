from pathlib import Path

from helpers import oracle
import pytest
import torch

from vimdeploy.errors import CheckpointError
from vimdeploy.models.config import VARIANTS
from vimdeploy.models.vim import Vim, resize_pos_embed, vim_from_tensors, vim_with_random_weights

KEYS = Path(__file__).parent.parent / "data" / "checkpoint_keys"


def released_shapes(variant):
    """Name -> shape of every tensor in a released checkpoint."""
    lines = (line.split() for line in (KEYS / f"{variant}.txt").read_text().splitlines())
    return {name: tuple(map(int, shape.split("x"))) for name, shape in lines}


@pytest.mark.parametrize("variant", sorted(path.stem for path in KEYS.glob("*.txt")))
def test_names_and_shapes_are_those_of_the_released_checkpoint(variant):
    with torch.device("meta"):
        model = Vim(VARIANTS[variant].config)
    assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == released_shapes(variant)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=lambda variant: variant.name)
def test_the_config_counts_the_parameters(variant):
    with torch.device("meta"):
        model = Vim(variant.config)
    assert sum(parameter.numel() for parameter in model.parameters()) == variant.config.parameters


class TestAnswers:
    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"class_token": "first"},
            {"class_token": "none"},
            {"image_size": (16, 40)},
            {"stride": 4},
            {"direction_scale": 1.0},
            {"in_channels": 1},
            {"dim": 20, "expand": 3, "dt_rank": 5, "conv_width": 2},
        ],
        ids=str,
    )
    def test_against_the_oracle(self, tiny, changes):
        config = tiny.config.replace(image_size=(16, 16), dt_rank=0).replace(**changes)
        model = vim_with_random_weights(config, seed=0)
        images = torch.randn(2, config.in_channels, *config.image_size, generator=torch.Generator().manual_seed(1))
        weights = {name: value.double().numpy() for name, value in model.state_dict().items()}
        wanted = [torch.from_numpy(oracle.vim(image.double().numpy(), weights, config)) for image in images]
        torch.testing.assert_close(model(images).double(), torch.stack(wanted), rtol=1e-4, atol=1e-6)

    def test_an_answer_does_not_depend_on_the_rest_of_the_batch(self, tiny, tiny_model):
        images = torch.randn(3, 3, *tiny.config.image_size, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(tiny_model(images)[1:2], tiny_model(images[1:2]), rtol=1e-5, atol=1e-6)


class TestRandomWeights:
    def test_a_seed_gives_the_same_weights(self, tiny):
        first, second = (vim_with_random_weights(tiny.config, seed=3).state_dict() for _ in range(2))
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_another_seed_gives_others(self, tiny):
        first, second = (vim_with_random_weights(tiny.config, seed).state_dict() for seed in (3, 4))
        assert not torch.equal(first["head.weight"], second["head.weight"])

    def test_the_callers_random_numbers_go_on_undisturbed(self, tiny):
        torch.manual_seed(0)
        wanted = torch.rand(1)
        torch.manual_seed(0)
        vim_with_random_weights(tiny.config, seed=3)
        assert torch.rand(1) == wanted


class TestFromTensors:
    def test_a_state_dict_comes_back(self, tiny, tiny_model):
        model = vim_from_tensors(tiny.config, tiny_model.state_dict())
        assert all(torch.equal(value, tiny_model.state_dict()[name]) for name, value in model.state_dict().items())

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_weights_become_float32(self, tiny, tiny_model, dtype):
        halves = {name: value.to(dtype) for name, value in tiny_model.state_dict().items()}
        model = vim_from_tensors(tiny.config, halves)
        assert torch.equal(model.head.weight, halves["head.weight"].float())

    def test_missing_and_unused_keys_are_listed(self, tiny, tiny_model):
        tensors = dict(tiny_model.state_dict())
        tensors["extra.weight"] = tensors.pop("layers.1.norm.weight")
        message = r"Missing \(1\): layers\.1\.norm\.weight\. Unused \(1\): extra\.weight\."
        with pytest.raises(CheckpointError, match=message):
            vim_from_tensors(tiny.config, tensors)

    def test_of_many_keys_the_first_are_listed(self, tiny, tiny_model):
        tensors = dict(tiny_model.state_dict()) | {f"extra.{i}": torch.zeros(1) for i in range(9)}
        with pytest.raises(
            CheckpointError, match=r"Missing \(0\): none\. Unused \(9\): extra\.0, .*extra\.5, \.\.\.\."
        ):
            vim_from_tensors(tiny.config, tensors)

    def test_other_shapes_are_listed(self, tiny, tiny_model):
        tensors = dict(tiny_model.state_dict()) | {"head.bias": torch.zeros(9)}
        with pytest.raises(CheckpointError, match=r"1 shapes .*head\.bias: wanted \[5\], found \[9\]"):
            vim_from_tensors(tiny.config, tensors)


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
        assert torch.equal(
            resize_pos_embed(embedding, tiny.config.replace(image_size=(32, 32)), tiny.config), embedding
        )

    @pytest.mark.parametrize("image_size", [(64, 64), (16, 16), (32, 64), (40, 24)])
    def test_a_constant_stays_constant_and_the_class_row_stands_in_the_middle(self, tiny, image_size):
        config = tiny.config.replace(image_size=image_size)
        wanted = torch.full((1, config.tokens, 1), 7.0)
        wanted[0, config.patches // 2] = 100.0
        torch.testing.assert_close(
            resize_pos_embed(self.embedding(torch.full((4, 4), 7.0)), config.replace(image_size=(32, 32)), config),
            wanted,
        )

    def test_the_class_row_in_front_stays_in_front(self, tiny):
        config = tiny.config.replace(image_size=(64, 64), class_token="first")
        resized = resize_pos_embed(
            self.embedding(torch.zeros(4, 4), position=0), config.replace(image_size=(32, 32)), config
        )
        assert resized[0, :, 0].tolist() == [100.0] + [0.0] * 64

    def test_without_class_token_all_rows_are_grid(self, tiny):
        config = tiny.config.replace(image_size=(64, 64), class_token="none")
        assert torch.equal(
            resize_pos_embed(torch.ones(1, 16, 1), config.replace(image_size=(32, 32)), config), torch.ones(1, 64, 1)
        )

    def test_between_rows_by_the_bicubic_kernel(self, tiny):
        """Twice the columns: column j of 8 lies at (j + 0.5) / 2 - 0.5 of the 4, whose border is repeated."""
        config = tiny.config.replace(image_size=(32, 64), class_token="none")
        old = [0.0, 1.0, 5.0, 2.0]
        grid = resize_pos_embed(
            torch.tensor(old).repeat(4, 1).reshape(1, 16, 1), config.replace(image_size=(32, 32)), config
        ).reshape(4, 8)
        places = [(j + 0.5) / 2 - 0.5 for j in range(8)]
        wanted = [sum(keys(place - i) * old[min(max(i, 0), 3)] for i in range(-3, 7)) for place in places]
        torch.testing.assert_close(grid, torch.tensor(wanted).expand(4, 8))

    def test_rows_and_columns_are_not_mixed_up(self, tiny):
        config = tiny.config.replace(image_size=(64, 32), class_token="none")
        ramp = torch.arange(4.0).repeat(4, 1)
        grid = resize_pos_embed(ramp.reshape(1, 16, 1), config.replace(image_size=(32, 32)), config).reshape(8, 4)
        torch.testing.assert_close(grid, torch.arange(4.0).repeat(8, 1))

    def test_a_grid_of_as_many_patches_is_laid_out_anew(self, tiny):
        """Row i of 4 x 4 patches holds i everywhere; in 2 x 8 patches the columns have to be equal still."""
        config = tiny.config.replace(image_size=(16, 64), class_token="none")
        ramp = torch.arange(4.0).repeat_interleave(4).reshape(1, 16, 1)
        grid = resize_pos_embed(ramp, config.replace(image_size=(32, 32)), config).reshape(2, 8)
        torch.testing.assert_close(grid, grid[:, :1].expand(2, 8))
        assert grid[0, 0] < grid[1, 0]

    def test_a_model_of_another_size_has_the_resized_embedding(self, tiny, tiny_model):
        model = vim_from_tensors(tiny.config, tiny_model.state_dict(), image_size=(64, 32))
        assert model.config.image_size == (64, 32)
        torch.testing.assert_close(
            model.pos_embed.detach(), resize_pos_embed(tiny_model.pos_embed.detach(), tiny.config, model.config)
        )
