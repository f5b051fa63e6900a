import dataclasses
import json

import pytest
import torch
from helpers.dense import MINE, toolbox_names
from helpers.released import released_names

from vimdeploy.checkpoint import Checkpoint, load_checkpoint
from vimdeploy.errors import CheckpointError, ConfigError, MissingPackageError, ModelFileError
from vimdeploy.model_info import FromCheckpoint, FromSeed, ModelInfo, SizeRange, TensorSpec
from vimdeploy.models.deit.config import DeiTConfig
from vimdeploy.models.heads.classification import Classifier
from vimdeploy.models.heads.features import FeatureExtractor
from vimdeploy.models.variant import Variant
from vimdeploy.models.vim.network import resize_pos_embed
from vimdeploy.networks import AnySize, network_of_info, network_of_variant, stages_of
from vimdeploy.recipe import Recipe
from vimdeploy.tasks import TASKS

DEIT = Variant("small deit", "deit", DeiTConfig(24, 3, (32, 48), depth=2, num_classes=7))


def checkpoint_of(tensors, sha256="abc"):
    return Checkpoint("weights.pth", sha256, "model", dict(tensors))


def dense(model, prefix, beside=()):
    """A toolbox's checkpoint of the same weights: no class token, no last norm."""
    own = {
        name: tensor
        for name, tensor in released_names(model).items()
        if name not in ("cls_token", "norm_f.weight") and not name.startswith("head.")
    }
    own["pos_embed"] = torch.cat([own["pos_embed"][:, :8], own["pos_embed"][:, 9:]], dim=1)
    return checkpoint_of({prefix + name: tensor for name, tensor in own.items()} | dict.fromkeys(beside, torch.ones(1)))


def assert_same_weights(found, wanted):
    found, wanted = found.state_dict(), wanted.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


class TestInfo:
    """What the file of a network will say of itself."""

    def test_of_a_classifier(self, tiny, tiny_network):
        info = tiny_network.info
        assert info == ModelInfo(
            name="tiny",
            inputs=(TensorSpec("images", ("batch", 3, 32, 32)),),
            outputs=(TensorSpec("logits", ("batch", 5)),),
            task="classification",
            architecture="vim",
            config=info.config,
            recipe=Recipe(),
            labels=tiny.labels,
            origin=FromSeed(0),
        )
        assert json.loads(json.dumps(info.config)) == info.config
        assert (info.config["image_size"], info.config["dim"], info.config["dt_rank"]) == ([32, 32], 16, 1)

    def test_of_features(self, tiny):
        info = network_of_variant(tiny, 0, "features", blocks=(1,)).info
        assert info.outputs == (
            TensorSpec("map", ("batch", 16, 4, 4)),
            TensorSpec("pooled", ("batch", 16)),
            TensorSpec("block_1", ("batch", 16, 4, 4)),
        )
        assert (info.task, info.labels) == ("features", ())

    @pytest.mark.parametrize("ema", [False, True])
    def test_of_a_checkpoint(self, tiny, tiny_pth, ema):
        checkpoint = load_checkpoint(tiny_pth, ema)
        info = network_of_variant(tiny, checkpoint, ema=ema).info
        assert info.origin == FromCheckpoint(checkpoint.sha256, ema)

    def test_of_another_image_size_keeps_the_trained_one(self, tiny):
        info = network_of_variant(tiny, 0, image_size=(16, 48)).info
        assert (info.image_size, info.config["image_size"]) == ((16, 48), [32, 32])

    def test_of_any_size(self, tiny):
        info = network_of_variant(tiny, 0, "features", AnySize()).info
        assert info.inputs[0].dims == ("batch", 3, "height", "width")
        assert info.outputs[0].dims == ("batch", 16, "rows", "columns")
        assert info.sizes == {word: SizeRange(16, None, 8, 32) for word in ("height", "width")}

    @pytest.mark.parametrize("task", ["classification", "features"])
    def test_outputs_are_what_the_module_gives(self, tiny, task):
        module, info, _ = network_of_variant(Variant("mine", "vim", tiny.config), 0, task, (16, 48))
        given = module(torch.zeros(2, 3, 16, 48))
        shapes = [tuple(value.shape) for value in (given if isinstance(given, tuple) else (given,))]
        assert shapes == [(2, *spec.dims[1:]) for spec in info.outputs]


