import numpy as np
import pytest
import torch

from vimdeploy.artifact import ModelInfo
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
