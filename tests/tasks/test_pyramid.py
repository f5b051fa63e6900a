import numpy as np
import pytest
import torch
from helpers import dense
from helpers.dense import CONFIG, MINE, check_proven, check_same_from_bytes, checkpoint_of, toolbox_names, verified
from helpers.seeded_faults import changed_constant
from PIL import Image

import vimdeploy
from vimdeploy.api.export import with_bytes
from vimdeploy.artifact import artifact_from_onnx
from vimdeploy.errors import CheckpointError, ConfigError, ModelFileError
from vimdeploy.exporters.onnx_graph import onnx_from_model
from vimdeploy.graphs.portable import portable
from vimdeploy.inputs import picture_inputs
from vimdeploy.model_info import ModelInfo, TensorSpec
from vimdeploy.networks import AnySize, network_of_info, network_of_variant, stages_of
from vimdeploy.preprocess import Placement
from vimdeploy.tasks.pyramid import NECKS, Pyramid, PyramidMaps, blocks_of

TASK = Pyramid()
FPN, SIMPLE = ({"neck": neck, "channels": channels} for neck, channels in (("fpn", 16), ("simple", 256)))


def made(neck="fpn", **arguments):
    return dense.made("pyramid", neck=neck, **arguments)


def toolbox(neck):
    """A checkpoint with a neck under the names of its toolbox, and with a head that a pyramid does not read."""
    network = network_of_variant(MINE, 0, "pyramid", neck=neck).module
    prefix, beside = {
        "fpn": ("backbone.", "decode_head.conv_seg.weight"),
        "simple": ("backbone.net.", "roi_heads.mask_head.bias"),
    }[neck]
    return checkpoint_of(toolbox_names(network, prefix) | {beside: torch.ones(1)})


class TestNumbers:
    def test_random_weights_have_the_neck_that_segments(self):
        assert TASK.numbers(CONFIG, {}) == FPN

    def test_or_another_one(self):
        assert TASK.numbers(CONFIG, {}, "simple") == SIMPLE

    @pytest.mark.parametrize(
        ("shapes", "numbers"),
        [
            ({"neck.fpn1.0.weight": (16, 16, 2, 2)}, FPN),
            ({"neck.simfp_4.0.weight": (192, 16, 1, 1)}, {"neck": "simple", "channels": 192}),
        ],
    )
    def test_a_checkpoint_tells(self, shapes, numbers):
        assert TASK.numbers(CONFIG, shapes) == numbers
        assert TASK.numbers(CONFIG, shapes, numbers["neck"]) == numbers

    def test_a_checkpoint_with_another_neck(self):
        with pytest.raises(
            ConfigError, match="Wanted the neck simple, the checkpoint has fpn: four maps of four blocks"
        ):
            TASK.numbers(CONFIG, {"neck.fpn1.0.weight": (16, 16, 2, 2)}, "simple")

    def test_no_such_neck(self):
        with pytest.raises(ConfigError, match="neck must be one of fpn, simple, found 'bifpn'"):
            TASK.numbers(CONFIG, {}, "bifpn")

    @pytest.mark.parametrize(
        ("changes", "neck", "message"),
        [
            ({"patch_size": 32, "stride": 32}, "fpn", "for patches of 8 or 16 pixels, found 32"),
            ({"depth": 3}, "fpn", "reads four blocks, the model has 3; take --neck simple"),
            (
                {"stride": 12, "image_size": (64, 64)},
                "simple",
                "a stride of a power of two, 4 pixels at least; found 12",
            ),
        ],
    )
    def test_models_that_have_no_such_pyramid(self, changes, neck, message):
        with pytest.raises(ConfigError, match=message):
            TASK.numbers(CONFIG.replace(**changes), {}, neck)

    @pytest.mark.parametrize("task", ["classification", "features"])
    def test_other_tasks_have_none(self, task):
        with pytest.raises(ConfigError, match=f"neck is for the task pyramid; {task} has none"):
            network_of_variant(MINE, 0, task, neck="fpn")

    @pytest.mark.parametrize(("depth", "blocks"), [(24, (5, 11, 17, 23)), (12, (2, 5, 8, 11)), (4, (0, 1, 2, 3))])
    def test_the_blocks_at_the_ends_of_quarters(self, depth, blocks):
        assert blocks_of(depth) == blocks


