import dataclasses

import numpy as np
import pytest
import torch
from helpers.modules import Scans

from vimdeploy.errors import ConfigError
from vimdeploy.models.stages import CallPart, OperatorCall, config_of_steps
from vimdeploy.networks import Network, network_of_variant, stages_of
from vimdeploy.runtimes.eager import EagerSession
from vimdeploy.torch_module import looked_at


@pytest.fixture
def images():
    return np.random.default_rng(0).standard_normal((2, 3, 32, 32), dtype=np.float32)


def test_answers_are_the_models(tiny_network, images):
    wanted = tiny_network.module(torch.from_numpy(images)).detach().numpy()
    np.testing.assert_array_equal(EagerSession(tiny_network).run(images)["logits"], wanted)


def test_every_output_has_its_name(tiny, images):
    found = EagerSession(network_of_variant(tiny, 0, task="features", blocks=(1, 0))).run(images)
    assert {name: array.shape for name, array in found.items()} == {
        "map": (2, 16, 4, 4),
        "pooled": (2, 16),
        "block_1": (2, 16, 4, 4),
        "block_0": (2, 16, 4, 4),
    }


def test_pictures_of_any_size(any_size_network, picture):
    answer = EagerSession(any_size_network).predict(picture, image_size=(16, 48))
    assert answer.arrays()["map"].shape == (16, 2, 6)


def test_the_description(tiny_network):
    assert EagerSession(tiny_network).description == "PyTorch (eager, cpu)"


@pytest.mark.parametrize(("asked", "used"), [(None, 1), (3, 3)])
def test_runs_on_so_many_threads(tiny_network, images, monkeypatch, asked, used):
    before, seen = torch.get_num_threads(), []
    monkeypatch.setattr(tiny_network.module, "forward", lambda x: seen.append(torch.get_num_threads()) or x[:, :, 0, 0])
    EagerSession(tiny_network, asked).run(images)
    assert (seen, torch.get_num_threads()) == ([used], before)


def test_no_gradient_is_kept(tiny_network, images):
    EagerSession(tiny_network).run(images)
    assert all(parameter.grad is None for parameter in tiny_network.module.parameters())


def test_a_model_in_training_is_put_to_evaluation(tiny):
    network = network_of_variant(tiny, 0)
    EagerSession(network._replace(module=network.module.train()))
    assert not network.module.training