class TestWeights:
    def test_a_checkpoint_comes_back(self, tiny, tiny_model):
        network = network_of_variant(tiny, checkpoint_of(released_names(tiny_model)))
        assert_same_weights(network.module, tiny_model)
        assert network.passed_over == ()
        assert not network.module.training

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_weights_of_other_types_become_float32(self, tiny, tiny_model, dtype):
        tensors = {name: value.to(dtype) for name, value in released_names(tiny_model).items()}
        module = network_of_variant(tiny, checkpoint_of(tensors)).module
        assert torch.equal(module.head.weight, tensors["head.weight"].float())
        assert {value.dtype for value in module.state_dict().values()} == {torch.float32}

    def test_a_network_does_not_share_memory_with_the_checkpoint(self, tiny, tiny_model):
        tensors = {name: value.clone() for name, value in released_names(tiny_model).items()}
        module = network_of_variant(tiny, checkpoint_of(tensors)).module
        tensors["head.bias"].fill_(7)
        assert torch.equal(module.head.bias, tiny_model.head.bias)

    def test_a_network_can_be_trained_on(self, tiny, tiny_model):
        module = network_of_variant(tiny, checkpoint_of(released_names(tiny_model))).module
        assert all(parameter.requires_grad for parameter in module.parameters())

    @pytest.mark.parametrize("task", ["classification", "features"])
    def test_another_image_size_has_the_resized_embedding(self, tiny, tiny_model, task):
        checkpoint = checkpoint_of(released_names(tiny_model))
        module = network_of_variant(tiny, checkpoint, task, (64, 32)).module
        assert module.backbone.config.image_size == (64, 32)
        wanted = resize_pos_embed(tiny_model.backbone.pos_embed.detach(), tiny.config, 8, 4)
        assert torch.equal(module.backbone.pos_embed.detach(), wanted)

    def test_any_size_has_the_embedding_as_it_was_trained(self, tiny, tiny_model):
        module = network_of_variant(tiny, checkpoint_of(released_names(tiny_model)), image_size=AnySize()).module
        assert_same_weights(module, tiny_model)
        assert module(torch.zeros(1, 3, 24, 40)).shape == (1, 5)

    def test_missing_and_unused_keys_are_listed(self, tiny, tiny_model):
        tensors = released_names(tiny_model)
        tensors["extra.weight"] = tensors.pop("layers.1.norm.weight")
        message = r"Missing \(1\): layers\.1\.norm\.weight\. Unused \(1\): extra\.weight\."
        with pytest.raises(CheckpointError, match=message):
            network_of_variant(tiny, checkpoint_of(tensors))

    def test_other_shapes_are_listed(self, tiny, tiny_model):
        tensors = released_names(tiny_model) | {"head.bias": torch.zeros(9)}
        with pytest.raises(CheckpointError, match=r"1 shapes .*head\.bias: wanted \[5\], found \[9\]"):
            network_of_variant(tiny, checkpoint_of(tensors))

    def test_labels_of_other_classes(self, tiny):
        other = dataclasses.replace(tiny, labels=("only", "two"))
        with pytest.raises(ConfigError, match="Wanted 5 labels, one per class; found 2"):
            network_of_variant(other, 0)
        assert network_of_variant(other, 0, "features").info.labels == ()

    def test_a_deit(self):
        network = network_of_variant(DEIT, 0, image_size=(64, 32))
        again = network_of_variant(DEIT, checkpoint_of(released_names(network_of_variant(DEIT, 0).module)), "features")
        assert isinstance(network.module, Classifier)
        assert network.module(torch.zeros(1, 3, 64, 32)).shape == (1, 7)
        assert again.info.outputs[0].dims == ("batch", 24, 2, 3)
        assert again.passed_over == ("head.bias", "head.weight")

    def test_without_torch_names_the_extra(self, tiny, tiny_info, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "torch", None)
        for make in (lambda: network_of_variant(tiny, 0), lambda: network_of_info(tiny_info, None)):
            with pytest.raises(MissingPackageError, match=r"pip install '.*\[export\]'"):
                make()


