import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.dense import checkpoint_of
from helpers.references import REFERENCES, relative_error
from helpers.rule_weights import rule_checkpoint, rule_input

from vimdeploy.models import VARIANTS
from vimdeploy.models.heads.pyramid import ConvTransposePyramid
from vimdeploy.models.heads.segment import AveragePool, NormedConv, Segmenter, UperHead
from vimdeploy.models.vim.network import Vim
from vimdeploy.networks import network_of_variant


@pytest.mark.parametrize("scale", [1, 2, 3, 6])
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (6, 12), (7, 16)], ids=str)
def test_means_are_torchs(scale, size):
    map_ = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(AveragePool(scale)(map_), F.adaptive_avg_pool2d(map_, scale))


@torch.no_grad()
def test_a_normed_convolution_is_one_with_torchs_norm_and_relu():
    torch.manual_seed(0)
    ours, norm = NormedConv(3, 5, 3), torch.nn.BatchNorm2d(5).eval()
    for tensor in (*norm.parameters(), norm.running_mean, norm.running_var):
        tensor.uniform_(0.5, 2)
    ours.bn.load_state_dict({name: value for name, value in norm.state_dict().items() if "batches" not in name})
    map_ = torch.randn(2, 3, 6, 6)
    torch.testing.assert_close(ours(map_), F.relu(norm(ours.conv(map_))), rtol=1e-5, atol=1e-5)
    assert list(ours.stored_tensors()) == ["folded.weight", "folded.bias"]


class TestUperHead:
    def test_logits_are_as_large_as_the_finest_level(self):
        levels = [torch.zeros(2, 8, *size) for size in ((16, 24), (8, 12), (4, 6), (2, 3))]
        assert UperHead(8, 6, 5)(levels).shape == (2, 5, 16, 24)

    def test_its_tensors_are_called_as_mmsegmentation_calls_them(self):
        names = UperHead(8, 6, 5).state_dict()
        assert {"psp_modules.3.1.bn.running_var", "lateral_convs.2.conv.weight", "fpn_convs.0.bn.bias"} < names.keys()
        assert {name.partition(".")[0] for name in names} == {
            "psp_modules",
            "bottleneck",
            "lateral_convs",
            "fpn_convs",
            "fpn_bottleneck",
            "conv_seg",
        }
        assert len(names) == 12 * 5 + 2


@pytest.mark.slow
def test_logits_and_classes_are_the_toolboxs_own():
    """Vim-S with UperNet: 150 classes, rotary embedding, the rotated residual."""
    variant = VARIANTS["vim_small_patch16_224"]
    config = variant.config.replace(image_size=(256, 256), class_token="none", final_norm=False)
    with torch.device("meta"):
        like = Segmenter(Vim(config), ConvTransposePyramid(384, 16), (5, 11, 17, 23), 384, 384, 150)
        tensors = rule_checkpoint(like, "backbone.", rope=256)
    network = network_of_variant(variant, checkpoint_of(tensors), "segment")
    with torch.inference_mode():
        logits, classes = network.module(torch.from_numpy(rule_input(256)))
    assert relative_error("seg_logits", logits.numpy()) < 1e-4
    with np.load(REFERENCES) as stored:
        wanted, margin, std = stored["seg_classes"], stored["seg_margin"], stored["seg_logits_std"]
    differing = classes.numpy().reshape(-1)[::17] != wanted
    assert (margin[differing] < 1e-4 * std).all()
