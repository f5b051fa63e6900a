import numpy as np
import pytest
from helpers.dense import check_same_from_bytes, verified
from helpers.detectors import SIZE, detections, small_detector
from onnx import numpy_helper

from vimdeploy.api.export import with_bytes
from vimdeploy.artifact import artifact_from_onnx
from vimdeploy.converters.conversion import converted_onnx
from vimdeploy.exporters.onnx_graph import onnx_from_model
from vimdeploy.graphs.portable import portable
from vimdeploy.inputs import random_inputs
from vimdeploy.networks import AnySize, stages_of
from vimdeploy.parity.verify import verify_sessions
from vimdeploy.runtimes.eager import EagerSession
from vimdeploy.runtimes.onnxruntime import OnnxRuntimeSession, sessions_of_all_operators

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def network():
    return small_detector()


@pytest.fixture(scope="module")
def proto(network):
    return onnx_from_model(network.module, network.info)


@pytest.fixture(scope="module")
def sessions(proto):
    """With the library, and with the function bodies alone."""
    return sessions_of_all_operators(artifact_from_onnx(proto))


def test_operators_are_the_standards_besides_ours(proto):
    assert {node.domain for node in proto.graph.node} == {"", "vimdeploy"}
    assert {"RoiAlign", "NonMaxSuppression", "TopK"} < {node.op_type for node in proto.graph.node}


def test_pictures_of_bytes_with_margins(proto):
    floats = artifact_from_onnx(proto)
    check_same_from_bytes(floats, with_bytes(floats))


@pytest.mark.parametrize(
    ("sizes", "asked"),
    [
        ((SIZE,), {"score_threshold": 0.99}),
        ((SIZE,), {"max_detections": 1}),
        ((SIZE,), {"max_detections": 100}),
        ((SIZE, (40, 50)), {"max_detections": (5, 20)}),
    ],
    ids=["none", "one", "the most", "two pictures"],
)
def test_function_bodies_answer_as_the_library_and_as_pytorch(network, sessions, sizes, asked):
    eager, library, bodies = (detections(s.run, sizes, **asked) for s in (EagerSession(network), *sessions))
    for wanted, found, other in zip(eager, library, bodies, strict=True):
        assert wanted.shape == found.shape == other.shape
        np.testing.assert_allclose(other, found, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)


def test_two_pictures_of_different_size_in_a_row(sessions):
    """One file of free size, and of a fixed one: the second picture's answer does not hang on the first's."""
    first, second = (detections(sessions[0].run, (size,)) for size in (SIZE, (40, 50)))
    assert first[0].max() > 50 >= second[0].max()
    again = detections(sessions[0].run, (SIZE,))
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))


def test_a_file_of_free_size_answers_as_one_of_that_size(sessions):
    network = small_detector(AnySize())
    free = sessions_of_all_operators(artifact_from_onnx(onnx_from_model(network.module, network.info)))
    for wanted, found in zip(detections(sessions[0].run), detections(free[0].run), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("loops", [True, False])
def test_a_portable_file_detects_the_same(proto, sessions, loops):
    session = OnnxRuntimeSession(artifact_from_onnx(portable(proto, loops=loops)))
    asked = {"sizes": (SIZE, (40, 50))}
    for wanted, found in zip(detections(sessions[1].run, **asked), detections(session.run, **asked), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("thresholds", [(0.99, 0.0), (0.0, 0.99)], ids=["fewer", "more"])
def test_stages_may_be_fed_with_other_detections_than_they_choose(network, sessions, thresholds):
    theirs, ours = (
        {
            "images": np.random.default_rng(0).standard_normal((1, 3, *SIZE), np.float32),
            "image_sizes": np.array([SIZE]),
            "score_threshold": np.array([threshold], np.float32),
            "max_detections": np.array([20]),
        }
        for threshold in thresholds
    )
    eager, stages = EagerSession(network).open_stages(), sessions[0].open_stages()
    right, found = eager.values(theirs), stages.values(ours)
    name = "roi_heads.selection"
    assert right[name].shape != found[name].shape
    chosen = {stage.name: right[stage.name] for stage in stages_of(network.info) if stage.is_handed_on}
    for values in (stages.values(ours, chosen), stages.values_apart(ours, right)):
        assert values[name].shape == found[name].shape
        mask = values["roi_heads.mask_head.predictor"]
        np.testing.assert_allclose(mask, right["roi_heads.mask_head.predictor"], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_files_of_other_precisions_are_proven(network, proto, precision):
    inputs = random_inputs(network.info, 2, seed=0)
    artifact = converted_onnx(artifact_from_onnx(proto), precision, inputs.batches(1)).artifact
    [result] = verify_sessions(EagerSession(network), [OnnxRuntimeSession(artifact)], inputs)
    assert result.fault is None
    assert result.stages_note == ""
    assert {output.values > 0 for output in result.outputs} == {True}
    kept = {name.split(".")[-2] for name in artifact.info.kept_in_float32}
    assert kept == {"anchor_deltas", "bbox_pred"}


class TestProof:
    def test_a_file_is_proven(self, network, proto):
        for result in verified(network, proto):
            assert result.fault is None
            assert result.stages_note == ""
            assert not result.weights.unknown
            assert {"proposal_generator.selection", "roi_heads.selection"} < {stage.name for stage in result.stages}

    @pytest.mark.parametrize(
        ("module", "where"),
        [
            ("proposal_generator.selection", "proposal_generator.selection"),
            ("roi_heads.selection", "roi_heads.selection"),
        ],
    )
    def test_another_overlap_is_named(self, network, proto, module, where):
        broken = type(proto).FromString(proto.SerializeToString())
        nodes = [n for n in broken.graph.node if n.op_type == "NonMaxSuppression" and n.name.startswith(module)]
        names = {node.input[3] for node in nodes}
        for tensor in broken.graph.initializer:
            if tensor.name in names:
                value = numpy_helper.to_array(tensor)
                tensor.CopyFrom(numpy_helper.from_array(value * np.float32(0.5), tensor.name))
        for result in verified(network, broken):
            assert not result.passed
            assert result.fault.where == where
            assert "is on one side alone" in result.fault.what

    @pytest.mark.parametrize(
        "name",
        [
            "neck.simfp_3.1.weight",
            "proposal_generator.rpn_head.anchor_deltas.bias",
            "roi_heads.box_head.1.fc1.weight",
            "roi_heads.box_predictor.2.cls_score.bias",
            "roi_heads.mask_head.predictor.weight",
        ],
    )
    def test_another_weight_is_named(self, network, proto, name):
        broken = type(proto).FromString(proto.SerializeToString())
        (tensor,) = (tensor for tensor in broken.graph.initializer if tensor.name == name)
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.2), name))
        for result in verified(network, broken):
            assert not result.passed
            assert result.fault.where == name.rpartition(".")[0]
