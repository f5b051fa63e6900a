import dataclasses

import numpy as np
import pytest

from vimdeploy.artifact import artifact_from_onnx
from vimdeploy.errors import ConfigError, ExecutionError
from vimdeploy.exporters.onnx_graph import onnx_from_model
from vimdeploy.networks import stages_of
from vimdeploy.runtimes.eager import EagerSession
from vimdeploy.runtimes.onnx_stages import values_by_stage, with_stages
from vimdeploy.runtimes.onnxruntime import OnnxRuntimeSession

NAME = "layers.0.mixer.in_proj.MatMul"


@pytest.fixture
def inputs():
    return {"images": np.random.default_rng(0).standard_normal((2, 3, 32, 32), dtype=np.float32)}


@pytest.fixture
def wanted(tiny_network, inputs):
    return EagerSession(tiny_network).open_stages().values(inputs)


@pytest.fixture
def stages(tiny_artifact, operators):
    return OnnxRuntimeSession(tiny_artifact, operators=operators).open_stages()


class TestValues:
    def test_are_those_of_pytorch(self, tiny_info, stages, wanted, inputs):
        found = stages.values(inputs)
        assert found.keys() == wanted.keys() == stages.names == {stage.name for stage in stages_of(tiny_info)}
        for name, value in wanted.items():
            np.testing.assert_allclose(found[name], value, atol=1e-5, err_msg=name)

    def test_have_the_batch_where_the_table_says(self, tiny_info, stages, inputs):
        found = stages.values(inputs)
        for stage in stages_of(tiny_info):
            assert found[stage.name].shape[stage.batch_axis] == 2, stage.name

    def test_of_other_precisions_are_float32_too(self, tiny_network, inputs, wanted):
        info = dataclasses.replace(tiny_network.info, precision="bf16")
        artifact = artifact_from_onnx(onnx_from_model(tiny_network.module, info))
        found = OnnxRuntimeSession(artifact).open_stages().values(inputs)
        for name, value in wanted.items():
            assert found[name].dtype == np.float32
            np.testing.assert_allclose(found[name], value, atol=0.05, err_msg=name)


class TestAnySize:
    @pytest.mark.parametrize("size", [(16, 16), (24, 40), (32, 32)])
    def test_values_are_those_of_pytorch_in_a_row_and_apart(self, any_size_network, any_size_proto, operators, size):
        inputs = {"images": np.random.default_rng(0).standard_normal((1, 3, *size), dtype=np.float32)}
        eager = EagerSession(any_size_network).open_stages()
        stages = OnnxRuntimeSession(artifact_from_onnx(any_size_proto), operators=operators).open_stages()
        wanted = eager.values(inputs)
        assert stages.names == wanted.keys()
        for found in (stages.values(inputs), stages.values_apart(inputs, wanted)):
            for name, value in wanted.items():
                np.testing.assert_allclose(found[name], value, atol=1e-5, err_msg=name)


class TestApart:
    def test_with_the_models_own_values_gives_the_same(self, stages, inputs):
        in_a_row = stages.values(inputs)
        apart = stages.values_apart(inputs, in_a_row)
        for name, value in in_a_row.items():
            np.testing.assert_allclose(apart[name], value, atol=1e-6, err_msg=name)

    def test_a_fed_value_changes_its_readers_alone(self, stages, inputs):
        fed = dict(stages.values(inputs))
        before = stages.values_apart(inputs, fed)
        fed["layers.0.mixer.in_proj"] = fed["layers.0.mixer.in_proj"] + 1
        after = stages.values_apart(inputs, fed)
        changed = {name for name in before if (before[name] != after[name]).any()}
        assert changed == {"layers.0.mixer.conv1d", "layers.0.mixer.scan"}

    def test_agrees_with_pytorch_on_any_values(self, tiny_network, stages, wanted, inputs):
        generator = np.random.default_rng(1)
        fed = {name: generator.standard_normal(v.shape, dtype=np.float32) for name, v in wanted.items()}
        right = EagerSession(tiny_network).open_stages().values_apart(inputs, fed)
        for name, value in stages.values_apart(inputs, fed).items():
            np.testing.assert_allclose(value, right[name], atol=2e-5, err_msg=name)

    def test_values_of_a_wrong_shape_are_one_sentence(self, stages, inputs, wanted):
        fed = wanted | {"layers.0.mixer.in_proj": np.zeros((2, 3), np.float32)}
        with pytest.raises(ExecutionError, match="failed on the stages of the model"):
            stages.values_apart(inputs, fed)


class TestNames:
    def test_of_every_stage_are_in_an_export(self, tiny_info, tiny_proto):
        assert values_by_stage(tiny_proto, stages_of(tiny_info))["layers.0.mixer.in_proj"] == NAME

    def test_of_another_model_are_missed(self, tiny_info, tiny_proto):
        deeper = dataclasses.replace(tiny_info, config=tiny_info.config | {"depth": 3})
        with pytest.raises(ConfigError, match=r"7 are missing, the first is layers.2.norm.Mul"):
            values_by_stage(tiny_proto, stages_of(deeper))


def test_the_model_that_was_given_stays_as_it_is(tiny_proto):
    before = tiny_proto.SerializeToString(deterministic=True)
    copy = with_stages(tiny_proto, [NAME], [NAME])
    assert tiny_proto.SerializeToString(deterministic=True) == before
    assert [value.name for value in copy.graph.input] == ["images", f"{NAME}.fed"]
    assert [value.name for value in copy.graph.output] == [f"{NAME}.seen"]
    assert "head.Gemm" not in {node.name for node in copy.graph.node}
