"""Each way in which models call the extensions: the plain formula's answers, one node for each call in an export."""

from collections import Counter

import pytest
import torch
from helpers import channel_major, miniatures
from helpers.miniatures import MINIATURES, miniature

import vimdeploy

SWAPPED = (
    "causal_conv1d_cuda",
    "causal_conv1d_fn",
    "selective_scan_cuda",
    "selective_scan_cuda_core",
    "selective_scan_cuda_oflex",
    "selective_scan_fn",
    "mamba_inner_fn",
    "mamba_inner_fn_no_out_proj",
    "bimamba_inner_fn",
    "rms_norm_fn",
    "layer_norm_fn",
)
"""What the miniatures import, and ``channel_major`` computes."""

NODES = {
    "gated": {"SelectiveScan": 1},
    "ungated": {"SelectiveScan": 1},
    "cross": {"SelectiveScan": 1},
    "oflex": {"SelectiveScan": 1},
    "core": {"SelectiveScan": 1},
    "extension": {"SelectiveScan": 1},
    "fused": {"CausalConv1d": 1, "LowRankSelectiveScan": 1},
    "vim": {"CausalConv1d": 2, "LowRankSelectiveScan": 2},
    "vim_v1": {"CausalConv1d": 1, "LowRankSelectiveScan": 1},
    "stock": {"CausalConv1d": 1, "LowRankSelectiveScan": 1},
    "stock_2d": {"CausalConv1d": 1, "LowRankSelectiveScan": 1},
    "convolution": {"CausalConv1d": 1},
    "convolution_4": {"CausalConv1d": 1},
    "convolution_5": {"CausalConv1d": 1},
    "convolution_7": {"CausalConv1d": 1},
    "convolution_8": {"CausalConv1d": 1},
    "norms": {},
}
QUICK = ("oflex", "vim")


@pytest.mark.parametrize("name", [name for name in MINIATURES if not name.startswith("stock")])
def test_the_plain_formula_gives_the_same(name, monkeypatch):
    model, example = miniature(name)
    with vimdeploy.compat.mamba(), torch.no_grad():
        found = model(example)
        for function in SWAPPED:
            monkeypatch.setattr(miniatures, function, getattr(channel_major, function))
        wanted = model(example)
    assert found.dtype == wanted.dtype
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NODES]
)
def test_an_export_has_a_node_for_each_call(name):
    model, example = miniature(name)
    with vimdeploy.compat.mamba(), torch.no_grad():
        program = torch.onnx.export(model, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},), verbose=False)
        answer = model(example)
    nodes = Counter(node.op_type for node in program.model.graph if node.domain == "vimdeploy")
    assert nodes == NODES[name]
    assert not {"Loop", "Scan"} & {node.op_type for node in program.model.graph}
    [output] = program.model.graph.outputs
    assert output.shape.dims[1:] == answer.shape[1:]


def test_gradients_flow_through_functions_of_python():
    model, example = miniature("vim")
    model(example).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.scans.parameters())


def test_the_model_works_after_the_block():
    model, example = miniature("extension")
    with pytest.raises(ValueError, match="Expected a cuda device"):
        model(example)  # torch.cuda.device is PyTorch's again
    fused, tokens = miniature("fused")
    assert fused(tokens).shape == tokens.shape
