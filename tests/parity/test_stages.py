import dataclasses

import numpy as np
import pytest
from helpers.answers import Answers
from helpers.precision import lowered
from helpers.seeded_faults import changed_weight, dropped_d, flipped_reverse, float16_softplus

from vimdeploy.artifact import artifact_from_onnx
from vimdeploy.inputs import random_inputs
from vimdeploy.networks import stages_of
from vimdeploy.parity.stages import compare_stages
from vimdeploy.runtimes.base import Session, Stages
from vimdeploy.runtimes.eager import EagerSession
from vimdeploy.runtimes.onnxruntime import OnnxRuntimeSession


def batches_of_one(inputs):
    """Names and inputs, as ``compare_stages`` takes them."""
    return [(name, {key: array[None] for key, array in inputs.one(i).items()}) for i, name in enumerate(inputs.names)]


@pytest.fixture
def images(inputs_of):
    return batches_of_one(inputs_of(2))


def compare(reference, candidate, images):
    """The stages of one candidate."""
    [(stages, note)] = compare_stages(reference, [candidate], images)
    assert not note
    return stages


def first_fault(stages):
    return next((stage for stage in stages if not stage.passed), None)


class TestASoundFile:
    def test_has_all_stages_with_room_in_every_band(self, eager, four_blocks, session_of, images, operators):
        stages = compare(eager, session_of(four_blocks, operators), images)
        assert [stage.name for stage in stages] == [stage.name for stage in stages_of(eager.info)]
        for stage in stages:
            assert stage.passed
            assert max(d.error / d.tolerance.limit for d in (stage.own, stage.carried)) < 0.5, stage.name

    def test_of_another_precision_leaves_room_too_and_is_not_float32(self, eager, half, session_of, images, operators):
        stages = {stage.name: stage for stage in compare(eager, session_of(half, operators), images)}
        for stage in stages.values():
            assert max(d.error / d.tolerance.limit for d in (stage.own, stage.carried)) < 0.6, stage.name
        own = stages["layers.2.mixer.in_proj"].own
        assert own.error > own.tolerance.limit / 20

    def test_agrees_with_itself(self, four_blocks, session_of, images):
        stages = compare(session_of(four_blocks), session_of(four_blocks), images)
        assert {(stage.carried.error, stage.own.error) for stage in stages} == {(0, 0)}


class TestAnySize:
    @pytest.fixture
    def reference(self, any_size_network):
        return EagerSession(any_size_network)

    @pytest.fixture
    def images(self, any_size_network):
        """Inputs of two sizes."""
        info = any_size_network.info
        return [*(batch for size in ((16, 24), (40, 32)) for batch in batches_of_one(random_inputs(info, 1, 0, size)))]

    @pytest.mark.parametrize("precision", ["fp32", "fp16"])
    def test_a_sound_file_passes(self, reference, any_size_proto, session_of, images, operators, precision):
        stages = compare(reference, session_of(lowered(any_size_proto, precision), operators), images)
        assert len(stages) == 3 + 7 * 2
        assert first_fault(stages) is None

    def test_a_fault_is_named(self, reference, any_size_proto, session_of, images, operators):
        stages = compare(reference, session_of(flipped_reverse(any_size_proto, 1), operators), images)
        assert first_fault(stages).title == "Block 1, scan"


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
        stages = compare(eager, session_of(fault(four_blocks, 2), operators), images)
        assert first_fault(stages).title == title
        assert [stage.title for stage in stages if not stage.own.passed] == [title]

    def test_a_step_size_of_float16_is_named(self, eager, four_blocks, session_of, images):
        stages = compare(eager, session_of(float16_softplus(four_blocks), "function-body"), images)
        assert first_fault(stages).title == "Block 0, scan"
        assert {stage.kind for stage in stages if not stage.own.passed} == {"scan"}

    def test_the_directions_swapped_are_named_in_other_precisions(self, eager, half, session_of, images, operators):
        stages = compare(eager, session_of(flipped_reverse(half, 2), operators), images)
        assert first_fault(stages).title == "Block 2, scan"

    def test_against_another_file_too(self, four_blocks, session_of, images):
        stages = compare(session_of(four_blocks), session_of(changed_weight(four_blocks, 2)), images)
        assert first_fault(stages).title == "Block 2, in_proj"


