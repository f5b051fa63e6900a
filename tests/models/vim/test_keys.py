import dataclasses
import itertools
import json

import pytest
import torch
from helpers.released import released_names

from vimdeploy.checkpoint import Checkpoint
from vimdeploy.errors import CheckpointError, VimdeployWarning
from vimdeploy.models.heads.classification import Classifier
from vimdeploy.models.variant import Variant
from vimdeploy.models.vim.config import VARIANTS, VimConfig
from vimdeploy.models.vim.keys import model_from_checkpoint, variant_of
from vimdeploy.models.vim.network import Vim

TINY = VARIANTS["vim_tiny_patch16_224"]
SMALL = VARIANTS["vim_small_patch16_224"]
DENSE = {"class_token": "none", "final_norm": False}
"""What is the same of all backbones of hustvl/Vim's seg and det folders."""


def checkpoint_of(tensors):
    return Checkpoint("weights.pth", "", "model", tensors)


def classifier(config):
    """As hustvl/Vim releases it; the tensors have shapes and no values."""
    with torch.device("meta"):
        return checkpoint_of(released_names(Classifier(Vim(config))))


def backbone(config, prefix="", rope=None):
    """The tensors of a dense backbone as its toolbox saves them.

    Args:
        config: with the image size and the widths.
        prefix: of the toolbox.
        rope: rows and columns of its rotary embedding; None if it has none.
    """
    with torch.device("meta"):
        own = Vim(config.replace(**DENSE)).state_dict()
        own["norm_f.weight"] = torch.empty(config.dim)  # upstream makes it and does not use it
        if rope:
            own |= {f"rope.freqs_{wave}": torch.empty(rope, config.dim) for wave in ("cos", "sin")}
    return {prefix + name: tensor for name, tensor in own.items()}


BESIDE_SEG = (
    "backbone.fpn1.0.weight",
    "backbone.fpn1.1.running_mean",
    "backbone.fpn1.1.num_batches_tracked",
    "backbone.fpn2.0.bias",
    "decode_head.conv_seg.weight",
    "decode_head.psp_modules.0.1.conv.weight",
    "auxiliary_head.conv_seg.bias",
)
BESIDE_DET = (
    "backbone.simfp_2.0.weight",
    "backbone.simfp_5.1.norm.bias",
    "proposal_generator.rpn_head.conv.weight",
    "roi_heads.box_predictor.0.cls_score.weight",
)


def seg(config, rope=None):
    """A checkpoint of mmsegmentation."""
    return checkpoint_of(backbone(config, "backbone.", rope) | dict.fromkeys(BESIDE_SEG, torch.zeros(1)))


def det(config, rope=None):
    """A checkpoint of detectron2."""
    return checkpoint_of(backbone(config, "backbone.net.", rope) | dict.fromkeys(BESIDE_DET, torch.zeros(1)))