class TestValues:
    """Weights are finite real numbers."""

    @pytest.mark.parametrize(
        ("change", "found"),
        [
            (lambda weight: weight.to(torch.complex64), "complex64"),
            (lambda weight: weight.to(torch.int8), "int8"),
            (lambda weight: weight.to(torch.float8_e4m3fn), "float8_e4m3fn"),
            (lambda weight: torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8), "qint8"),
            (lambda weight: weight.to_sparse(), "sparse"),
            (lambda weight: weight.to("meta"), "without values"),
            (lambda weight: weight > 0, "bool"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    @pytest.mark.filterwarnings("ignore")
    def test_of_another_kind(self, tiny, tiny_model, change, found):
        tensors = released_names(tiny_model)
        tensors["head.weight"] = change(tensors["head.weight"])
        with pytest.raises(CheckpointError) as caught:
            network_of_variant(tiny, checkpoint_of(tensors))
        assert str(caught.value) == (
            f"Wanted weights of float16, bfloat16, float32 or float64; the checkpoint's head.weight is {found}. "
            "Save the weights in float32 (tensor.float())."
        )

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
    def test_not_finite(self, tiny, tiny_model, value):
        tensors = released_names(tiny_model)
        tensors["layers.1.mixer.D"] = torch.full((32,), value, dtype=torch.float64)
        with pytest.raises(CheckpointError, match=r"layers\.1\.mixer\.D has values that are not finite in float32"):
            network_of_variant(tiny, checkpoint_of(tensors))

    @pytest.mark.parametrize("type_", [torch.float16, torch.bfloat16, torch.float64])
    def test_of_another_precision_are_made_float32(self, tiny, tiny_model, type_):
        tensors = {name: tensor.to(type_) for name, tensor in released_names(tiny_model).items()}
        module = network_of_variant(tiny, checkpoint_of(tensors)).module
        assert torch.equal(module.head.weight, tensors["head.weight"].float())

    def test_what_a_checkpoint_has_beside_the_model_is_passed_over(self, tiny, tiny_model):
        checkpoint = Checkpoint("w.pth", "", "model", released_names(tiny_model), passed_over=("criterion.weight",))
        assert network_of_variant(tiny, checkpoint).passed_over == ("criterion.weight",)


class TestRandomWeights:
    def test_a_seed_gives_the_same_weights(self, tiny):
        assert_same_weights(*(network_of_variant(tiny, 3).module for _ in range(2)))

    def test_another_seed_gives_others(self, tiny):
        first, second = (network_of_variant(tiny, seed).module for seed in (3, 4))
        assert not torch.equal(first.head.weight, second.head.weight)

    @pytest.mark.parametrize("image_size", [None, (64, 64), AnySize()], ids=str)
    def test_the_callers_random_numbers_go_on_undisturbed(self, tiny, tiny_model, image_size):
        checkpoint = checkpoint_of(released_names(tiny_model))
        torch.manual_seed(0)
        wanted = torch.rand(1)
        torch.manual_seed(0)
        network_of_variant(tiny, 3, image_size=image_size)
        network_of_variant(tiny, checkpoint, image_size=image_size)
        assert torch.rand(1) == wanted

    def test_a_backbone_has_the_classifiers_weights(self, tiny, tiny_model):
        module = network_of_variant(tiny, 0, "features").module
        assert_same_weights(module.backbone, tiny_model.backbone)


class TestBackbones:
    """Checkpoints of segmentation and detection."""

    SEG = ("decode_head.conv_seg.weight", "auxiliary_head.conv_seg.bias", "backbone.fpn1.0.weight")
    DET = ("proposal_generator.rpn_head.conv.weight", "roi_heads.mask_head.bias", "backbone.simfp_2.0.weight")

    @pytest.mark.parametrize(
        ("prefix", "beside", "feature"), [("backbone.", SEG, "mixer"), ("backbone.net.", DET, "residual")]
    )
    def test_give_features(self, tiny, tiny_model, prefix, beside, feature):
        checkpoint = dense(tiny_model, prefix, beside)
        module, info, passed_over = network_of_variant(tiny, checkpoint, "features", blocks=(0,))
        assert isinstance(module, FeatureExtractor)
        assert set(passed_over) == set(beside)
        assert (info.config["class_token"], info.config["block_feature"]) == ("none", feature)
        assert torch.equal(module.backbone.layers[1].mixer.A_log, tiny_model.backbone.layers[1].mixer.A_log)
        assert [tuple(value.shape) for value in module(torch.zeros(1, 3, 32, 32))] == [
            (1, 16, 4, 4),
            (1, 16),
            (1, 16, 4, 4),
        ]

    @pytest.mark.parametrize(("prefix", "beside"), [("backbone.", SEG), ("backbone.net.", DET), ("", ())])
    def test_are_no_classifiers(self, tiny, tiny_model, prefix, beside):
        if prefix:
            checkpoint = dense(tiny_model, prefix, beside)
        else:  # a state dict of a backbone alone
            checkpoint = checkpoint_of(
                {name: value for name, value in released_names(tiny_model).items() if not name.startswith("head.")}
            )
        with pytest.raises(CheckpointError) as caught:
            network_of_variant(tiny, checkpoint)
        assert str(caught.value).startswith("The checkpoint is for --task ")
        assert ": it has no classifier head, which --task classification wants." in str(caught.value)

    @pytest.mark.parametrize(
        ("made", "prefix", "tasks"),
        [
            ("classification", "", {"classification", "features"}),
            ("features", "", {"features"}),
            ("pyramid", "backbone.", {"features", "pyramid"}),
            ("segment", "backbone.", {"features", "pyramid", "segment"}),
            ("detect", "backbone.net.", {"features", "pyramid", "detect"}),
        ],
    )
    def test_of_one_task_say_which_it_is_to_others(self, made, prefix, tasks):
        checkpoint = checkpoint_of(toolbox_names(network_of_variant(MINE, 0, made).module, prefix))
        for task in tasks:
            assert network_of_variant(MINE, checkpoint, task).info.task == task
        for task in set(TASKS) - tasks:
            with pytest.raises(CheckpointError) as caught:
                network_of_variant(MINE, checkpoint, task)
            found = str(caught.value)
            assert found.startswith(f"The checkpoint is for --task {made}: it has no ")
            assert f", which --task {task} wants." in found
            assert found.endswith(" --task features takes its backbone alone.") == (made != "features")

    @pytest.mark.parametrize("prefix", ["backbone.", "backbone.net."])
    def test_a_tensor_that_is_not_there(self, tiny, tiny_model, prefix):
        checkpoint = dense(tiny_model, prefix)
        del checkpoint.tensors[f"{prefix}layers.1.mixer.D_b"]
        with pytest.raises(CheckpointError, match=r"Missing \(1\): layers\.1\.mixer\.D_b\. Unused \(0\): none"):
            network_of_variant(tiny, checkpoint, "features")

    def test_a_classifiers_head_is_passed_over(self, tiny, tiny_model):
        network = network_of_variant(tiny, checkpoint_of(released_names(tiny_model)), "features")
        assert network.passed_over == ("head.bias", "head.weight")

    def test_come_back_from_the_info(self, tiny, tiny_model):
        checkpoint = dense(tiny_model, "backbone.", self.SEG)
        network = network_of_variant(tiny, checkpoint, "features", AnySize(), blocks=(1, 0))
        again = network_of_info(ModelInfo.from_metadata(network.info.to_metadata()), checkpoint)
        assert_same_weights(again.module, network.module)
        assert again.module.blocks == (1, 0)
        assert again.module.backbone.config == network.module.backbone.config


class TestAnySize:
    @pytest.mark.parametrize(
        ("any_size", "height", "width"),
        [
            (AnySize(), SizeRange(16, None, 8, 32), SizeRange(16, None, 8, 32)),
            (AnySize((24, 40)), SizeRange(24, None, 8, 32), SizeRange(40, None, 8, 40)),
            (AnySize(most=(24, 512)), SizeRange(16, 24, 8, 24), SizeRange(16, 512, 8, 32)),
            (AnySize((48, 16), (64, 24)), SizeRange(48, 64, 8, 48), SizeRange(16, 24, 8, 24)),
        ],
        ids=str,
    )
    def test_its_bounds(self, tiny, any_size, height, width):
        assert network_of_variant(tiny, 0, image_size=any_size).info.sizes == {"height": height, "width": width}

    @pytest.mark.parametrize(
        ("any_size", "message"),
        [
            (AnySize((20, 16)), "every 8 do not divide an image height of 20; the nearest .* 16 and 24"),
            (AnySize((16, 20)), "every 8 do not divide an image width of 20"),
            (AnySize(most=(64, 65)), "do not divide an image width of 65"),
            (AnySize((8, 16)), "bounds of the image height must ascend from 16 on, found 8"),
            (AnySize((16, 64), (64, 32)), "bounds of the image width must ascend from 16 on, found 64, 32"),
            (AnySize((32, 32), (32, 64)), "bounds of the image height must ascend from 16 on, found 32, 32"),
        ],
        ids=str,
    )
    def test_bounds_that_cannot_be(self, tiny, any_size, message):
        with pytest.raises(ConfigError, match=message):
            network_of_variant(tiny, 0, image_size=any_size)

    @pytest.mark.parametrize("task", ["classification", "features"])
    def test_of_a_deit(self, task):
        network = network_of_variant(DEIT, 0, task, AnySize())
        assert network.info.image_size == ("height", "width")
        assert network.module.backbone.any_size


class TestWrongOptions:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                {"task": "depth"},
                "task must be one of classification, features, pyramid, segment, detect, found 'depth'",
            ),
            ({"image_size": (33, 32)}, "do not divide an image height of 33"),
            ({"blocks": (0,)}, "blocks are for the task features"),
            ({"task": "features", "blocks": (2,)}, "blocks must be different numbers from 0 to 1, found 2"),
        ],
        ids=str,
    )
    def test_are_refused(self, tiny, options, message):
        with pytest.raises(ConfigError, match=message):
            network_of_variant(tiny, 0, **options)


