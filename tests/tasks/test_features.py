from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.dense import CONFIG, MINE
from helpers.rule_weights import rule_array
from PIL import Image

from vimdeploy.artifact import artifact_from_onnx
from vimdeploy.converters.conversion import converted_onnx
from vimdeploy.errors import ConfigError
from vimdeploy.exporters.onnx_graph import onnx_from_model
from vimdeploy.inputs import random_inputs
from vimdeploy.model_info import ModelInfo, TensorSpec
from vimdeploy.models.heads.features import FeatureExtractor
from vimdeploy.models.vim.network import Vim
from vimdeploy.networks import network_of_variant
from vimdeploy.parity.check import check_parity
from vimdeploy.runtimes.eager import EagerSession
from vimdeploy.runtimes.onnxruntime import OnnxRuntimeSession
from vimdeploy.tasks.base import MAX_CHANGES, Agreement, Change, Measure, Proportion
from vimdeploy.tasks.features import FeatureExtraction, FeatureMaps
from vimdeploy.tolerance import tolerance_of

TASK = FeatureExtraction()
INFO = ModelInfo(
    "mine",
    (TensorSpec("images", ("batch", 3, 8, 12)),),
    (TensorSpec("map", ("batch", 4, 2, 3)), TensorSpec("pooled", ("batch", 4))),
    task="features",
)


def outputs(images=2):
    generator = np.random.default_rng(0)
    shapes = {"map": (4, 2, 3), "pooled": (4,), "block_1": (4, 2, 3)}
    return {name: generator.standard_normal((images, *shape), np.float32) for name, shape in shapes.items()}


class TestAnswers:
    def test_one_per_image(self):
        given = outputs()
        for number, answer in enumerate(TASK.answers(given, INFO)):
            assert all((answer.features[name] == given[name][number]).all() for name in given)
            assert (answer.pooled == given["pooled"][number]).all()

    def test_as_a_table(self):
        answer = FeatureMaps({"map": np.arange(6, dtype=np.float32).reshape(1, 2, 3), "pooled": np.full(1, 0.12345)})
        assert answer.rows() == [
            ("map", "1x2x3", "2.5", "1.708", "0", "5"),
            ("pooled", "1", "0.1235", "0", "0.1235", "0.1235"),
        ]
        assert len(answer.columns) == len(answer.rows()[0])

    def test_as_json(self):
        (answer,) = TASK.answers(outputs(1), INFO)
        assert answer.document() == {
            "shapes": {"map": [4, 2, 3], "pooled": [4], "block_1": [4, 2, 3]},
            "pooled": answer.pooled.tolist(),
        }

    def test_values_that_are_not_finite_are_told(self):
        answer = FeatureMaps({"map": np.array([[[0, np.nan]]]), "pooled": np.array([1, -np.inf, np.inf])})
        assert answer.not_finite == (
            "1 of 2 values of map are NaN or infinite, 2 of 3 values of pooled are NaN or infinite"
        )
        assert TASK.answers(outputs(1), INFO)[0].not_finite == ""

    def test_as_arrays(self):
        (answer,) = TASK.answers(outputs(1), INFO)
        assert list(answer.arrays()) == ["map", "pooled", "block_1"]


class TestPicture:
    def drawn(self, map_, size=(30, 20)):
        answer = FeatureMaps({"map": np.asarray(map_, np.float32), "pooled": np.zeros(len(map_), np.float32)})
        return answer.picture(Image.new("RGB", size))

    def test_has_the_size_of_the_image(self):
        picture = self.drawn(outputs(1)["map"][0])
        assert (picture.mode, picture.size) == ("RGB", (30, 20))

    def test_regions_that_differ_have_colours_that_differ(self):
        """The left half of the map is one vector, the right half another one."""
        map_ = np.zeros((4, 2, 4), np.float32)
        map_[1, :, 2:] = 5
        colours = np.asarray(self.drawn(map_, (4, 2))).astype(int)
        assert (colours[:, :2] == colours[0, 0]).all()
        assert (colours[:, 2:] == colours[0, 2]).all()
        assert abs(colours[0, 0] - colours[0, 2]).max() > 200

    @pytest.mark.parametrize("channels", [1, 2, 3])
    def test_of_few_channels(self, channels):
        assert self.drawn(np.random.default_rng(0).standard_normal((channels, 2, 3))).size == (30, 20)

    @pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
    def test_of_values_that_are_all_alike_or_no_numbers(self, value):
        assert self.drawn(np.full((4, 2, 3), value)).size == (30, 20)


class TestOutputs:
    @pytest.mark.parametrize("grid", [(4, 6), ("rows", "columns")])
    def test_the_map_the_vector_and_the_blocks(self, tiny, grid):
        assert TASK.outputs(tiny.config, grid, (1, 0), {}) == (
            TensorSpec("map", ("batch", 16, *grid)),
            TensorSpec("pooled", ("batch", 16)),
            TensorSpec("block_1", ("batch", 16, *grid)),
            TensorSpec("block_0", ("batch", 16, *grid)),
        )

    @pytest.mark.parametrize("blocks", [(2,), (-1,), (0, 0), (0, 1, 7)], ids=str)
    def test_blocks_that_are_none(self, tiny, blocks):
        found = ", ".join(map(str, blocks))
        with pytest.raises(ConfigError, match=f"blocks must be different numbers from 0 to 1, found {found}"):
            TASK.outputs(tiny.config, (4, 4), blocks, {})

    def test_the_head_gives_the_blocks_of_the_outputs(self, tiny):
        network = TASK.head(Vim(tiny.config), replace(INFO, outputs=TASK.outputs(tiny.config, (4, 4), (1, 0), {})))
        assert isinstance(network, FeatureExtractor)
        assert network.blocks == (1, 0)

    def test_behind_the_backbone_there_is_no_stage(self):
        assert TASK.stages(INFO) == ()

    def test_any_sub_folders_are_classes(self):
        number_of = TASK.class_names(INFO, ["cat", "dog"])
        assert [number_of(name) for name in ("dog", "cat")] == [1, 0]


