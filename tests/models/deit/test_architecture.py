import itertools

import pytest
import torch
from helpers.released import released_names

from vimdeploy.checkpoint import Checkpoint
from vimdeploy.errors import CheckpointError, ConfigError
from vimdeploy.models.deit.architecture import DeiTArchitecture
from vimdeploy.models.deit.config import VARIANTS, DeiTConfig
from vimdeploy.models.deit.network import DeiT
from vimdeploy.models.heads.classification import Classifier

DEIT = DeiTArchitecture()
TINY = VARIANTS["deit_tiny_patch16_224"]


def checkpoint_of(config):
    """As DeiT is released; the tensors have shapes and no values."""
    with torch.device("meta"):
        return Checkpoint("weights.pth", "", "model", released_names(Classifier(DeiT(config))))


def test_the_config_of_its_numbers():
    assert DEIT.config({"dim": 24, "heads": 3, "image_size": [32, 48]}) == DeiTConfig(24, 3, (32, 48))
    with pytest.raises(ConfigError, match="There is no field"):
        DEIT.config({"dim": 24, "heads": 3, "rotary": True})


@pytest.mark.parametrize("any_size", [False, True])
def test_it_is_made_for_one_image_size_or_for_every(any_size):
    backbone = DEIT.backbone(DeiTConfig(24, 3, depth=1), any_size)
    assert (type(backbone), backbone.any_size) == (DeiT, any_size)


def test_nobody_has_listed_its_stages():
    assert DEIT.stages(TINY.config) == ()


class TestFromCheckpoint:
    @pytest.mark.parametrize("variant", VARIANTS.values(), ids=lambda variant: variant.name)
    def test_its_own_variant(self, variant):
        held = DEIT.from_checkpoint(checkpoint_of(variant.config), variant)
        assert (held.config, held.passed_over) == (variant.config, ())
        with torch.device("meta"):
            assert held.tensors.keys() == Classifier(DeiT(variant.config)).state_dict().keys()

    def test_other_classes_are_the_files(self):
        config = TINY.config.replace(num_classes=10)
        assert DEIT.from_checkpoint(checkpoint_of(config), TINY).config == config

    @pytest.mark.parametrize(
        ("variant", "other"), list(itertools.permutations(VARIANTS.values(), 2)), ids=lambda variant: variant.name
    )
    def test_another_variant_names_the_fitting_one(self, variant, other):
        with pytest.raises(CheckpointError, match=rf"not a checkpoint of {other.name}: .*file fits {variant.name}\."):
            DEIT.from_checkpoint(checkpoint_of(variant.config), other)

    def test_no_released_variant(self):
        message = r"and 197 tokens, found dim 192, depth 7 and 197 tokens; it fits none of the released variants\."
        with pytest.raises(CheckpointError, match=message):
            DEIT.from_checkpoint(checkpoint_of(TINY.config.replace(depth=7)), TINY)

    def test_a_backbone_without_a_head(self):
        checkpoint = checkpoint_of(TINY.config)
        del checkpoint.tensors["head.weight"], checkpoint.tensors["head.bias"]
        assert DEIT.from_checkpoint(checkpoint, TINY).config == TINY.config

    @pytest.mark.parametrize(
        "tensors",
        [
            {"conv1.weight": torch.zeros(1)},
            {"pos_embed": torch.zeros(1, 197, 192), "layers.0.norm.weight": torch.zeros(192)},
            {"pos_embed": torch.zeros(197, 192), "blocks.0.norm1.weight": torch.zeros(192)},
        ],
        ids=lambda tensors: next(reversed(tensors)),
    )
    def test_no_deit(self, tensors):
        message = rf"holds no DeiT: wanted .*, found {len(tensors)} tensors that begin with: {', '.join(tensors)}\."
        with pytest.raises(CheckpointError, match=message):
            DEIT.from_checkpoint(Checkpoint("weights.pth", "", "model", tensors), TINY)


def test_another_image_size_resizes_the_grid_and_leaves_the_class_row():
    config = DeiTConfig(24, 3, (32, 48), depth=1)
    rows = torch.randn(1, 7, 24, generator=torch.Generator().manual_seed(0))
    rows[:, 1:] = torch.arange(3.0).repeat(2)[None, :, None]  # columns 0, 1, 2
    resized = DEIT.at_image_size({"backbone.pos_embed": rows}, config, (64, 48))["backbone.pos_embed"]
    assert torch.equal(resized[:, 0], rows[:, 0])
    torch.testing.assert_close(resized[:, 1:], torch.arange(3.0).repeat(4)[None, :, None].expand(1, 12, 24))
