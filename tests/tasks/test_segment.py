import dataclasses

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
from vimdeploy.model_info import ModelInfo, TensorSpec
from vimdeploy.networks import AnySize, network_of_info, network_of_variant, stages_of
from vimdeploy.preprocess import Placement
from vimdeploy.tasks.base import Proportion
from vimdeploy.tasks.segment import Mask, Segmentation, color_of

TASK = Segmentation()
NUMBERS = {"neck": "fpn", "channels": 16, "classes": 7, "head_channels": 12}
NAMES = ("wall", "building", "sky", "floor", "tree", "ceiling", "road")


def toolbox(beside=(), **facts):
    """mmsegmentation's checkpoint of a small UperNet with ``NUMBERS``."""
    info = dataclasses.replace(network_of_variant(MINE, 0, "segment").info, head=NUMBERS)
    torch.manual_seed(0)
    module = TASK.head(network_of_variant(MINE, 0, "segment").module.backbone, info)
    counters = dict.fromkeys(("backbone.fpn1.1.num_batches_tracked",), torch.zeros(()))
    return checkpoint_of(toolbox_names(module) | counters | dict.fromkeys(beside, torch.ones(1)), **facts)


def made(**arguments):
    """A network of seven classes, with weights that are all different."""
    network = network_of_variant(MINE, toolbox(class_names=NAMES), "segment", **arguments)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in network.module.state_dict().items():
            tensor += 0.1 * torch.rand(tensor.shape) if "running" in name else 0.1 * torch.randn(tensor.shape)
    return network


class TestInfo:
    def test_of_a_checkpoint(self):
        network = network_of_variant(MINE, toolbox(["auxiliary_head.conv_seg.bias"], class_names=NAMES), "segment")
        assert network.info.head == NUMBERS
        assert network.info.labels == NAMES
        assert network.info.outputs == (
            TensorSpec("logits", ("batch", 7, 16, 16)),
            TensorSpec("classes", ("batch", 64, 64), "int64"),
        )
        assert network.passed_over == ("auxiliary_head.conv_seg.bias",)
        again = network_of_info(ModelInfo.from_metadata(network.info.to_metadata()), toolbox())
        assert again.module.state_dict().keys() == network.module.state_dict().keys()

    def test_of_random_weights(self):
        info = network_of_variant(MINE, 0, "segment").info
        assert info.head == {"neck": "fpn", "channels": 16, "classes": 150, "head_channels": 16}
        assert info.labels == ()

    def test_names_that_somebody_gives_go_before(self):
        named = dataclasses.replace(MINE, labels=tuple("abcdefg"))
        assert network_of_variant(named, toolbox(class_names=NAMES), "segment").info.labels == named.labels

    def test_as_many_names_as_classes(self):
        with pytest.raises(ConfigError, match=r"Wanted 7 labels, one per class; found 6\."):
            network_of_variant(MINE, toolbox(class_names=NAMES[:6]), "segment")

    def test_free_sizes_are_words(self):
        logits, classes = TASK.outputs(CONFIG, ("rows", "columns"), (), NUMBERS)
        assert logits.dims == ("batch", 7, "p2_rows", "p2_columns")
        assert classes.dims == ("batch", "height", "width")

    def test_there_is_no_neck_to_choose(self):
        with pytest.raises(ConfigError, match="neck is for the task pyramid; segment has none to choose"):
            network_of_variant(MINE, 0, "segment", neck="simple")

    def test_of_a_detector(self):
        module = network_of_variant(MINE, 0, "pyramid", neck="simple").module
        with pytest.raises(CheckpointError, match="is for --task pyramid: it has no segmentation head"):
            network_of_variant(MINE, checkpoint_of(toolbox_names(module, "backbone.net.")), "segment")

    def test_a_neck_without_a_head(self):
        module = network_of_variant(MINE, 0, "pyramid").module
        with pytest.raises(CheckpointError, match=r"is for --task pyramid: it has no segmentation head, which"):
            network_of_variant(MINE, checkpoint_of(toolbox_names(module)), "segment")

    @pytest.mark.parametrize("shape", [(), (0,), (7,), (0, 12, 1, 1)], ids=str)
    def test_a_damaged_checkpoint(self, shape):
        checkpoint = toolbox()
        checkpoint.tensors["decode_head.conv_seg.weight"] = torch.zeros(shape)
        with pytest.raises(CheckpointError, match="shapes are not those of this model"):
            network_of_variant(MINE, checkpoint, "segment")

    @pytest.mark.parametrize(
        "changes", [{"classes": 0}, {"classes": "7"}, {"head_channels": 10**9}, {"neck": "simple"}, {"channels": None}]
    )
    def test_numbers_that_no_head_has_are_refused(self, changes):
        info = dataclasses.replace(made().info, head=NUMBERS | changes)
        with pytest.raises(ConfigError, match="Wanted"):
            TASK.check(info)

    def test_other_outputs_are_refused(self):
        info = made().info
        with pytest.raises(ConfigError, match="Wanted the outputs logits and classes, found 1"):
            TASK.check(dataclasses.replace(info, outputs=info.outputs[:1]))