class TestClassifiers:
    """What a checkpoint holds, by the shapes of its tensors."""

    @pytest.mark.parametrize("variant", VARIANTS.values(), ids=lambda variant: variant.name)
    def test_its_own_variant(self, variant):
        held = model_from_checkpoint(classifier(variant.config), variant)
        assert (held.config, held.passed_over) == (variant.config, ())
        with torch.device("meta"):
            assert held.tensors.keys() == Classifier(Vim(variant.config)).state_dict().keys()

    @pytest.mark.parametrize(
        ("variant", "other"), list(itertools.permutations(VARIANTS.values(), 2)), ids=lambda variant: variant.name
    )
    def test_another_variant_names_the_fitting_one(self, variant, other):
        with pytest.raises(
            CheckpointError, match=rf"not a checkpoint of {other.name}: .*this file fits {variant.name}\."
        ):
            model_from_checkpoint(classifier(variant.config), other)

    def test_the_message_tells_tokens(self):
        plus = VARIANTS["vim_tiny_patch16_stride8_224"]
        with pytest.raises(CheckpointError, match="depth 24 and 197 tokens, found dim 192, depth 24 and 730 tokens"):
            model_from_checkpoint(classifier(plus.config), TINY)

    def test_no_released_variant(self, tiny):
        with pytest.raises(CheckpointError, match="it fits none of the released variants"):
            model_from_checkpoint(classifier(tiny.config), TINY)

    @pytest.mark.parametrize("size", [64, 160, 384, 512])
    def test_another_image_size_is_the_files(self, size):
        config = TINY.config.replace(image_size=(size, size))
        assert model_from_checkpoint(classifier(config), TINY).config == config

    @pytest.mark.parametrize("classes", [1, 10, 21841])
    def test_other_classes_are_the_files(self, classes):
        config = TINY.config.replace(num_classes=classes)
        assert model_from_checkpoint(classifier(config), TINY).config == config

    @pytest.mark.parametrize("class_token", ["first", "none"])
    def test_what_shapes_do_not_tell_is_the_variants(self, tiny, class_token):
        config = tiny.config.replace(class_token=class_token, direction_scale=1.0)
        assert model_from_checkpoint(classifier(config), Variant("mine", "vim", config)).config == config

    def test_an_image_that_is_not_square_is_the_variants(self, tiny):
        config = tiny.config.replace(image_size=(16, 48))
        assert model_from_checkpoint(classifier(config), Variant("mine", "vim", config)).config == config

    def test_a_number_of_patches_that_is_no_square(self, tiny):
        with pytest.raises(CheckpointError, match=r"wanted .* 17 tokens, found .* 11 tokens"):
            model_from_checkpoint(classifier(tiny.config.replace(image_size=(16, 40))), tiny)

    def test_no_vim(self):
        checkpoint = checkpoint_of({"conv1.weight": torch.zeros(1), "fc.bias": torch.zeros(1)})
        with pytest.raises(
            CheckpointError, match=r"holds no Vim of two directions.*begin with: conv1\.weight, fc\.bias"
        ):
            model_from_checkpoint(checkpoint, TINY)

    def test_unknown_names_are_handed_on_to_be_refused(self, tiny):
        checkpoint = classifier(tiny.config)
        checkpoint.tensors["extra.weight"] = torch.zeros(1)
        assert "backbone.extra.weight" in model_from_checkpoint(checkpoint, tiny).tensors

    def test_a_backbone_without_a_head(self, tiny):
        checkpoint = classifier(tiny.config)
        del checkpoint.tensors["head.weight"], checkpoint.tensors["head.bias"]
        held = model_from_checkpoint(checkpoint, tiny)
        assert held.config == tiny.config
        assert not [name for name in held.tensors if name.startswith("head.")]


UPSTREAM = "vim_tiny_patch16_224_bimambav2_final_pool_mean_abs_pos_embed"


def said(config, name="", image_size=None):
    """A checkpoint whose training state names its model."""
    return dataclasses.replace(classifier(config), model_name=name, image_size=image_size)


class TestWhatItSays:
    """A training state's own args, against what the shapes of its tensors do not tell."""

    @pytest.mark.parametrize("variant", VARIANTS.values(), ids=lambda variant: variant.name)
    def test_a_released_one_is_as_its_entry_point_says(self, variant):
        checkpoint = said(variant.config, variant.upstream_name, (224, 224))
        assert model_from_checkpoint(checkpoint, variant).config == variant.config

    @pytest.mark.parametrize(
        "name", ["", "vim", "vim_tiny_patch16_224", "resnet50", f"{UPSTREAM}_with_middle_cls_token_div2"]
    )
    def test_names_that_contradict_nothing(self, name):
        assert model_from_checkpoint(said(TINY.config, name), TINY).config == TINY.config

    @pytest.mark.parametrize(
        ("name", "size", "differs", "cure"),
        [
            (
                f"{UPSTREAM}_with_cls_token",
                None,
                "class_token first, direction_scale 1.0; {} has class_token middle, direction_scale 0.5",
                {"class_token": "first", "direction_scale": 1.0},
            ),
            (f"{UPSTREAM}_with_cls_token_div2", None, "class_token first; {} has", {"class_token": "first"}),
            (f"{UPSTREAM}_with_midclstok", None, "direction_scale 1.0; {} has", {"direction_scale": 1.0}),
            (
                TINY.upstream_name,
                (112, 448),
                "image_size (112, 448); {} has image_size (224, 224)",
                {"image_size": [112, 448]},
            ),
            (
                TINY.upstream_name.replace("patch16", "patch16_stride8"),
                (120, 120),
                "stride 8, image_size (120, 120); {} has stride 16, image_size (224, 224)",
                {"image_size": [120, 120], "stride": 8},
            ),
        ],
    )
    def test_a_contradiction_of_a_released_one_is_refused_with_the_cure(self, name, size, differs, cure):
        with pytest.raises(CheckpointError) as caught:
            model_from_checkpoint(said(TINY.config, name, size), TINY)
        message = str(caught.value)
        assert f"says that it was trained as {name} with {differs.format(TINY.name)}" in message
        described = json.loads(message[message.index("{") : message.rindex("}") + 1])
        assert described == {"config": {"dim": 192, **cure}}

    def test_the_cure_is_taken(self):
        config = TINY.config.replace(class_token="first", direction_scale=1.0)
        checkpoint = said(config, f"{UPSTREAM}_with_cls_token", (224, 224))
        assert model_from_checkpoint(checkpoint, Variant("mine", "vim", config)).config == config

    def test_what_somebody_described_goes_before_and_is_said(self):
        mine = Variant("mine", "vim", TINY.config)
        with pytest.warns(
            VimdeployWarning, match=r"class_token first.*; mine has class_token middle.*, which is taken\."
        ):
            held = model_from_checkpoint(said(TINY.config, f"{UPSTREAM}_with_cls_token"), mine)
        assert held.config == TINY.config

    def test_a_size_that_cannot_be(self):
        with pytest.raises(CheckpointError, match=r"image_size \(9, 9\).*give that as VARIANT\.$"):
            model_from_checkpoint(said(TINY.config, TINY.upstream_name, (9, 9)), TINY)


