import numpy as np
import pytest
import torch

from vimdeploy.errors import ConfigError
from vimdeploy.networks import network_of_variant, stages_of
from vimdeploy.runtimes.eager import EagerSession


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