class TestNoNumbers:
    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_are_located_where_they_begin(self, eager, four_blocks, session_of, images, value):
        broken = changed_weight(four_blocks, 1, factor=value)
        stage = first_fault(compare(eager, session_of(broken), images))
        assert stage.title == "Block 1, in_proj"
        assert stage.nan + stage.infinite == 2 * 17  # one channel of all tokens of both images
        assert stage.carried.place.index[1] == 7


class Counting(Session):
    """A session that counts what is asked of its stages."""

    def __init__(self, session):
        self.info, self.device, self.operators = session.info, session.device, session.operators
        self.session, self.calls = session, []

    def _run(self, inputs):
        return self.session.run(inputs)

    def open_stages(self):
        self.calls.append("open")
        stages, calls = self.session.open_stages(), self.calls

        class Counted(Stages):
            names = stages.names

            def values(self, inputs, chosen=None):
                calls.append("values")
                return stages.values(inputs, chosen)

            def values_apart(self, inputs, fed):
                calls.append("apart")
                return stages.values_apart(inputs, fed)

        return Counted()


class TestSeveralCandidates:
    @pytest.mark.parametrize("count", [1, 3])
    def test_the_reference_is_computed_once_for_all(self, eager, four_blocks, session_of, images, count):
        reference = Counting(eager)
        compare_stages(reference, [session_of(four_blocks)] * count, images)
        assert reference.calls == ["open", "values", "apart", "values"]

    def test_each_has_its_stages(self, eager, four_blocks, session_of, images):
        candidates = [session_of(proto) for proto in (four_blocks, changed_weight(four_blocks, 2))]
        (sound, _), (broken, _) = compare_stages(eager, candidates, images)
        assert first_fault(sound) is None
        assert first_fault(broken).title == "Block 2, in_proj"

    def test_one_without_stages_leaves_the_others_theirs(self, eager, four_blocks, session_of, images):
        candidates = [Answers(np.eye(3)), session_of(four_blocks)]
        (none, note), (stages, no_note) = compare_stages(eager, candidates, images)
        assert (none, note) == (
            (),
            "Stages are left out: Answers (library, cpu) gives its outputs alone, no stages.",
        )
        assert (len(stages), no_note) == (4 + 7 * 4, "")

    def test_files_in_int8_are_fed_with_no_random_values(self, eager, four_blocks, session_of, images):
        """Their levels end where the values of pictures do."""
        int8 = Counting(session_of(four_blocks))
        int8.info = dataclasses.replace(int8.info, precision="int8")
        reference, other = Counting(eager), Counting(session_of(four_blocks))
        compare_stages(reference, [int8, other], images)
        assert reference.calls == ["open", "values", "apart", "values"]
        assert int8.calls == ["open", "values", "apart", "values", "apart"]
        assert other.calls == ["open", "values", "apart", "apart", "values", "apart"]
        reference.calls.clear()
        compare_stages(reference, [int8], images)
        assert reference.calls == ["open", "values", "values"]


class TestLeftOut:
    def note(self, reference, candidate, images):
        [(stages, note)] = compare_stages(reference, [candidate], images)
        assert stages == ()
        return note

    def test_if_the_reference_has_none(self, four_blocks, session_of, images):
        note = self.note(Answers(np.eye(3), "plugin"), session_of(four_blocks), images)
        assert note == "Stages are left out: Answers (plugin, cpu) gives its outputs alone, no stages."

    def test_if_the_file_has_other_names(self, eager, four_blocks, images):
        four_blocks = type(four_blocks).FromString(four_blocks.SerializeToString())
        node = next(node for node in four_blocks.graph.node if node.name == "layers.1.norm.Mul")
        reader = next(n for n in four_blocks.graph.node if node.output[0] in n.input)
        node.output[0] = reader.input[0] = "renamed"
        note = self.note(eager, OnnxRuntimeSession(artifact_from_onnx(four_blocks)), images)
        assert note == (
            "Stages are left out: the file's values are not named as vimdeploy names them (1 are missing, the first is "
            "layers.1.norm.Mul)."
        )

    def test_if_the_two_sides_have_different_ones(self, eager, tiny_proto, session_of, images):
        note = self.note(eager, session_of(tiny_proto), images)
        assert note == "Stages are left out: the two sides have different ones."