class TestMisfits:
    @pytest.mark.parametrize("channels", [1, 2, 4, 12])
    def test_other_channels_are_told_with_a_description(self, channels):
        config = TINY.config.replace(in_channels=channels, num_classes=10)
        with pytest.raises(
            CheckpointError, match=f"it takes pictures of {channels} channels, the variant takes 3"
        ) as caught:
            model_from_checkpoint(classifier(config), TINY)
        assert str(caught.value).endswith(
            f'{{"config": {{"dim": 192, "in_channels": {channels}, "num_classes": 10}}, "recipe": {{"mean": '
            f'[{channels} values], "std": [{channels} values]}}}}.'
        )
        assert model_from_checkpoint(classifier(config), Variant("mine", "vim", config)).config == config

    def test_no_class_token_is_told(self):
        with pytest.raises(
            CheckpointError, match=r"197 tokens, class_token middle, found .* 196 tokens, class_token none"
        ):
            model_from_checkpoint(classifier(TINY.config.replace(class_token="none")), TINY)

    @pytest.mark.parametrize("name", ["pos_embed", "layers.0.mixer.A_log", "patch_embed.proj.weight", "head.weight"])
    @pytest.mark.parametrize("shape", [(), (0,), (1, 0, 3), (1, 2, 3, 4, 5)], ids=str)
    def test_shapes_that_no_vim_has(self, tiny, name, shape):
        checkpoint = classifier(tiny.config)
        checkpoint.tensors[name] = torch.zeros(shape)
        with pytest.raises(CheckpointError, match=r"holds no Vim of two directions: a tensor is not of the shape"):
            model_from_checkpoint(checkpoint, tiny)

    def test_a_depth_that_no_vim_has(self, tiny):
        checkpoint = classifier(tiny.config)
        checkpoint.tensors["layers.999999999.norm.weight"] = torch.zeros(1)
        with pytest.raises(CheckpointError, match="holds no Vim that can be: depth must be at most 1000"):
            model_from_checkpoint(checkpoint, tiny)

    def test_long_names_are_shortened(self, tiny):
        checkpoint = checkpoint_of({"x" * 10**6 + str(i): torch.zeros(1) for i in range(9)})
        with pytest.raises(CheckpointError) as caught:
            model_from_checkpoint(checkpoint, tiny)
        assert len(str(caught.value)) < 500


