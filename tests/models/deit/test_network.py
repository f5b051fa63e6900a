import pytest
import torch

from vimdeploy.models.deit.architecture import DeiTArchitecture
from vimdeploy.models.deit.config import VARIANTS, DeiTConfig
from vimdeploy.models.deit.network import DeiT
from vimdeploy.models.heads.classification import Classifier


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=lambda variant: variant.name)
def test_the_config_counts_the_parameters(variant):
    with torch.device("meta"):
        model = Classifier(DeiT(variant.config))
    assert sum(parameter.numel() for parameter in model.parameters()) == variant.config.parameters


@pytest.fixture
def small():
    torch.manual_seed(0)
    return Classifier(DeiT(DeiTConfig(dim=24, heads=3, image_size=(32, 48), depth=2, num_classes=7))).eval()


@pytest.fixture
def images():
    return torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(1))


def test_an_image_that_is_not_square_gives_logits(small):
    assert small(torch.zeros(2, 3, 32, 48)).shape == (2, 7)


def test_attention_is_softmax_of_scaled_products(small):
    attention = small.backbone.blocks[0].attn
    x = torch.randn(1, 5, 24, generator=torch.Generator().manual_seed(1))
    q, k, v = attention.qkv(x)[0].split(24, dim=-1)
    heads = [
        torch.softmax(q[:, h] @ k[:, h].T / 8**0.5, dim=-1) @ v[:, h]
        for h in (slice(0, 8), slice(8, 16), slice(16, 24))
    ]
    torch.testing.assert_close(attention(x)[0], attention.proj(torch.cat(heads, dim=-1)), rtol=1e-5, atol=1e-6)


def test_fused_attention_is_another_node_and_the_same_answer(small, images):
    config = small.backbone.config.replace(fused_attention=True)
    fused = Classifier(DeiT(config)).eval()
    fused.load_state_dict(small.state_dict())
    torch.testing.assert_close(fused(images), small(images))


def test_the_order_of_the_patches_matters_by_their_positions_alone(small):
    """Attention has no order: with equal positions, a mirrored picture of one-colour patches is the same picture."""
    image = torch.arange(6.0).reshape(2, 3).repeat_interleave(16, 0).repeat_interleave(16, 1).expand(1, 3, 32, 48)
    positions = small.backbone.pos_embed.data.clone()
    small.backbone.pos_embed.data[:, 1:] = 0
    torch.testing.assert_close(small(image), small(image.flip(3)), rtol=1e-4, atol=1e-5)
    small.backbone.pos_embed.data = positions
    assert not torch.allclose(small(image), small(image.flip(3)), rtol=1e-4, atol=1e-5)


class TestFeatures:
    def tokens_after(self, backbone, images, blocks):
        """(B, L, D) after so many blocks."""
        patches = backbone.patch_embed(images)
        x = torch.cat([backbone.cls_token.expand(len(images), -1, -1), patches], dim=1) + backbone.pos_embed
        for block in backbone.blocks[:blocks]:
            x = block(x)
        return x

    def test_the_map_is_of_the_patches_and_the_vector_of_the_class_token(self, small, images):
        features = small.backbone.features(images)
        tokens = small.backbone.norm(self.tokens_after(small.backbone, images, 2))
        torch.testing.assert_close(features.pooled, tokens[:, 0])
        torch.testing.assert_close(features.map, tokens[:, 1:].transpose(1, 2).reshape(2, 24, 2, 3))
        assert features.blocks == []

    def test_the_vector_alone_is_the_same(self, small, images):
        torch.testing.assert_close(small.backbone.pooled(images), small.backbone.features(images).pooled)

    def test_the_maps_of_blocks_are_in_the_order_asked_for(self, small, images):
        for block, found in zip((1, 0), small.backbone.features(images, blocks=(1, 0)).blocks, strict=True):
            wanted = self.tokens_after(small.backbone, images, block + 1)[:, 1:].transpose(1, 2)
            torch.testing.assert_close(found, wanted.reshape(2, 24, 2, 3))

    def test_nothing_is_stored_beside_the_parameters(self, small):
        assert small.backbone.stored_tensors() == {}


class TestAnySize:
    """The position embedding in the graph against one that is resized when the weights are loaded."""

    @pytest.mark.parametrize("image_size", [(32, 48), (64, 96), (32, 32), (80, 16), (16, 112)])
    @pytest.mark.parametrize("fused_attention", [False, True])
    def test_is_the_same_model(self, small, fused_attention, image_size):
        config = small.backbone.config.replace(fused_attention=fused_attention)
        free, fixed = DeiT(config, any_size=True).eval(), DeiT(config.replace(image_size=image_size)).eval()
        tensors = {name: 10 * tensor for name, tensor in small.state_dict().items() if name.startswith("backbone.")}
        resized = DeiTArchitecture().at_image_size(tensors, config, image_size)
        for model, weights in ((free, tensors), (fixed, resized)):
            model.load_state_dict({name.removeprefix("backbone."): tensor for name, tensor in weights.items()})
        images = torch.randn(2, 3, *image_size, generator=torch.Generator().manual_seed(1))
        found, wanted = free.features(images, [0]), fixed.features(images, [0])
        assert found.map.shape[2:] == (image_size[0] // 16, image_size[1] // 16)
        torch.testing.assert_close((*found[:2], *found.blocks), (*wanted[:2], *wanted.blocks))
        torch.testing.assert_close(free.pooled(images), fixed.pooled(images))

    def test_its_weights_are_those_of_the_fixed_size(self, small):
        free = DeiT(small.backbone.config, any_size=True)
        assert free.state_dict().keys() == small.backbone.state_dict().keys()
