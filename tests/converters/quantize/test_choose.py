"""Which layers become int8, and why the others do not."""

import dataclasses

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from vimdeploy.artifact import Artifact, artifact_from_onnx
from vimdeploy.converters.quantize.answers import Runner
from vimdeploy.converters.quantize.choose import int8_from_float32, most
from vimdeploy.errors import ConfigError, ExecutionError, ModelFileError, ParityError
from vimdeploy.tasks.classification import Classes

ALWAYS = ["layers.0.mixer.MatMul", "layers.1.mixer.MatMul", "head.Gemm"]


@pytest.fixture
def ten_points_a_layer(monkeypatch):
    """Each layer in int8 changes one answer of ten."""

    def answers(self, model, inputs, phase):
        changed = sum(node.op_type == "QuantizeLinear" for node in model.graph.node)
        return [Classes(np.eye(5, dtype=np.float32)[1 if i < changed else 0], ()) for i in range(10)]

    monkeypatch.setattr(Runner, "answers", answers)


def int8_layers(made):
    makers = {n.output[0]: n.op_type for n in made.artifact.model.graph.node}
    return {
        n.name for n in made.artifact.model.graph.node if n.op_type == "MatMul" and "Deq" in makers.get(n.input[1], "")
    }


@pytest.mark.usefixtures("ten_points_a_layer")
class TestBudget:
    @pytest.mark.parametrize(("budget", "count"), [(10, 1), (20, 2), (29.9, 2), (30, 3), (40, 4), (100, 4)])
    def test_the_least_sensitive_layers_that_keep_to_it(self, tiny_artifact, pictures, budget, count):
        made = int8_from_float32(tiny_artifact, pictures, budget)
        assert int8_layers(made) == {judged.layer for judged in made.layers[:count]}
        same = made.agreement.measures[0]
        assert same.candidate.part == pytest.approx(1 - count / 10)
        assert made.points_lost == pytest.approx(10 * count)

    def test_the_file_tells_what_stayed_and_why(self, tiny_artifact, pictures):
        made = int8_from_float32(tiny_artifact, pictures, 30)
        kept = made.artifact.info.kept_in_float32
        worst = made.layers[-1]
        assert kept.keys() == {*ALWAYS, worst.layer}
        assert kept[worst.layer] == (
            f"changes the outputs by {worst.output_error:.2%} of their standard deviation: over the budget"
        )

    def test_of_accuracy_if_the_classes_are_known(self, tiny_artifact, pictures):
        """Answers that become right cost nothing."""
        right = dataclasses.replace(pictures, classes=np.ones(12, dtype=np.int64))
        made = int8_from_float32(tiny_artifact, right, 0)
        measures = {measure.name: measure for measure in made.agreement.measures}
        correct = measures["top-1 correct"]
        assert (correct.reference.part, correct.candidate.part, measures["same top-1"].candidate.part) == (0, 0.4, 0.6)

    def test_a_single_layer_is_over_it(self, tiny_artifact, pictures):
        with pytest.raises(ParityError, match=r"the least sensitive, loses 10\.00 percentage points, 0 are allowed"):
            int8_from_float32(tiny_artifact, pictures, 0)

    def test_pictures_that_cannot_decide_it(self, tiny_artifact, pictures):
        with pytest.raises(ConfigError, match=r"Wanted at least 20 pictures for a budget of 5 percentage points"):
            int8_from_float32(tiny_artifact, pictures, 5)


def test_from_the_least_to_the_most_sensitive(tiny_artifact, pictures):
    made = int8_from_float32(tiny_artifact, pictures, 100)
    errors = [judged.output_error for judged in made.layers]
    assert errors == sorted(errors)
    assert 0 < errors[0] < errors[-1] < 0.2
    assert all(20 < judged.sqnr_db < 60 for judged in made.layers)


def test_progress_is_told(tiny_artifact, pictures):
    told = []
    int8_from_float32(tiny_artifact, pictures, 100, progress=lambda *step: told.append(step))
    assert {("Calibrating", 12, 12), ("Each layer alone in int8", 4, 4), ("Answers with 4 layers in int8", 2, 2)} <= {
        *told
    }
    assert all(done <= steps for _, done, steps in told)


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
def test_other_precisions(tiny_artifact, pictures, precision):
    info = dataclasses.replace(tiny_artifact.info, precision=precision)
    other = Artifact(None, tiny_artifact.data, info)
    with pytest.raises(ModelFileError, match=f"Wanted a model in float32 .fp32., found {precision}"):
        int8_from_float32(other, pictures)


def test_a_name_to_keep_that_is_none(tiny_artifact, pictures):
    with pytest.raises(ConfigError, match=r"found .layers\.7"):
        int8_from_float32(tiny_artifact, pictures, keep=["layers.7.*"])


def test_a_model_that_is_not_finite(tiny_proto, pictures):
    model = onnx.ModelProto()
    model.CopyFrom(tiny_proto)
    [embedding] = [tensor for tensor in model.graph.initializer if tensor.name == "pos_embed"]
    embedding.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(embedding) * np.float32(np.nan), "pos_embed"))
    with pytest.raises(ExecutionError, match="is given numbers that are not finite, in float32 already"):
        int8_from_float32(artifact_from_onnx(model), pictures, 0)


@pytest.mark.parametrize("limit", range(8))
def test_most_finds_the_limit(limit):
    asked = []

    def holds(count):
        asked.append(count)
        return count <= limit

    assert most(7, holds) == limit
    assert len(asked) == len(set(asked)) <= 4
    assert max(limit, 1) in asked  # the answers of both are wanted
    assert 0 not in asked