def compared(reference, candidate, classes=None, names=()):
    """The comparison of so many pooled vectors, batch by batch."""
    comparison = TASK.comparison(INFO, None if classes is None else np.array(classes), names)
    for start in range(0, len(reference), 3):
        sides = (side[start : start + 3] for side in (reference, candidate))
        comparison.add(*([FeatureMaps({"pooled": np.array(row, np.float32)}) for row in side] for side in sides))
    return comparison


REFERENCE = [(1, 0), (1, 0.1), (0, 1), (0.1, 1)]
"""Two pairs of neighbours: 0 and 1, 2 and 3."""
CANDIDATE = [(1, 0), (1, 0.1), (0, 1), (1, 0.2)]
"""The last vector has gone over to the other pair, between 1 and 2."""


class TestComparison:
    def test_the_same_vectors(self):
        result = compared(REFERENCE, REFERENCE).result()
        assert result == Agreement((Measure("same nearest neighbour", Proportion(4, 4)),))

    def test_longer_vectors_have_the_same_neighbours(self):
        longer = [(1000 * x, 1000 * y) for x, y in REFERENCE]
        assert compared(REFERENCE, longer).points_lost() == 0

    def test_counts_equal_neighbours_and_tells_the_others(self):
        result = compared(REFERENCE, CANDIDATE, names=["a.png", "b.png", "c.png", "d.png"]).result()
        assert result.measures == (Measure("same nearest neighbour", Proportion(2, 4)),)
        assert result.changes == (Change("b.png", "a.png", "d.png"), Change("d.png", "c.png", "b.png"))
        assert (result.changed, result.margin) == (2, "")

    def test_counts_neighbours_of_the_same_class(self):
        result = compared(REFERENCE, CANDIDATE, classes=[0, 0, 1, 1]).result()
        right = Measure("nearest neighbour of the same class", Proportion(2, 4), Proportion(4, 4))
        assert result.measures[1:] == (right,)

    @pytest.mark.parametrize("images", [0, 1])
    def test_a_single_image_has_no_neighbours(self, images):
        comparison = compared(REFERENCE[:images], CANDIDATE[:images], classes=[0] * images)
        assert (comparison.result(), comparison.points_lost()) == (Agreement(), 0.0)

    def test_many_images(self):
        """More than one part of the table of cosines; neighbours are those of plain loops."""
        generator = np.random.default_rng(0)
        reference, candidate = generator.standard_normal((2, 1100, 4))
        result = compared(reference, candidate).result()

        def nearest(rows):
            rows = rows.astype(np.float32).astype(np.float64)
            cosines = rows @ rows.T / np.outer(*[np.linalg.norm(rows, axis=1)] * 2)
            np.fill_diagonal(cosines, -2)
            return cosines.argmax(axis=1)

        same = int((nearest(reference) == nearest(candidate)).sum())
        assert result.measures[0].candidate == Proportion(same, 1100)
        assert (len(result.changes), result.changed) == (MAX_CHANGES, 1100 - same)

    def test_a_vector_of_zeros(self):
        assert compared([(0, 0), *REFERENCE], [(0, 0), *REFERENCE]).points_lost() == 0


class TestPointsLost:
    def test_equal_neighbours_if_nobody_knows_the_classes(self):
        assert compared(REFERENCE, CANDIDATE).points_lost() == 50

    @pytest.mark.parametrize(("classes", "lost"), [([0, 0, 1, 1], 50), ([0, 0, 0, 0], 0), ([0, 1, 2, 1], -50)])
    def test_neighbours_of_the_same_class_if_they_are_known(self, classes, lost):
        assert compared(REFERENCE, CANDIDATE, classes).points_lost() == lost


class TestRounding:
    """The bound on maps in precisions below float32."""

    def test_is_wider_for_what_a_mixer_gave(self):
        residual, mixer = (
            tolerance_of(replace(INFO, precision="fp16", config={"block_feature": feature})).limit
            for feature in ("residual", "mixer")
        )
        assert 13 * 2**-11 < residual < 40 * 2**-11
        assert 31 * 2**-11 < mixer < 93 * 2**-11

    @pytest.mark.slow
    def test_maps_of_mixers_stay_within_it(self):
        """Nothing outweighs the roundings of eight mixers: 20 units of float16, 24 of bfloat16."""
        dense = CONFIG.replace(depth=8, class_token="none", final_norm=False, block_feature="mixer")
        network = network_of_variant(replace(MINE, config=dense), 0, "features", blocks=range(8))
        for name, tensor in network.module.state_dict().items():
            tensor.copy_(torch.from_numpy(rule_array(name, tuple(tensor.shape))))
        proto = onnx_from_model(network.module, network.info)
        batches = list(random_inputs(network.info, 2, seed=0).batches(1))
        for precision in ("fp16", "bf16"):
            lowered = converted_onnx(artifact_from_onnx(proto), precision, batches).artifact
            [result] = check_parity(EagerSession(network), [OnnxRuntimeSession(lowered)], batches)
            assert result.passed, result.fault