class TestOutputs:
    @pytest.mark.parametrize(
        ("changes", "numbers", "levels"),
        [
            ({}, FPN, {"p2": 16, "p3": 8, "p4": 4, "p5": 2}),
            ({}, SIMPLE, {"p2": 16, "p3": 8, "p4": 4, "p5": 2, "p6": 1}),
            ({"patch_size": 8, "stride": 8}, FPN, {"p2": 8, "p3": 4, "p4": 2, "p5": 1}),
            ({"stride": 8}, FPN, {"p1": 16, "p2": 8, "p3": 4, "p4": 2}),
        ],
    )
    def test_levels_are_named_by_their_stride(self, changes, numbers, levels):
        specs = TASK.outputs(CONFIG.replace(**changes), (4, 4), (), numbers)
        assert specs == tuple(
            TensorSpec(name, ("batch", numbers["channels"], side, side)) for name, side in levels.items()
        )

    def test_free_sizes_are_words(self):
        specs = TASK.outputs(CONFIG, ("rows", "columns"), (), FPN)
        assert specs[0] == TensorSpec("p2", ("batch", 16, "p2_rows", "p2_columns"))

    def test_too_few_patches(self):
        with pytest.raises(ConfigError, match="pictures of 2 patches at least down and across, found 1"):
            TASK.outputs(CONFIG, (4, 1), (), FPN)

    def test_no_blocks(self):
        with pytest.raises(ConfigError, match="blocks are for the task features"):
            TASK.outputs(CONFIG, (4, 4), (1,), FPN)


@pytest.fixture(scope="module")
def file():
    network = made()
    return onnx_from_model(network.module, network.info)


class TestInfo:
    def test_says_what_the_head_is_made_of(self):
        info = made().info
        assert (info.task, info.head, info.labels) == ("pyramid", FPN, ())
        assert ModelInfo.from_metadata(info.to_metadata()) == info

    def test_pictures_are_not_cropped(self):
        info = made().info
        assert (info.recipe.fit, info.recipe.interpolation) == ("pad", "bilinear")
        half = np.zeros((32, 128, 3), np.uint8)
        half[:, 64:] = 255
        pixels = picture_inputs([half], info).one(0)["images"]
        assert (pixels[0, :16, 2] < 0).all()
        assert (pixels[0, :16, -2] > 0).all()
        assert (pixels[:, 16:] == 0).all()

    @pytest.mark.parametrize(
        "head",
        [{}, {"neck": "other", "channels": 16}, {"neck": "fpn", "channels": 10**9}, {"neck": "simple", "channels": 8}],
    )
    def test_one_that_cannot_be_is_refused(self, file, head):
        proto = type(file).FromString(file.SerializeToString())
        for prop in proto.metadata_props:
            if prop.key == "vimdeploy.head":
                prop.value = str(head).replace("'", '"')
        with pytest.raises(ModelFileError, match="neck"):
            artifact_from_onnx(proto)

    def test_random_weights_are_wired_as_a_dense_backbone(self):
        backbone = made().module.backbone
        assert (backbone.config.class_token, backbone.config.final_norm) == ("none", False)


class TestCheckpoints:
    @pytest.mark.parametrize("neck", NECKS)
    def test_of_the_toolboxes(self, neck):
        network = network_of_variant(MINE, toolbox(neck), "pyramid")
        assert network.info.head["neck"] == neck
        assert len(network.passed_over) == 1
        again = network_of_info(ModelInfo.from_metadata(network.info.to_metadata()), toolbox(neck))
        assert again.module.state_dict().keys() == network.module.state_dict().keys()

    def test_a_neck_is_passed_over_under_the_name_of_the_file(self):
        passed_over = network_of_variant(MINE, toolbox("fpn"), "features").passed_over
        assert "backbone.fpn2.0.weight" in passed_over
        assert not [name for name in passed_over if name.startswith("neck.")]

    def test_without_a_neck(self):
        tensors = {name: tensor for name, tensor in toolbox("fpn").tensors.items() if "fpn" not in name}
        with pytest.raises(
            CheckpointError, match=r"is for --task features: it has no neck, which --task pyramid wants\.$"
        ):
            network_of_variant(MINE, checkpoint_of(tensors), "pyramid")

    def test_of_a_classifier(self):
        classifier = network_of_variant(MINE, 0).module.state_dict()
        with pytest.raises(CheckpointError, match="is for --task classification: it has no neck"):
            network_of_variant(MINE, checkpoint_of(classifier), "pyramid")

    @pytest.mark.parametrize("shape", [(), (0,), (0, 16, 1, 1)], ids=str)
    def test_a_damaged_one(self, shape):
        checkpoint = toolbox("simple")
        checkpoint.tensors["backbone.simfp_4.0.weight"] = torch.zeros(shape)
        with pytest.raises(CheckpointError, match="shapes are not those of this model"):
            network_of_variant(MINE, checkpoint, "pyramid")

    def test_a_part_of_a_neck(self):
        checkpoint = toolbox("simple")
        del checkpoint.tensors["backbone.simfp_3.1.norm.bias"]
        with pytest.raises(CheckpointError, match=r"Missing \(1\): neck\.simfp_3\.1\.norm\.bias"):
            network_of_variant(MINE, checkpoint, "pyramid")


