import torch

from vimdeploy.models.deit.config import DeiTConfig
from vimdeploy.models.deit.network import DeiT
from vimdeploy.models.heads.features import FeatureExtractor
from vimdeploy.models.vim.network import Vim


def test_outputs_are_the_map_the_vector_and_the_blocks(tiny):
    torch.manual_seed(0)
    config = tiny.config.replace(image_size=(16, 24))
    model, images = FeatureExtractor(Vim(config), [1, 0]).eval(), torch.randn(2, 3, 16, 24)
    features = model.backbone.features(images, [1, 0])
    wanted = [features.map, features.pooled, *features.blocks]
    found = model(images)
    assert [tuple(value.shape) for value in found] == [(2, 16, 2, 3), (2, 16), (2, 16, 2, 3), (2, 16, 2, 3)]
    assert all(torch.equal(*pair) for pair in zip(found, wanted, strict=True))


def test_it_stands_on_any_backbone():
    model = FeatureExtractor(DeiT(DeiTConfig(24, 3, (32, 48), depth=1)))
    assert [tuple(value.shape) for value in model(torch.zeros(1, 3, 32, 48))] == [(1, 24, 2, 3), (1, 24)]


def test_it_has_no_tensors_of_its_own(tiny):
    assert all(name.startswith("backbone.") for name in FeatureExtractor(Vim(tiny.config)).state_dict())