def mask(rows, labels=NAMES, **fields):
    return Mask(np.array(rows, np.uint8), labels, **fields)


class TestAnswers:
    def test_one_per_image(self):
        outputs = {"logits": np.zeros((2, 7, 1, 1), np.float32), "classes": np.array([[[0, 2]], [[1, 1]]])}
        first, second = TASK.answers(outputs, made().info)
        assert (first.classes.tolist(), second.classes.tolist()) == ([[0, 2]], [[1, 1]])
        assert second.rows() == [("100.00%", "building")]

    def test_shares_the_largest_first(self):
        answer = mask([[2, 2, 2, 6], [2, 2, 4, 6]])
        assert answer.shares == {2: 0.625, 6: 0.25, 4: 0.125}
        assert answer.rows() == [(" 62.50%", "sky"), (" 25.00%", "road"), (" 12.50%", "tree")]
        assert len(answer.first(2).rows()) == 2

    def test_classes_that_nobody_named(self):
        assert mask([[3]], labels=()).rows() == [("100.00%", "class 3")]

    def test_as_json(self):
        assert mask([[2, 2, 2, 6]], top=1).document() == {
            "shape": [1, 4],
            "top": [{"index": 2, "label": "sky", "share": 0.75}],
        }

    def test_as_an_array(self):
        (name,) = (answer := mask([[2, 6]])).arrays()
        assert (name, answer.arrays()[name].dtype, answer.arrays()[name].tolist()) == ("classes", np.uint8, [[2, 6]])

    def test_logits_that_are_not_finite_are_told(self):
        logits = np.array([[[[np.nan]], [[1]]]], np.float32)
        (answer,) = TASK.answers({"logits": logits, "classes": np.array([[[1]]])}, made().info)
        assert answer.not_finite == "1 of 2 values of logits are NaN or infinite"


class TestWindows:
    PLACEMENT = Placement((4, 8), (4, 8), ((0, 0), (0, 4)))
    LEFT, RIGHT = (np.full((7, 1, 1), number, np.float32) * np.eye(7)[number, :, None, None] for number in (2, 5))

    def outputs(self, *logits):
        values = np.stack(logits).astype(np.float32)
        return {"logits": values, "classes": np.zeros((len(values), 4, 4), np.int64)}

    def test_are_merged_to_the_mask_of_the_picture(self):
        (answer,) = TASK.answers(self.outputs(self.LEFT, self.RIGHT), made().info, [self.PLACEMENT] * 2)
        assert answer.classes.tolist() == [[2] * 4 + [5] * 4] * 4
        assert (answer.labels, answer.classes.dtype, answer.not_finite) == (NAMES, np.uint8, "")

    def test_of_several_pictures_come_in_any_batches(self):
        one = Placement((2, 2), (4, 4))
        first = self.outputs(self.LEFT), [self.PLACEMENT]
        second = self.outputs(self.RIGHT, self.RIGHT), [self.PLACEMENT, one]
        answers = list(TASK.gathered([first, second], made().info))
        assert [answer.classes.tolist() for answer in answers] == [[[2] * 4 + [5] * 4] * 4, [[5, 5]] * 2]

    def test_that_are_not_finite_are_counted(self):
        broken = self.RIGHT.copy()
        broken[3] = np.nan
        (answer,) = TASK.answers(self.outputs(self.LEFT, broken), made().info, [self.PLACEMENT] * 2)
        assert answer.not_finite == "1 of 14 values of logits are NaN or infinite"

    def test_recipes_that_leave_parts_of_a_picture_out_are_refused(self):
        info = made().info
        assert info.recipe.fit == "slide"
        with pytest.raises(ConfigError, match="brings whole pictures into the input, by slide or pad; found crop"):
            TASK.check(dataclasses.replace(info, recipe=dataclasses.replace(info.recipe, fit="crop")))


class TestPicture:
    def test_colours_lie_over_the_picture(self):
        drawn = mask([[0, 1]]).picture(Image.new("RGB", (40, 20), "black"))
        assert (drawn.width > 40, drawn.height >= 20) == (True, True)
        left, right = (np.array(drawn.getpixel((x, 10))) for x in (5, 35))
        for found, number in ((left, 0), (right, 1)):
            np.testing.assert_allclose(found, 0.55 * np.array(color_of(number)), atol=1.5)

    def test_the_legend_stands_beside_it(self):
        drawn = mask([[0, 1]]).picture(Image.new("RGB", (40, 20), "black"))
        legend = np.asarray(drawn)[:, 40:].reshape(-1, 3).tolist()
        assert [list(color_of(number)) in legend for number in (0, 1, 2)] == [True, True, False]
        assert [colour for colour in legend if max(colour) < 160 and len(set(colour)) == 1]  # letters

    def test_a_legend_of_many_classes_ends(self):
        many = mask(np.arange(150).reshape(10, 15), labels=())
        assert many.picture(Image.new("L", (30, 20))).height < 300

    def test_names_of_any_letters(self):
        assert mask([[0, 1]], labels=("天空", "ä" * 200)).picture(Image.new("RGB", (20, 20))).width < 500

    def test_colours_of_all_classes_differ(self):
        assert len({color_of(number) for number in range(150)}) == 150