class TestAnswers:
    LEVELS = {"p2": np.arange(16, dtype=np.float32).reshape(1, 2, 2, 4), "p3": np.ones((1, 2, 1, 2), np.float32)}  # noqa: RUF012

    def test_one_per_image(self):
        (answer,) = TASK.answers(self.LEVELS, made().info)
        assert [row[:2] for row in answer.rows()] == [("p2", "2x2x4"), ("p3", "2x1x2")]
        assert answer.document() == {"shapes": {"p2": [2, 2, 4], "p3": [2, 1, 2]}}
        assert list(answer.arrays()) == ["p2", "p3"]

    def test_the_vector_is_the_mean_of_every_channel(self):
        (answer,) = TASK.answers(self.LEVELS, made().info)
        assert answer.pooled.tolist() == [3.5, 11.5, 1, 1]

    def test_the_finest_level_is_drawn(self):
        (answer,) = TASK.answers(self.LEVELS, made().info)
        assert answer.picture(Image.new("RGB", (40, 20))).size == (40, 20)
        assert answer.drawn.shape == (2, 2, 4)

    def test_of_a_picture_with_a_margin(self):
        (answer,) = TASK.answers(self.LEVELS, made().info, [Placement((20, 30), (6, 9))])
        assert answer.drawn.shape == (2, 2, 3)
        assert answer.document()["resized"] == [6, 9]
        assert answer.picture(Image.new("RGB", (30, 20))).size == (30, 20)

    def test_answers_are_compared(self):
        generator = np.random.default_rng(0)
        answers = [PyramidMaps({"p2": generator.standard_normal((4, 2, 2), np.float32)}) for _ in range(3)]
        comparison = TASK.comparison(made().info)
        comparison.add(answers, answers)
        assert comparison.points_lost() == 0


@pytest.fixture(
    scope="module",
    params=[("fpn", None), ("fpn", AnySize()), ("simple", None), ("simple", AnySize())],
    ids=["fpn", "fpn of any size", "simple", "simple of any size"],
)
def exported(request):
    """A network and its file."""
    neck, image_size = request.param
    network = made(neck, image_size=image_size)
    return network, onnx_from_model(network.module, network.info)


@pytest.mark.slow
class TestInTheFile:
    def test_answers_and_stages_are_pytorchs(self, exported):
        assert check_proven(*exported)

    def test_and_of_a_file_that_takes_bytes(self, exported):
        floats = artifact_from_onnx(exported[1])
        check_same_from_bytes(floats, with_bytes(floats))

    @pytest.mark.parametrize("loops", [True, False])
    def test_and_of_a_portable_file(self, exported, loops):
        network, proto = exported
        [result] = verified(network, portable(proto, loops=loops))
        assert result.fault is None
        if not network.info.sizes:  # else a fixed file has the names of a free one, by which stages are not found
            assert len(result.stages) == len(stages_of(network.info))

    def test_every_weight_of_the_neck_is_compared(self, exported):
        network, _ = exported
        compared = {weight.source for stage in TASK.stages(network.info) for weight in stage.weights}
        folded = ("neck.fpn1.0.", "neck.fpn1.1.")
        own = {name for name in network.module.state_dict() if name.startswith("neck.") and not name.startswith(folded)}
        assert own <= compared

    @pytest.mark.parametrize(
        "exported", [("fpn", AnySize()), ("simple", AnySize())], indirect=True, ids=["fpn", "simple"]
    )
    def test_other_sizes(self, exported):
        network, proto = exported
        session = vimdeploy.load(artifact_from_onnx(proto))
        for size in ((32, 32), (48, 80)):
            images = np.random.default_rng(0).standard_normal((2, 3, *size), np.float32)
            with torch.inference_mode():
                wanted = network.module(torch.from_numpy(images))
            for value, level in zip(session.run(images).values(), wanted, strict=True):
                np.testing.assert_allclose(value, level.numpy(), atol=1e-3)

    @pytest.mark.parametrize("number", [0, -2, -1])
    def test_a_fault_in_the_neck_is_named(self, exported, number):
        network, proto = exported
        stages = [stage for stage in TASK.stages(network.info) if stage.weights]
        stage = stages[number]
        weight = stage.weights[0]
        faulty = changed_constant(proto, weight.node, weight.input)
        for result in verified(network, faulty):
            assert not result.passed
            assert result.fault.where == stage.title
