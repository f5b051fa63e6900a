import numpy as np
import pytest
import torch
from helpers.foreign import operators, simplified_graph
from helpers.foreign_blocks import ConvSS2D, E, EinsumSS2D, N, R, Scan
from torch import nn

from vimdeploy.ops.contract import LOW_RANK_SCAN


class Steps(nn.Module):
    """A scan of tokens whose step sizes a function makes of a low rank (B, L, R)."""

    def __init__(self, function, rank=R, bias=True):
        super().__init__()
        self.scan, self.function = Scan(), function
        self.x_proj, self.dt_proj = nn.Linear(E, rank + 2 * N), nn.Linear(rank, E, bias=bias)
        self.rank = rank

    def forward(self, x):
        low, b, c = torch.split(self.x_proj(x), [self.rank, N, N], dim=-1)
        return self.function(self, x, low, b.transpose(1, 2), c.transpose(1, 2))


def mambavision(m, x, low, b, c):
    """The bias is added here and once more in the scan."""
    return m.scan(x.transpose(1, 2), m.dt_proj(low).transpose(1, 2), b, c)


def flattened(m, x, low, b, c):
    B, L, _ = x.shape
    delta = m.dt_proj(low.reshape(B * L, -1)).view(B, L, E).transpose(1, 2)
    return m.scan(x.transpose(1, 2), delta, b, c)


def weight_first(m, x, low, b, c):
    return m.scan(x.transpose(1, 2), m.dt_proj.weight @ low.transpose(1, 2), b, c)


def read_elsewhere(m, x, low, b, c):
    delta = m.dt_proj(low)
    return m.scan(x.transpose(1, 2), delta.transpose(1, 2), b, c), delta


def activated(m, x, low, b, c):
    return m.scan(x.transpose(1, 2), torch.tanh(m.dt_proj(low)).transpose(1, 2), b, c)


def constant_of_scan(graph, name):
    [node] = [node for node in graph if node.op_type == LOW_RANK_SCAN.name]
    names = [value.name for value in LOW_RANK_SCAN.inputs]
    return node.inputs[names.index(name)].const_value.numpy()


@pytest.mark.parametrize("function", [mambavision, flattened, weight_first])
@pytest.mark.parametrize("free", [None, [{0: "b", 1: "l"}]])
def test_a_linear_map_goes_into_the_scan(function, free):
    graph = simplified_graph(Steps(function), (torch.randn(2, 5, E),), free)
    assert operators(graph)[LOW_RANK_SCAN.name] == 1


@pytest.mark.parametrize("function", [mambavision, flattened])
def test_a_bias_that_is_added_twice_counts_twice(function):
    module = Steps(function)
    graph = simplified_graph(module, (torch.randn(2, 5, E),))
    wanted = (module.dt_proj.bias + module.scan.bias).detach().numpy()[None]
    np.testing.assert_allclose(constant_of_scan(graph, "delta_bias"), wanted, rtol=1e-6)


@pytest.mark.parametrize(("module", "shape"), [(ConvSS2D(), (2, E, 3, 4)), (EinsumSS2D(), (2, 3, 4, E))])
def test_each_group_has_its_own_map(module, shape):
    graph = simplified_graph(module, (torch.randn(shape),))
    assert constant_of_scan(graph, "delta_weight").shape == (4, E, R)


@pytest.mark.parametrize("module", [Steps(read_elsewhere), Steps(activated), Steps(mambavision, rank=E)])
def test_other_step_sizes_stay(module):
    assert operators(simplified_graph(module, (torch.randn(2, 5, E),)))["SelectiveScan"] == 1
