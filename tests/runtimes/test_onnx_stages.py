import numpy as np
import pytest

from vimdeploy.artifact import ModelInfo
from vimdeploy.errors import ConfigError, ExecutionError
from vimdeploy.exporters.onnx_graph import onnx_from_model
from vimdeploy.models.stages import BATCH_AXIS, stages_of
from vimdeploy.runtimes.eager import EagerSession
from vimdeploy.runtimes.onnx_stages import values_by_stage, with_stages
from vimdeploy.runtimes.onnxruntime import OnnxRuntimeSession

NAME = "layers.0.mixer.in_proj.MatMul"


@pytest.fixture
def array():
    return np.random.default_rng(0).standard_normal((2, 3, 32, 32), dtype=np.float32)


@pytest.fixture
def wanted(tiny, tiny_model, array):
    return EagerSession(tiny_model, ModelInfo("tiny", tiny.config)).open_stages().values(array)


@pytest.fixture
def stages(tiny, tiny_proto, operators):
    return OnnxRuntimeSession(
        tiny_proto.SerializeToString(), ModelInfo("tiny", tiny.config), operators=operators
    ).open_stages()


class TestValues:
    def test_are_those_of_pytorch(self, tiny, stages, wanted, array):
        found = stages.values(array)
        assert found.keys() == wanted.keys() == {stage.name for stage in stages_of(tiny.config)}
        for name, value in wanted.items():
            np.testing.assert_allclose(found[name], value, atol=1e-5, err_msg=name)

    def test_have_the_batch_where_the_table_says(self, tiny, stages, array):
        found = stages.values(array)
        for stage in stages_of(tiny.config):
            assert found[stage.name].shape[BATCH_AXIS.get(stage.kind, 0)] == 2, stage.name

    def test_of_other_precisions_are_float32_too(self, tiny, tiny_model, array, wanted):
        info = ModelInfo("tiny", tiny.config, precision="bf16")
        data = onnx_from_model(tiny_model, info).SerializeToString()
        found = OnnxRuntimeSession(data, info).open_stages().values(array)
        for name, value in wanted.items():
            assert found[name].dtype == np.float32
            np.testing.assert_allclose(found[name], value, atol=0.05, err_msg=name)


class TestApart:
    def test_with_the_models_own_values_gives_the_same(self, stages, array):
        in_a_row = stages.values(array)
        apart = stages.values_apart(array, in_a_row)
        for name, value in in_a_row.items():
            np.testing.assert_allclose(apart[name], value, atol=1e-6, err_msg=name)

    def test_a_fed_value_changes_its_readers_alone(self, stages, array):
        fed = dict(stages.values(array))
        before = stages.values_apart(array, fed)
        fed["layers.0.mixer.in_proj"] = fed["layers.0.mixer.in_proj"] + 1
        after = stages.values_apart(array, fed)
        changed = {name for name in before if (before[name] != after[name]).any()}
        assert changed == {"layers.0.mixer.conv1d", "layers.0.mixer.scan"}

    def test_agrees_with_pytorch_on_any_values(self, tiny, tiny_model, stages, wanted, array):
        generator = np.random.default_rng(1)
        fed = {name: generator.standard_normal(v.shape, dtype=np.float32) for name, v in wanted.items()}
        right = EagerSession(tiny_model, ModelInfo("tiny", tiny.config)).open_stages().values_apart(array, fed)
        for name, value in stages.values_apart(array, fed).items():
            np.testing.assert_allclose(value, right[name], atol=2e-5, err_msg=name)

    def test_values_of_a_wrong_shape_are_one_sentence(self, stages, array, wanted):
        fed = wanted | {"layers.0.mixer.in_proj": np.zeros((2, 3), np.float32)}
        with pytest.raises(ExecutionError, match="failed on the stages of the model"):
            stages.values_apart(array, fed)


class TestNames:
    def test_of_every_stage_are_in_an_export(self, tiny, tiny_proto):
        assert values_by_stage(tiny_proto, tiny.config)["layers.0.mixer.in_proj"] == NAME

    def test_of_another_model_are_missed(self, tiny, tiny_proto):
        with pytest.raises(ConfigError, match=r"7 are missing, the first is layers.2.norm.Mul"):
            values_by_stage(tiny_proto, tiny.config.replace(depth=3))


def test_the_model_that_was_given_stays_as_it_is(tiny_proto):
    before = tiny_proto.SerializeToString(deterministic=True)
    copy = with_stages(tiny_proto, [NAME], apart=True)
    assert tiny_proto.SerializeToString(deterministic=True) == before
    assert [value.name for value in copy.graph.input] == ["images", f"{NAME}.fed"]
    assert [value.name for value in copy.graph.output] == ["logits", f"{NAME}.seen"]