def compared(reference, candidate, names=()):
    comparison = TASK.comparison(made().info, names=names)
    for pair in zip(reference, candidate, strict=True):
        comparison.add(*([mask(rows)] for rows in pair))
    return comparison


class TestComparison:
    SAME = ([[0, 1], [2, 2]], [[3, 3], [3, 3]])

    def test_the_same_masks(self):
        result = compared(self.SAME, self.SAME).result()
        assert [measure.candidate for measure in result.measures] == [
            Proportion(2, 2),
            Proportion(2, 2),
            Proportion(4, 4),
        ]
        assert (result.changes, result.changed) == ((), 0)

    def test_other_masks(self):
        """One of eight pixels has gone from class 2 to class 0: IoUs of 1/2, 1, 1/2 and 1."""
        comparison = compared(self.SAME, ([[0, 1], [0, 2]], self.SAME[1]), names=["a.png", "b.png"])
        result = comparison.result()
        assert [measure.candidate for measure in result.measures] == [
            Proportion(1, 2),
            Proportion(1.75, 2),
            Proportion(3, 4),
        ]
        (change,) = result.changes
        assert (change.image, change.reference, change.candidate) == (
            "a.png",
            "sky 50.0%, wall 25.0%",
            "wall 50.0%, building 25.0%",
        )
        assert comparison.points_lost() == 25

    def test_masks_to_be_drawn_are_small(self):
        large = mask(np.arange(600 * 1000).reshape(600, 1000) % 7)
        comparison = TASK.comparison(made().info)
        comparison.add([large], [mask(np.zeros((600, 1000)))])
        (change,) = comparison.result().changes
        assert [side.classes.shape for side in change.sides] == [(150, 250)] * 2
        assert change.sides[0].classes[3, 5] == large.classes[12, 20]

    def test_no_images(self):
        assert (compared((), ()).result().measures, compared((), ()).points_lost()) == ((), 0.0)


@pytest.fixture(scope="module", params=[None, AnySize()], ids=["one size", "any size"])
def exported(request):
    network = made(image_size=request.param)
    return network, onnx_from_model(network.module, network.info)


@pytest.mark.slow
class TestInTheFile:
    def test_answers_and_stages_are_pytorchs(self, exported):
        for result in check_proven(*exported):
            assert result.answers.measures[0].candidate.part == 1

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

    def test_every_weight_of_the_head_is_compared(self, exported):
        network, _ = exported
        compared = {weight.source for stage in TASK.stages(network.info) for weight in stage.weights}
        modules = {name.rpartition(".conv.")[0] for name in network.module.state_dict() if ".conv." in name}
        assert {f"{module}.folded.weight" for module in modules if "decode" in module} <= compared
        assert {"decode_head.conv_seg.weight", "decode_head.conv_seg.bias"} <= compared

    @pytest.mark.parametrize("exported", [AnySize()], indirect=True, ids=["any size"])
    def test_other_sizes(self, exported):
        network, proto = exported
        session = vimdeploy.load(artifact_from_onnx(proto))
        images = np.random.default_rng(0).standard_normal((2, 3, 48, 80), np.float32)
        with torch.inference_mode():
            logits, classes = network.module(torch.from_numpy(images))
        found = session.run(images)
        np.testing.assert_allclose(found["logits"], logits.numpy(), atol=1e-3)
        assert (found["classes"] == classes.numpy()).mean() > 0.999

    @pytest.mark.parametrize("number", range(0, 16, 3))
    def test_a_fault_is_named(self, exported, number):
        network, proto = exported
        stages = [stage for stage in TASK.stages(network.info) if stage.weights]
        stage = stages[number]
        weight = stage.weights[0]
        for result in verified(network, changed_constant(proto, weight.node, weight.input)):
            assert not result.passed
            assert result.fault.where == stage.title

    def test_classes_that_are_not_those_of_the_logits(self, exported):
        """The smallest logit in place of the largest: nothing but the output of labels can tell."""
        network, proto = exported
        faulty = type(proto).FromString(proto.SerializeToString())
        next(node for node in faulty.graph.node if node.op_type == "ArgMax").op_type = "ArgMin"
        for result in verified(network, faulty):
            assert not result.passed
            assert "classes" in f"{result.fault}"


def test_a_damaged_head_is_refused_when_the_file_is_opened():
    network = dense.made("segment")
    proto = onnx_from_model(network.module, network.info)
    for prop in proto.metadata_props:
        if prop.key == "vimdeploy.head":
            prop.value = '{"neck": "fpn", "channels": 16, "classes": -1, "head_channels": 16}'
    with pytest.raises(ModelFileError, match="numbers of classes and channels"):
        artifact_from_onnx(proto)