class TestNetworkOfInfo:
    @pytest.mark.parametrize("task", ["classification", "features"])
    @pytest.mark.parametrize("image_size", [None, (16, 48), AnySize()], ids=str)
    def test_the_same_weights_from_the_info_alone(self, tiny, task, image_size):
        network = network_of_variant(tiny, 5, task, image_size)
        again = network_of_info(ModelInfo.from_metadata(network.info.to_metadata()), None)
        assert type(again.module) is type(network.module)
        assert_same_weights(again.module, network.module)
        assert again.info == network.info

    @pytest.mark.parametrize("image_size", [None, (16, 48), AnySize()], ids=str)
    def test_the_same_weights_from_the_checkpoint(self, tiny, tiny_pth, image_size):
        checkpoint = load_checkpoint(tiny_pth)
        network = network_of_variant(tiny, checkpoint, image_size=image_size)
        assert_same_weights(network_of_info(network.info, checkpoint).module, network.module)

    def test_is_in_float32(self, tiny_info):
        info = network_of_info(dataclasses.replace(tiny_info, precision="bf16"), None).info
        assert info.precision == "fp32"

    def test_a_checkpoint_goes_before_the_seed(self, tiny, tiny_info, tiny_pth):
        checkpoint = load_checkpoint(tiny_pth, ema=True)
        assert_same_weights(network_of_info(tiny_info, checkpoint).module, network_of_variant(tiny, 1).module)

    def test_a_file_of_the_first_release(self, tiny):
        """Exported for another image size than the trained one; its config had the file's."""
        config = vars(tiny.config) | {"image_size": (16, 48)}
        new = ("rotary", "final_norm", "block_feature")
        entries = {
            "format": "1",
            "operators_version": "1",
            "variant": "tiny",
            "config": json.dumps({name: value for name, value in config.items() if name not in new}),
            "trained_image_size": "[32, 32]",
            "labels": "[]",
            "precision": "fp32",
            "weights": "random seed 5",
            "checkpoint_sha256": "",
            "versions": "{}",
            "crop": "0.875",
            "interpolation": "bicubic",
            "mean": "[0.5, 0.5, 0.5]",
            "std": "[0.5, 0.5, 0.5]",
        }
        info = ModelInfo.from_metadata({f"vimdeploy.{name}": value for name, value in entries.items()})
        wanted = network_of_variant(Variant("tiny", "vim", tiny.config), 5, image_size=(16, 48))
        assert_same_weights(network_of_info(info, None).module, wanted.module)

    def test_a_file_that_needs_a_checkpoint(self, tiny_info):
        info = dataclasses.replace(tiny_info, origin=FromCheckpoint("abc"))
        with pytest.raises(ConfigError, match="weights of tiny came from a checkpoint: give it with --checkpoint FILE"):
            network_of_info(info, None)

    def test_a_checkpoint_of_another_model(self, tiny, tiny_info):
        other = network_of_variant(Variant("mine", "vim", tiny.config.replace(dim=32)), 0).module
        with pytest.raises(
            CheckpointError, match=r"weights\.pth is not a checkpoint of tiny: wanted dim 16, .* dim 32"
        ):
            network_of_info(tiny_info, checkpoint_of(released_names(other)))

    def test_a_checkpoint_of_another_image_size(self, tiny, tiny_info):
        other = network_of_variant(Variant("mine", "vim", tiny.config.replace(image_size=(64, 64))), 0).module
        with pytest.raises(
            CheckpointError, match=r"not the checkpoint of tiny: wanted .*\[32, 32\].* found .*\[64, 64\]"
        ):
            network_of_info(tiny_info, checkpoint_of(released_names(other)))

    def test_a_checkpoint_of_other_classes(self, tiny, tiny_info):
        other = network_of_variant(Variant("mine", "vim", tiny.config.replace(num_classes=9)), 0).module
        with pytest.raises(
            CheckpointError, match=r"shapes are not those of this model: head\.weight: wanted \[5, 16\]"
        ):
            network_of_info(tiny_info, checkpoint_of(released_names(other)))

    @pytest.mark.parametrize("fields", [{"architecture": ""}, {"task": ""}])
    def test_a_model_that_somebody_brought(self, tiny_info, fields):
        with pytest.raises(ConfigError, match="tiny is a model that vimdeploy did not make; compare it with --against"):
            network_of_info(dataclasses.replace(tiny_info, **fields), None)

    @pytest.mark.parametrize("config", [{"depth": 0}, {"no_such_field": 1}, {"dim": "16"}], ids=str)
    def test_a_config_that_is_damaged(self, tiny_info, config):
        info = dataclasses.replace(tiny_info, config={**tiny_info.config, **config})
        for use in (lambda: network_of_info(info, None), lambda: stages_of(info)):
            with pytest.raises(ModelFileError, match=r"The config of tiny is damaged .*; export it again"):
                use()


class TestStagesOf:
    def test_of_a_classifier(self, tiny_info):
        names = [stage.name for stage in stages_of(tiny_info)]
        assert names[:2] == ["patch_embed", "pos_embed"]
        assert names[-3:] == ["layers.1", "norm_f", "head"]
        assert len(names) == 2 + 7 * 2 + 2

    def test_of_features(self, tiny):
        assert stages_of(network_of_variant(tiny, 0, "features").info)[-1].name == "norm_f"

    def test_of_any_size_the_position_embedding_is_a_grid(self, tiny, tiny_info):
        values = [
            stages_of(info)[1].value for info in (tiny_info, network_of_variant(tiny, 0, image_size=AnySize()).info)
        ]
        assert values == ["Add", "position.Add"]

    @pytest.mark.parametrize("fields", [{"architecture": ""}, {"task": ""}])
    def test_of_a_model_that_somebody_brought(self, tiny_info, fields):
        with pytest.raises(ConfigError, match="vimdeploy does not know the stages of tiny"):
            stages_of(dataclasses.replace(tiny_info, **fields))

    def test_of_a_deit(self):
        with pytest.raises(ConfigError, match="vimdeploy does not know the stages of small deit"):
            stages_of(network_of_variant(DEIT, 0).info)
