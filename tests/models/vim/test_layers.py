from helpers import oracle
import pytest
import torch

from vimdeploy.models.config import VimConfig
from vimdeploy.models.layers import BidirectionalMamba, Block, PatchEmbed, RMSNorm

SMALL = VimConfig(image_size=(16, 24), patch_size=8, stride=8, dim=24, depth=1, state_size=3, conv_width=3)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def shaken(module):
    """The module with all its weights moved off their first values, so that no one or zero hides a mistake."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn(parameter.shape)
    return module.eval()


def assert_near(found, wanted):
    """Float32 against float64: a part of the largest value."""
    wanted = torch.as_tensor(wanted)
    assert (found.double() - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def weights(module):
    return {name: value.double().numpy() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_the_mixer_against_the_oracle(scale):
    config = SMALL.replace(direction_scale=scale)
    mixer = shaken(BidirectionalMamba(config))
    x = torch.randn(2, 7, config.dim)
    found = mixer(x).detach()
    for row, answer in zip(x, found, strict=True):
        wanted = oracle.mixer(row.double().numpy(), weights(mixer), config)
        assert_near(answer, wanted)


def test_a_block_adds_the_mixed_norm():
    block = shaken(Block(SMALL))
    x = torch.randn(1, 5, SMALL.dim)
    own = weights(block)
    normed = oracle.rms_norm(x[0].double().numpy(), own["norm.weight"], SMALL.norm_eps)
    mixed = oracle.mixer(normed, {name.removeprefix("mixer."): value for name, value in own.items()}, SMALL)
    assert_near(block(x)[0], x[0].double() + torch.from_numpy(mixed))


def test_rms_norm_by_hand():
    norm = RMSNorm(2, eps=0.0)
    norm.weight.data = torch.tensor([1.0, 2.0])
    torch.testing.assert_close(norm(torch.tensor([1.0, 7.0])), torch.tensor([0.2, 2.8]))  # the root mean square is 5


def test_rms_norm_of_zeros_is_zero():
    assert not RMSNorm(4, eps=1e-5)(torch.zeros(4)).any()


@pytest.mark.parametrize("stride", [8, 4])
def test_patches_against_the_oracle(stride):
    config = SMALL.replace(stride=stride)
    embed = shaken(PatchEmbed(config))
    image = torch.randn(1, 3, *config.image_size)
    kernel, bias = embed.proj.weight.detach().double(), embed.proj.bias.detach().double()
    rows = torch.from_numpy(oracle.patches(image[0].double().numpy(), config))
    assert_near(embed(image)[0], rows @ kernel.flatten(1).T + bias)
