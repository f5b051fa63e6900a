import pytest
import torch

from vimdeploy.errors import ConfigError
from vimdeploy.models.deit import DEIT_VARIANTS, DeiT, DeiTConfig


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("deit_tiny_patch16_224", 5_717_416),
        ("deit_small_patch16_224", 22_050_664),
        ("deit_base_patch16_224", 86_567_656),
    ],
)
def test_parameters_are_those_of_the_released_models(name, parameters):
    with torch.device("meta"):
        model = DeiT(DEIT_VARIANTS[name])
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return DeiT(DeiTConfig(dim=24, heads=3, image_size=(32, 48), depth=2, num_classes=7)).eval()


def test_an_image_that_is_not_square_gives_logits(small):
    assert small(torch.zeros(2, 3, 32, 48)).shape == (2, 7)


def test_attention_is_softmax_of_scaled_products(small):
    attention = small.blocks[0].attn
    x = torch.randn(1, 5, 24, generator=torch.Generator().manual_seed(1))
    q, k, v = attention.qkv(x)[0].split(24, dim=-1)
    heads = [
        torch.softmax(q[:, h] @ k[:, h].T / 8**0.5, dim=-1) @ v[:, h]
        for h in (slice(0, 8), slice(8, 16), slice(16, 24))
    ]
    torch.testing.assert_close(attention(x)[0], attention.proj(torch.cat(heads, dim=-1)), rtol=1e-5, atol=1e-6)


def test_the_order_of_the_patches_matters_by_their_positions_alone(small):
    """Attention has no order: with equal positions, a mirrored picture of one-colour patches is the same picture."""
    image = torch.arange(6.0).reshape(2, 3).repeat_interleave(16, 0).repeat_interleave(16, 1).expand(1, 3, 32, 48)
    positions = small.pos_embed.data.clone()
    small.pos_embed.data[:, 1:] = 0
    torch.testing.assert_close(small(image), small(image.flip(3)), rtol=1e-4, atol=1e-5)
    small.pos_embed.data = positions
    assert not torch.allclose(small(image), small(image.flip(3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(40, 32), (32, 40), (0, 32)])
def test_patches_have_to_divide_the_image(size):
    with pytest.raises(ConfigError, match=r"Patches of 16 pixels do not divide an image of \d+x\d+; both sides"):
        DeiTConfig(dim=24, heads=3, image_size=size)
