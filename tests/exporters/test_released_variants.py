"""Each released variant the whole way: a checkpoint in the released form, exported and verified by command."""

import json

import pytest
import torch
from helpers.released import training_state

from vimdeploy.libraries import library_path
from vimdeploy.models.config import VARIANTS
from vimdeploy.models.vim import vim_with_random_weights

BOUNDS = {"OnnxRuntime (library, cpu)": 1e-4, "OnnxRuntime (function body, cpu)": 1e-3}


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_a_released_variant(invoke, name, tmp_path):
    checkpoint, output = tmp_path / "released.pth", tmp_path / "model.onnx"
    torch.save(training_state(vim_with_random_weights(VARIANTS[name].config, seed=0)), checkpoint)

    exported = invoke("export", name, "-c", checkpoint, "-o", output)
    assert exported.exit_code == 0, exported.output
    verified = invoke("verify", output, "-c", checkpoint, "--count", 1, "--seed", 1, "--json")
    assert verified.exit_code == 0, verified.output

    results = json.loads(verified.stdout)
    errors = {result["candidate"]["description"]: result["logits"]["relative"] for result in results}
    assert len(errors) == (2 if library_path() else 1)
    assert all(error <= BOUNDS[candidate] for candidate, error in errors.items()), errors

    inspected = json.loads(invoke("inspect", output, "--json").stdout)
    assert inspected["operators"] == {"BidirectionalConv1d": 24, "BidirectionalSelectiveScan": 24}
    assert inspected["nodes"] == 24 * 12 + 14
