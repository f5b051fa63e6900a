import pytest
import torch

from vimdeploy.models.deit.config import DeiTConfig
from vimdeploy.models.deit.network import DeiT
from vimdeploy.models.heads.classification import Classifier
from vimdeploy.models.vim.network import Vim


@pytest.mark.parametrize("class_token", ["middle", "none"])
def test_logits_are_a_linear_layer_on_the_pooled_vector(tiny, class_token):
    torch.manual_seed(0)
    config = tiny.config.replace(class_token=class_token)
    model, images = Classifier(Vim(config)).eval(), torch.randn(2, 3, *config.image_size)
    wanted = model.backbone.features(images).pooled @ model.head.weight.T + model.head.bias
    torch.testing.assert_close(model(images), wanted)


def test_it_stands_on_any_backbone():
    model = Classifier(DeiT(DeiTConfig(24, 3, (32, 48), depth=1, num_classes=7)))
    assert model(torch.zeros(2, 3, 32, 48)).shape == (2, 7)


def test_its_tensors_are_called_head():
    with torch.device("meta"):
        names = Classifier(DeiT(DeiTConfig(24, 3, depth=1))).state_dict()
    assert [name for name in names if not name.startswith("backbone.")] == ["head.weight", "head.bias"]
