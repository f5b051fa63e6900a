import pytest
import torch

from vimdeploy.errors import ConfigError
from vimdeploy.models.vim.architecture import VimArchitecture
from vimdeploy.models.vim.config import VimConfig
from vimdeploy.models.vim.network import Vim, resize_pos_embed

VIM = VimArchitecture()


def test_the_config_of_its_numbers():
    assert VIM.config({"dim": 32, "image_size": [32, 48]}) == VimConfig(dim=32, image_size=(32, 48))


def test_numbers_that_it_does_not_know():
    with pytest.raises(ConfigError, match="There is no field"):
        VIM.config({"heads": 3})
    with pytest.raises(ConfigError):
        VIM.config({"dim": 0})


@pytest.mark.parametrize("any_size", [False, True])
def test_the_backbone(tiny, any_size):
    backbone = VIM.backbone(tiny.config, any_size)
    assert isinstance(backbone, Vim)
    assert (backbone.config, backbone.any_size) == (tiny.config, any_size)


def test_another_image_size_changes_the_position_embedding_alone(tiny, tiny_model):
    tensors = tiny_model.state_dict()
    resized = VIM.at_image_size(tensors, tiny.config, (64, 32))
    name = "backbone.pos_embed"
    assert {key for key in tensors if resized[key] is not tensors[key]} == {name}
    assert torch.equal(resized[name], resize_pos_embed(tensors[name], tiny.config, 8, 4))
    assert tensors[name].shape == (1, 17, 16)
