"""Packages of PyPI that were written for CUDA, unmodified: optional, since their users have to install them.

    MAMBA_SKIP_CUDA_BUILD=TRUE MAMBA_FORCE_BUILD=TRUE pip install --no-deps --no-build-isolation mamba-ssm==2.3.2.post1
    pip install --no-deps mambavision==1.2.0 timm==1.0.15 einops

``mambapy`` is among the packages of the tests: ``tests/samples/test_mambapy.py``.
"""

import importlib
import importlib.util
from collections import Counter

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import vimdeploy

pytestmark = pytest.mark.slow  # models as large as they are


def installed(*packages):
    """Skip the test if a package is not installed, and say which."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed; the head of this file says how")


def compared(module, inputs, path):
    """Export a module, hold both ways of running the file against its loop, run it in plain ONNX Runtime too."""
    made = vimdeploy.export(module, inputs, path)
    limits = (1e-4, 1e-3) if len(made.parity) == 2 else (1e-3,)
    for result, limit in zip(made.parity, limits, strict=True):
        assert result.passed
        assert result.worst.relative <= limit
    session = onnxruntime.InferenceSession(path)
    [name] = (given.name for given in session.get_inputs())
    [found] = session.run(None, {name: inputs[0].numpy()})
    with vimdeploy.compat.mamba(), torch.inference_mode():
        wanted = module(*inputs).numpy()
    assert np.abs(found - wanted).max() <= 1e-3 * wanted.std()
    return Counter(node.op_type for node in made.artifact.model.graph.node)


class Classifier(nn.Module):
    """Two layers of somebody's ``Mamba`` between patches and classes."""

    def __init__(self, mixer):
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 8, 8)
        self.norms = nn.ModuleList(nn.LayerNorm(32) for _ in range(2))
        self.mixers = nn.ModuleList(mixer() for _ in range(2))
        self.head = nn.Linear(32, 10)

    def forward(self, image):
        tokens = self.patches(image).flatten(2).transpose(1, 2)
        for norm, mixer in zip(self.norms, self.mixers, strict=True):
            tokens = tokens + mixer(norm(tokens))
        return self.head(tokens.mean(1))


def test_mamba_ssm(tmp_path):
    """Its own Python files, of which only the compiled extensions and the Triton kernels are stood in for."""
    installed("mamba_ssm", "einops", "transformers")
    torch.manual_seed(0)
    with vimdeploy.compat.mamba():
        theirs = importlib.import_module("mamba_ssm")
        assert theirs.__version__ == "2.3.2.post1"
        model = Classifier(lambda: theirs.Mamba(32)).eval()
    nodes = compared(model, (torch.randn(2, 3, 64, 64),), tmp_path / "mamba_ssm.onnx")
    scans = ("BidirectionalSelectiveScan", "LowRankSelectiveScan", "SelectiveScan")
    assert sum(nodes[scan] for scan in scans) == 2


def test_mambavision(tmp_path):
    """MambaVision-T, which fixes the batch by a line of its own."""
    installed("einops", "mambavision")
    pytest.importorskip("timm", reason="timm cannot be imported here", exc_type=Exception)  # it wants a torchvision
    torch.manual_seed(0)
    with vimdeploy.compat.mamba():
        model = importlib.import_module("mambavision").create_model("mamba_vision_T").eval()
    nodes = compared(model, (torch.randn(1, 3, 224, 224),), tmp_path / "mambavision.onnx")
    assert nodes["SelectiveScan"] + nodes["LowRankSelectiveScan"] == 6
    assert nodes["ScatterND"] == 0
