import numpy as np
import pytest
import torch

from vimdeploy.artifact import ModelInfo
from vimdeploy.models.stages import stages_of
from vimdeploy.runtimes.eager import EagerSession


def test_answers_are_the_models(tiny, tiny_model):
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32), dtype=np.float32)
    wanted = tiny_model(torch.from_numpy(images)).detach().numpy()
    np.testing.assert_array_equal(EagerSession(tiny_model, ModelInfo("tiny", tiny.config)).run(images), wanted)


def test_the_description(tiny, tiny_model):
    assert EagerSession(tiny_model, ModelInfo("tiny", tiny.config)).description == "Eager (eager, cpu)"


@pytest.mark.parametrize(("asked", "used"), [(None, 1), (3, 3)])
def test_runs_on_so_many_threads(tiny, tiny_model, monkeypatch, asked, used):
    before, seen = torch.get_num_threads(), []
    monkeypatch.setattr(tiny_model, "forward", lambda x: seen.append(torch.get_num_threads()) or x[:, :, 0, 0])
    EagerSession(tiny_model, ModelInfo("tiny", tiny.config), asked).run(np.zeros((1, 3, 32, 32), np.float32))
    assert (seen, torch.get_num_threads()) == ([used], before)


def test_no_gradient_is_kept(tiny, tiny_model):
    EagerSession(tiny_model, ModelInfo("tiny", tiny.config)).run(np.zeros((1, 3, 32, 32), np.float32))
    assert all(parameter.grad is None for parameter in tiny_model.parameters())


def test_a_model_in_training_is_put_to_evaluation(tiny, tiny_model):
    EagerSession(tiny_model.train(), ModelInfo("tiny", tiny.config))
    assert not tiny_model.training


class TestStages:
    @pytest.fixture
    def images(self):
        return np.random.default_rng(0).standard_normal((2, 3, 32, 32), dtype=np.float32)

    @pytest.fixture
    def stages(self, tiny, tiny_model):
        return EagerSession(tiny_model, ModelInfo("tiny", tiny.config)).open_stages()

    def test_are_all_there(self, tiny, stages, images):
        names = {stage.name for stage in stages_of(tiny.config)}
        assert stages.names == stages.values(images).keys() == names

    def test_are_what_the_modules_give(self, tiny_model, stages, images):
        found = stages.values(images)
        with torch.inference_mode():
            logits = tiny_model(torch.from_numpy(images)).numpy()
            first = tiny_model.layers[0]
            norm = first.norm(torch.from_numpy(found["pos_embed"]))
        np.testing.assert_array_equal(found["head"], logits)
        np.testing.assert_array_equal(found["layers.0.norm"], norm.numpy())
        residual = found["pos_embed"] + found["layers.0.mixer.out_proj"]
        np.testing.assert_array_equal(found["layers.0"], residual)

    def test_leave_no_hook_behind(self, tiny_model, stages, images):
        stages.values(images)
        modules = list(tiny_model.modules())
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules)

    def test_apart_with_the_models_own_values_are_the_same(self, stages, images):
        found = stages.values(images)
        for name, value in stages.values_apart(images, found).items():
            np.testing.assert_array_equal(value, found[name], err_msg=name)

    def test_apart_a_fed_value_changes_its_readers_alone(self, stages, images):
        fed = dict(stages.values(images))
        before = stages.values_apart(images, fed)
        fed["layers.1.mixer.conv1d"] = fed["layers.1.mixer.conv1d"] + 1
        after = stages.values_apart(images, fed)
        changed = {name for name in before if (before[name] != after[name]).any()}
        assert changed == {"layers.1.mixer.x_proj", "layers.1.mixer.scan"}
