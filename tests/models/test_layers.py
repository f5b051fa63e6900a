import oracle
import pytest
import torch

from vimdeploy.models.config import VimConfig
from vimdeploy.models.layers import BidirectionalMamba, Block, PatchEmbed, RMSNorm

SMALL = VimConfig(image_size=(16, 24), patch_size=8, stride=8, dim=24, depth=1, state_size=3, conv_width=3)


def shaken(module, seed=0):
    """The module with all its weights moved off their first values, so that no one or zero hides a mistake."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return module.eval()


def weights(module):
    return {name: value.double().numpy() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_the_mixer_against_the_oracle(scale):
    config = SMALL.replace(direction_scale=scale)
    mixer = shaken(BidirectionalMamba(config))
    x = torch.randn(2, 7, config.dim, generator=torch.Generator().manual_seed(1))
    found = mixer(x).detach()
    for row, answer in zip(x, found, strict=True):
        wanted = oracle.mixer(row.double().numpy(), weights(mixer), config)
        torch.testing.assert_close(answer.double(), torch.from_numpy(wanted), rtol=1e-5, atol=1e-5)


def test_a_block_adds_the_mixed_norm():
    block = shaken(Block(SMALL))
    x = torch.randn(1, 5, SMALL.dim, generator=torch.Generator().manual_seed(1))
    own = weights(block)
    normed = oracle.rms_norm(x[0].double().numpy(), own["norm.weight"], SMALL.norm_eps)
    mixed = oracle.mixer(normed, {name.removeprefix("mixer."): value for name, value in own.items()}, SMALL)
    torch.testing.assert_close(block(x)[0].double(), x[0].double() + torch.from_numpy(mixed), rtol=1e-5, atol=1e-5)


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
    image = torch.randn(1, 3, *config.image_size, generator=torch.Generator().manual_seed(1))
    kernel, bias = embed.proj.weight.detach().double(), embed.proj.bias.detach().double()
    rows = torch.from_numpy(oracle.patches(image[0].double().numpy(), config))
    torch.testing.assert_close(embed(image)[0].double(), rows @ kernel.flatten(1).T + bias, rtol=1e-5, atol=1e-5)
