"""``FILE.py:FUNCTION``: what is run, what is left behind, and one sentence for all that goes wrong."""

import random
import sys

import numpy as np
import pytest
import torch
from helpers.modules import Linear, write_model_file

from vimdeploy.errors import ConfigError
from vimdeploy.model_file import given_network, is_model_file, model_of_file
from vimdeploy.model_info import ModelInfo, TensorSpec


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_model_file(tmp_path_factory.mktemp("theirs"))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a.py:make", True),
        ("/home/me/a.py:make", True),
        (r"C:\models\a.py:make", True),
        ("a.py", False),
        ("a.py:", False),
        ("a.onnx:make", False),
        ("vim_tiny_patch16_224", False),
    ],
)
def test_the_form(text, wanted):
    assert is_model_file(text) == wanted


class TestAFile:
    def test_gives_a_model_and_its_example_inputs(self, path):
        with model_of_file(f"{path}:make") as (model, examples):
            assert (type(model).__name__, examples.shape) == ("Net", (1, 7, 3))
            assert model.eval()(examples)["logits"].shape == (1, 5)

    def test_imports_what_lies_beside_it_and_what_is_not_installed_and_leaves_nothing(self, path):
        modules, searched, ours = set(sys.modules), list(sys.path), sys.modules["random"]
        with model_of_file(f"{path}:make"):
            assert "mamba_ssm" in sys.modules
            assert {"beside", "their_model"} <= sys.modules.keys()
        assert not {"beside", "their_model", "mamba_ssm"} & (set(sys.modules) - modules)
        assert (sys.path, sys.modules["random"]) == (searched, ours)

    def test_may_have_the_name_of_a_module_that_is_imported(self, tmp_path):
        (tmp_path / "random.py").write_text(
            "def make():\n    import torch\n    return torch.nn.Identity(), torch.ones(1)\n"
        )
        with model_of_file(f"{tmp_path / 'random.py'}:make") as (model, _):
            assert isinstance(model, torch.nn.Identity)
        assert sys.modules["random"] is random

    def test_makes_the_same_model_each_time_and_leaves_the_random_numbers_alone(self, path):
        weights = []
        torch.manual_seed(5)
        wanted = torch.rand(1), np.random.get_state()[1][0], random.getstate()
        torch.manual_seed(5)
        for _ in range(2):
            with model_of_file(f"{path}:make") as (model, _examples):
                weights.append(model.head.weight)
        assert torch.equal(*weights)
        assert (torch.rand(1), np.random.get_state()[1][0], random.getstate()) == wanted

    def test_prints_to_standard_error(self, path, capsys):
        with model_of_file(f"{path}:make"):
            pass
        assert capsys.readouterr() == ("", "somebody's print\n")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("none", r"There is no function none in .*their_model\.py; it has Net, make, number, alone, broken"),
        ("five", r"Wanted a function, five in .*their_model\.py is int"),
        ("number", r"model and its example inputs from number\(\) in .*, as in return model, .*; found int"),
        ("alone", "found Net"),
        (
            "broken",
            r'broken\(\) in .* gave up: TypeError: .* of their_model\.py, in broken: "return nn.Linear',
        ),
        ("wanting", r"wanting\(\) in .* gave up: TypeError: wanting\(\) missing 1 required positional argument"),
        ("forked", r"forked\(\) in .* gave up: .*bimamba_type.*line \d+ of their_model\.py, in forked"),
    ],
)
def test_a_function_that_makes_no_model(path, function, message):
    with pytest.raises(ConfigError, match=message), model_of_file(f"{path}:{function}"):
        pass


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import not_installed_here", "ModuleNotFoundError: No module named 'not_installed_here' .line 1 of its.py"),
        ("def make(:\n", r"SyntaxError: invalid syntax.*line 1"),
        ("import sys; sys.exit('usage: train')", "SystemExit: usage: train"),
    ],
)
def test_a_file_that_cannot_be_imported(tmp_path, text, message):
    (tmp_path / "its.py").write_text(text)
    wanted = f"its.py cannot be imported: {message}"
    with pytest.raises(ConfigError, match=wanted), model_of_file(f"{tmp_path / 'its.py'}:make"):
        pass
    assert "its" not in sys.modules


@pytest.mark.parametrize(
    ("place", "message"),
    [("none.py:make", r"There is no file none\.py"), ("make", r"Wanted FILE\.py:FUNCTION, .* found 'make'")],
)
def test_no_file(place, message):
    with pytest.raises(ConfigError, match=message), model_of_file(place):
        pass


class TestAGivenModule:
    INFO = ModelInfo("x", (TensorSpec("x", (2, 4)),), (TensorSpec("y", (2, 4)),))

    def test_none(self):
        with given_network(None, self.INFO) as given:
            assert given == (None, {})

    def test_is_in_eval_mode_within_the_block(self):
        module = torch.nn.Linear(4, 4).train()
        with given_network((module, torch.ones(2, 4)), self.INFO) as (network, examples):
            assert not module.training
            assert (network.info, list(examples), examples["x"].tolist()) == (self.INFO, ["x"], [[1] * 4] * 2)
        assert module.training

    def test_of_a_file(self, path):
        info = ModelInfo(
            "Net",
            (TensorSpec("tokens", ("batch", 7, 3)),),
            (TensorSpec("logits", ("batch", 5)), TensorSpec("features", ("batch", 7, 8))),
        )
        with given_network(f"{path}:make", info) as (network, examples):
            assert examples["tokens"].shape == (1, 7, 3)
            assert len(network.module(torch.zeros(2, 7, 3))) == 2

    def test_that_is_none(self):
        wanted = r"Wanted a PyTorch module, .* found a tuple of Linear"
        with pytest.raises(ConfigError, match=wanted), given_network((Linear(),), self.INFO):
            pass