class TestStages:
    @pytest.fixture
    def stages(self, tiny_network):
        return EagerSession(tiny_network).open_stages()

    def test_are_all_there(self, tiny_info, stages, images):
        names = {stage.name for stage in stages_of(tiny_info)}
        assert stages.names == stages.values({"images": images}).keys() == names

    def test_are_what_the_modules_give(self, tiny_model, stages, images):
        found = stages.values({"images": images})
        with torch.inference_mode():
            logits = tiny_model(torch.from_numpy(images)).numpy()
            first = tiny_model.backbone.layers[0]
            norm = first.norm(torch.from_numpy(found["pos_embed"]))
        np.testing.assert_array_equal(found["head"], logits)
        np.testing.assert_array_equal(found["layers.0.norm"], norm.numpy())
        residual = found["pos_embed"] + found["layers.0.mixer.out_proj"]
        np.testing.assert_array_equal(found["layers.0"], residual)

    def test_leave_no_hook_behind(self, tiny_model, stages, images):
        stages.values({"images": images})
        modules = list(tiny_model.modules())
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules)

    def test_apart_with_the_models_own_values_are_the_same(self, stages, images):
        found = stages.values({"images": images})
        for name, value in stages.values_apart({"images": images}, found).items():
            np.testing.assert_array_equal(value, found[name], err_msg=name)

    def test_apart_a_fed_value_changes_its_readers_alone(self, stages, images):
        fed = dict(stages.values({"images": images}))
        before = stages.values_apart({"images": images}, fed)
        fed["layers.1.mixer.conv1d"] = fed["layers.1.mixer.conv1d"] + 1
        after = stages.values_apart({"images": images}, fed)
        changed = {name for name in before if (before[name] != after[name]).any()}
        assert changed == {"layers.1.mixer.x_proj", "layers.1.mixer.scan"}

    @pytest.mark.parametrize("size", [(16, 16), (24, 40)])
    def test_of_pictures_of_any_size(self, any_size_network, size):
        stages = EagerSession(any_size_network).open_stages()
        found = stages.values({"images": np.zeros((1, 3, *size), np.float32)})
        assert found.keys() == {stage.name for stage in stages_of(any_size_network.info)}
        assert found["layers.1"].shape == (1, size[0] // 8 * size[1] // 8 + 1, 16)

    def test_of_an_architecture_whose_stages_nobody_listed(self, tiny_network):
        info = tiny_network.info.__class__("mine", tiny_network.info.inputs, tiny_network.info.outputs)
        with pytest.raises(ConfigError, match="does not know the stages of mine"):
            EagerSession(tiny_network._replace(info=info)).open_stages()


class TestStoredTensors:
    def test_are_those_that_the_stages_name(self, tiny_network):
        stored = EagerSession(tiny_network).stored_tensors()
        sources = {weight.source for stage in stages_of(tiny_network.info) for weight in stage.weights}
        assert sources <= stored.keys()
        assert {type(tensor) for tensor in stored.values()} == {np.ndarray}

    def test_of_any_size_have_the_position_embedding_in_parts(self, any_size_network):
        stored = EagerSession(any_size_network).stored_tensors()
        assert stored["backbone.pos_embed.grid"].shape == (1, 16, 4, 4)
        assert stored["backbone.pos_embed.class_row"].shape == (1, 1, 16)


class TestAModuleOfOperators:
    """A module that somebody brings, whose stages are calls of our operators."""

    CALLS = (
        OperatorCall("first", "first", "conv1d", (CallPart(0, 0),)),
        OperatorCall("second", "second", "scan", (CallPart(1, 0), CallPart(1, 1, is_flipped=True))),
    )

    @pytest.fixture
    def session(self):
        torch.manual_seed(0)
        module, info, _ = looked_at(Scans(blocks=1).eval(), torch.randn(1, 5, 6))
        return EagerSession(Network(module, dataclasses.replace(info, config=config_of_steps(self.CALLS))))

    @pytest.fixture
    def tokens(self):
        return {"tokens": np.random.default_rng(0).standard_normal((1, 5, 6), np.float32)}

    def test_their_values_are_in_the_order_of_the_nodes_tokens(self, session, tokens):
        values = session.open_stages().values(tokens)
        assert {name: value.shape for name, value in values.items()} == {"first": (1, 1, 5, 6), "second": (1, 2, 5, 6)}
        found = values["second"].sum(axis=1) + tokens["tokens"]
        np.testing.assert_allclose(found, session.run(tokens)["output"], atol=1e-6)

    def test_what_is_fed_is_computed_from(self, session, tokens):
        stages = session.open_stages()
        values = stages.values(tokens)
        same = stages.values_apart(tokens, values)
        np.testing.assert_array_equal(same["second"], values["second"])
        other = stages.values_apart(tokens, {**values, "first": values["first"] * 2})
        np.testing.assert_array_equal(other["first"], values["first"])  # is computed, and something else handed on
        assert np.abs(other["second"] - values["second"]).max() > 0.1

    @pytest.mark.parametrize("part", [CallPart(7, 0), CallPart(0, 3)])
    def test_calls_that_the_module_does_not_make(self, session, tokens, part):
        calls = (dataclasses.replace(self.CALLS[0], parts=(part,)),)
        session.info = dataclasses.replace(session.info, config=config_of_steps(calls))
        with pytest.raises(ConfigError, match="does not call the operators that the file says"):
            session.open_stages().values(tokens)

    def test_is_a_reference_by_plain_loops_alone(self, session, tokens, monkeypatch):
        def refuse(*_):
            raise AssertionError("a kernel was asked")

        monkeypatch.setattr("vimdeploy.ops.native.selective_scan", refuse)
        monkeypatch.setattr("vimdeploy.ops.native.causal_conv1d", refuse)
        session.run(tokens)
        session.open_stages().values(tokens)
        with pytest.raises(AssertionError, match="a kernel was asked"):
            EagerSession(Network(session.module, session.info), kernels=True).run(tokens)


def test_what_a_forward_writes_into_is_a_copy():
    tokens = np.ones((2, 4), np.float32)

    class Writing(torch.nn.Module):
        def forward(self, x):
            return x.add_(1)

    module, info, _ = looked_at(Writing(), torch.ones(2, 4))
    found = EagerSession(Network(module, info)).run(tokens)["output"]
    assert (found.max(), tokens.max()) == (2, 1)
