import numpy as np
import pytest
from helpers.seeded_faults import changed_weight, dropped_d, flipped_reverse, float16_softplus

from vimdeploy.errors import ConfigError
from vimdeploy.models.stages import stages_of
from vimdeploy.parity.inputs import random_inputs
from vimdeploy.parity.stages import compare_stages


@pytest.fixture
def images():
    inputs = random_inputs((3, 32, 32), 2, seed=0)
    return [(name, inputs.image(i)) for i, name in enumerate(inputs.names)]


def first_fault(stages):
    return next((stage for stage in stages if not stage.passed), None)


class TestASoundFile:
    def test_has_all_stages_within_their_bands(self, eager, four_blocks, session_of, images, operators):
        stages = compare_stages(eager, session_of(four_blocks, operators), images)
        assert [stage.name for stage in stages] == [stage.name for stage in stages_of(eager.info.config)]
        assert first_fault(stages) is None

    def test_leaves_room_in_every_band(self, eager, four_blocks, session_of, images, operators):
        for stage in compare_stages(eager, session_of(four_blocks, operators), images):
            assert max(d.error / d.tolerance.limit for d in (stage.own, stage.carried)) < 0.5, stage.name

    def test_of_another_precision_leaves_room_too(self, eager, half, session_of, images, operators):
        proto, info = half
        for stage in compare_stages(eager, session_of(proto, operators, info), images):
            assert max(d.error / d.tolerance.limit for d in (stage.own, stage.carried)) < 0.6, stage.name

    def test_of_another_precision_is_not_float32(self, eager, half, session_of, images, operators):
        proto, info = half
        stages = {stage.name: stage for stage in compare_stages(eager, session_of(proto, operators, info), images)}
        own = stages["layers.2.mixer.in_proj"].own
        assert own.error > own.tolerance.limit / 20

    def test_agrees_with_itself(self, four_blocks, session_of, images):
        stages = compare_stages(session_of(four_blocks), session_of(four_blocks), images)
        assert {(stage.carried.error, stage.own.error) for stage in stages} == {(0, 0)}


class TestSeededFaults:
    """Each is found in its block and stage, and in none before."""

    @pytest.mark.parametrize(
        ("fault", "title"),
        [
            (changed_weight, "Block 2, in_proj"),
            (flipped_reverse, "Block 2, scan"),
            (lambda model, block: flipped_reverse(model, block, "BidirectionalConv1d"), "Block 2, conv1d"),
            (dropped_d, "Block 2, scan"),
        ],
        ids=["a weight by 1 %", "reverse of the scan", "reverse of the convolution", "D"],
    )
    def test_is_named(self, eager, four_blocks, session_of, images, operators, fault, title):
        stages = compare_stages(eager, session_of(fault(four_blocks, 2), operators), images)
        assert first_fault(stages).title == title
        assert [stage.title for stage in stages if not stage.own.passed] == [title]

    def test_a_step_size_of_float16_is_named(self, eager, four_blocks, session_of, images):
        stages = compare_stages(eager, session_of(float16_softplus(four_blocks), "function body"), images)
        assert first_fault(stages).title == "Block 0, scan"
        assert {stage.kind for stage in stages if not stage.own.passed} == {"scan"}

    def test_the_directions_swapped_are_named_in_other_precisions(self, eager, half, session_of, images, operators):
        proto, info = half
        stages = compare_stages(eager, session_of(flipped_reverse(proto, 2), operators, info), images)
        assert first_fault(stages).title == "Block 2, scan"

    def test_against_another_file_too(self, four_blocks, session_of, images):
        stages = compare_stages(session_of(four_blocks), session_of(changed_weight(four_blocks, 2)), images)
        assert first_fault(stages).title == "Block 2, in_proj"


class TestNoNumbers:
    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_are_located_where_they_begin(self, eager, four_blocks, session_of, images, value):
        broken = changed_weight(four_blocks, 1, factor=value)
        stage = first_fault(compare_stages(eager, session_of(broken), images))
        assert stage.title == "Block 1, in_proj"
        assert stage.nan + stage.infinite == 2 * 17  # one channel of all tokens of both images
        assert stage.carried.place.index[1] == 7


def test_a_session_without_stages_says_so(eager, four_blocks, session_of, images):
    four_blocks = type(four_blocks).FromString(four_blocks.SerializeToString())
    node = next(node for node in four_blocks.graph.node if node.name == "layers.1.norm.Mul")
    reader = next(n for n in four_blocks.graph.node if node.output[0] in n.input)
    node.output[0] = reader.input[0] = "renamed"
    with pytest.raises(ConfigError, match=r"not named as vimdeploy names them \(1 are missing, the first is layers.1"):
        compare_stages(eager, session_of(four_blocks), images)
