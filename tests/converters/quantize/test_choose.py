"""Which layers become int8, and why the others do not."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from vimdeploy.artifact import ModelInfo
from vimdeploy.converters.quantize.answers import Pictures, Runner
from vimdeploy.converters.quantize.choose import int8_from_float32, most
from vimdeploy.errors import ConfigError, ExecutionError, ModelFileError, ParityError

ALWAYS = ["layers.0.mixer.MatMul", "layers.1.mixer.MatMul", "head.Gemm"]


@pytest.fixture(scope="module")
def info(tiny_proto):
    return ModelInfo.from_metadata({entry.key: entry.value for entry in tiny_proto.metadata_props})


@pytest.fixture
def ten_points_a_layer(monkeypatch):
    """Each layer in int8 changes one answer of ten."""

    def first_answers(self, model, pictures, phase):
        changed = sum(node.op_type == "QuantizeLinear" for node in model.graph.node)
        return np.array([1] * changed + [0] * (10 - changed))

    monkeypatch.setattr(Runner, "first_answers", first_answers)


def int8_layers(made):
    makers = {n.output[0]: n.op_type for n in made.proto.graph.node}
    return {n.name for n in made.proto.graph.node if n.op_type == "MatMul" and "Deq" in makers.get(n.input[1], "")}


@pytest.mark.usefixtures("ten_points_a_layer")
class TestBudget:
    @pytest.mark.parametrize(("budget", "count"), [(10, 1), (20, 2), (29.9, 2), (30, 3), (40, 4), (100, 4)])
    def test_the_least_sensitive_layers_that_keep_to_it(self, tiny_proto, info, pictures, budget, count):
        made = int8_from_float32(tiny_proto, info, pictures, budget)
        assert int8_layers(made) == {judged.layer for judged in made.layers[:count]}
        assert made.agreement == pytest.approx(1 - count / 10)
        assert made.float32_accuracy is None

    def test_the_file_tells_what_stayed_and_why(self, tiny_proto, info, pictures):
        made = int8_from_float32(tiny_proto, info, pictures, 30)
        metadata = {entry.key: entry.value for entry in made.proto.metadata_props}
        kept = ModelInfo.from_metadata(metadata).kept_in_float32
        worst = made.layers[-1]
        assert kept.keys() == {*ALWAYS, worst.layer}
        assert kept[worst.layer] == (f"changes the logits by {worst.logit_error:.2%} of their spread: over the budget")

    def test_of_accuracy_where_the_classes_are_known(self, tiny_proto, info, pictures):
        """Answers that become right cost nothing."""
        right = Pictures(pictures.paths[:10], np.ones(10, dtype=np.int64))
        made = int8_from_float32(tiny_proto, info, right, 0)
        assert (made.float32_accuracy, made.accuracy, made.agreement) == (0, 0.4, 0.6)

    def test_a_single_layer_is_over_it(self, tiny_proto, info, pictures):
        with pytest.raises(ParityError, match=r"the least sensitive, loses 10\.00 points, 5 are allowed"):
            int8_from_float32(tiny_proto, info, pictures, 5)


def test_from_the_least_to_the_most_sensitive(tiny_proto, info, pictures):
    made = int8_from_float32(tiny_proto, info, pictures, 100)
    errors = [judged.logit_error for judged in made.layers]
    assert errors == sorted(errors)
    assert 0 < errors[0] < errors[-1] < 0.2
    assert all(20 < judged.sqnr_db < 60 for judged in made.layers)


def test_progress_is_told(tiny_proto, info, pictures):
    told = []
    int8_from_float32(tiny_proto, info, pictures, 100, report=lambda *step: told.append(step))
    assert {("Calibrating", 12, 12), ("Each layer alone in int8", 4, 4), ("Answers with 4 layers in int8", 12, 12)} <= {
        *told
    }
    assert all(done <= steps for _, done, steps in told)


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
def test_other_precisions(tiny, pictures, precision):
    info = ModelInfo("tiny", tiny.config, precision=precision)
    with pytest.raises(ModelFileError, match=f"Wanted a model in float32 .fp32., found {precision}"):
        int8_from_float32(onnx.ModelProto(), info, pictures)


def test_a_name_to_keep_that_is_none(tiny_proto, info, pictures):
    with pytest.raises(ConfigError, match=r"found .layers\.7"):
        int8_from_float32(tiny_proto, info, pictures, keep=["layers.7.*"])


def test_a_model_that_is_not_finite(tiny_proto, info, pictures):
    model = onnx.ModelProto()
    model.CopyFrom(tiny_proto)
    [embedding] = [tensor for tensor in model.graph.initializer if tensor.name == "pos_embed"]
    embedding.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(embedding) * np.float32(np.nan), "pos_embed"))
    with pytest.raises(ExecutionError, match="is given numbers that are not finite, in float32 already"):
        int8_from_float32(model, info, pictures)


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