class TestDense:
    """Backbones of segmentation and detection."""

    @pytest.mark.parametrize("side", [224, 512])
    @pytest.mark.parametrize(
        ("checkpoint", "rope", "wired"),
        [
            (seg, None, {"rotary": False, "block_feature": "mixer"}),
            (seg, 1024, {"rotary": True, "block_feature": "rotated"}),
            (det, None, {"rotary": False, "block_feature": "residual"}),
            (det, 4096, {"rotary": True, "block_feature": "residual"}),
        ],
    )
    @pytest.mark.parametrize("variant", [TINY, SMALL], ids=lambda variant: variant.name)
    def test_the_config_is_as_upstream_wires_it(self, variant, checkpoint, rope, wired, side):
        config = variant.config.replace(image_size=(side, side))
        held = model_from_checkpoint(checkpoint(config, rope), variant)
        assert held.config == config.replace(**DENSE, **wired)

    @pytest.mark.parametrize(
        ("checkpoint", "prefix", "beside"), [(seg, "backbone.", BESIDE_SEG), (det, "backbone.net.", BESIDE_DET)]
    )
    def test_all_is_taken_but_what_nobody_reads(self, checkpoint, prefix, beside):
        held = model_from_checkpoint(checkpoint(TINY.config, rope=196), TINY)
        with torch.device("meta"):
            wanted = Vim(held.config).state_dict()
        own = {name.removeprefix("backbone."): tensor.shape for name, tensor in held.tensors.items()}
        assert {name: own.pop(name) for name in wanted} == {name: tensor.shape for name, tensor in wanted.items()}
        weights = {name for name in beside if not name.endswith("num_batches_tracked")}
        assert {held.names.get(name, name) for name in own} == weights
        assert all(name.startswith("neck.") for name in held.names)
        computed = {prefix + name for name in ("norm_f.weight", "rope.freqs_cos", "rope.freqs_sin")}
        assert set(held.passed_over) == computed

    @pytest.mark.parametrize("feature", ["mixer", "rotated"])
    def test_another_block_feature_is_the_variants(self, feature):
        config = TINY.config.replace(**DENSE, rotary=True, block_feature=feature)
        held = model_from_checkpoint(det(TINY.config, rope=196), Variant("mine", "vim", config))
        assert held.config.block_feature == feature

    def test_a_class_token_of_the_variant_does_not_matter(self, tiny):
        for class_token in ("middle", "first", "none"):
            variant = Variant("mine", "vim", tiny.config.replace(class_token=class_token))
            assert model_from_checkpoint(seg(tiny.config), variant).config.class_token == "none"

    @pytest.mark.parametrize("checkpoint", [seg, det])
    def test_another_variant_names_the_fitting_one(self, checkpoint):
        with pytest.raises(CheckpointError, match=rf"not a checkpoint of {SMALL.name}: .*this file fits {TINY.name}\."):
            model_from_checkpoint(checkpoint(TINY.config), SMALL)

    def test_a_class_token_that_upstream_does_not_have_is_handed_on_to_be_refused(self):
        checkpoint = seg(TINY.config)
        checkpoint.tensors["backbone.cls_token"] = torch.zeros(1, 1, 192)
        assert "backbone.cls_token" in model_from_checkpoint(checkpoint, TINY).tensors

    def test_a_checkpoint_of_another_backbone(self):
        tensors = {"backbone.conv1.weight": torch.zeros(1), "decode_head.conv_seg.weight": torch.zeros(1)}
        with pytest.raises(CheckpointError, match=r"holds no Vim of two directions.*begin with: backbone\.conv1\.weig"):
            model_from_checkpoint(checkpoint_of(tensors), TINY)


class TestVariantOf:
    @pytest.mark.parametrize("variant", VARIANTS.values(), ids=lambda variant: variant.name)
    def test_a_released_one(self, variant):
        assert variant_of(classifier(variant.config)) is variant

    @pytest.mark.parametrize("changes", [{"num_classes": 10}, {"image_size": (384, 384)}], ids=str)
    def test_one_that_was_trained_on(self, changes):
        assert variant_of(classifier(SMALL.config.replace(**changes))) is SMALL

    @pytest.mark.parametrize("checkpoint", [seg, det])
    def test_a_backbone(self, checkpoint):
        assert variant_of(checkpoint(SMALL.config.replace(image_size=(512, 512)), rope=1024)) is SMALL

    def test_another_one(self):
        config = VimConfig(dim=128, depth=12)
        with pytest.raises(
            CheckpointError, match=r"fits none of the released variants: it has dim 128 and depth 12; .* NAME\.json\.$"
        ):
            variant_of(classifier(config))

    def test_no_vim(self):
        with pytest.raises(CheckpointError, match="holds no Vim of two directions"):
            variant_of(checkpoint_of({"conv1.weight": torch.zeros(1)}))


def test_a_classifier_under_our_own_names():
    with torch.device("meta"):
        tensors = Classifier(Vim(TINY.config)).state_dict()
    found = model_from_checkpoint(checkpoint_of(tensors), TINY)
    assert (found.config, found.passed_over) == (TINY.config, ())
    assert found.tensors.keys() == tensors.keys()
