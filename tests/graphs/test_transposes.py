import pytest
import torch
from helpers.foreign import exported, operators, simplified_graph
from helpers.foreign_blocks import ConvSS2D, E, EinsumSS2D, Scan
from torch import nn

TOKENS = torch.randn(2, 5, E)


def transposes(graph):
    return operators(graph)["Transpose"]


class Rearranged(nn.Module):
    """A product of tokens as mamba_ssm writes it: W @ x, x as (channels, batch and tokens)."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(6, E)), nn.Parameter(torch.randn(6, 1))

    def forward(self, x):
        B, L, _ = x.shape
        y = (self.weight @ x.permute(2, 0, 1).reshape(E, B * L)).view(6, B, L).permute(1, 0, 2) + self.bias
        return y.transpose(1, 2)


@pytest.mark.parametrize("free", [None, [{0: "b", 1: "l"}]])
def test_a_product_is_written_as_the_tokens_lie(free):
    graph = simplified_graph(Rearranged(), (TOKENS,), free)
    assert operators(graph) == {"MatMul": 1, "Add": 1}


@pytest.mark.parametrize(
    ("module", "shape", "left"),
    # x by rows and by columns, the columns' merge; to channels last and back if the block gives or takes channels first
    [(ConvSS2D(), (2, E, 4, 6), 4), (ConvSS2D(states=4), (2, E, 4, 6), 4), (EinsumSS2D(), (2, 4, 6, E), 3)],
)
def test_a_cross_scan_is_turned_once_per_direction(module, shape, left):
    graph = simplified_graph(module, (torch.randn(shape),))
    counts = operators(graph)
    assert counts["Transpose"] == left
    assert not counts["Conv"] + counts["Einsum"]
    assert [node.inputs[0].producer().op_type for node in graph if node.domain] == ["Concat"]


class Of(nn.Module):
    """A function of (B, C, L), between a Transpose and another."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.weights = nn.Parameter(torch.rand(E, 1))
        self.grouped, self.single = nn.Conv1d(E, 2 * E, 1, groups=2), nn.Conv1d(E, 3, 1)
        self.linear = nn.Linear(5, 5)

    def forward(self, x):
        y = self.function(self, x.transpose(1, 2))
        return y.transpose(1, 2) if isinstance(y, torch.Tensor) else tuple(t.transpose(1, 2) for t in y)


CANCELLED = {
    "elementwise": lambda m, x: torch.exp(x) * m.weights + torch.sigmoid(x) - 1,
    "split": lambda m, x: torch.split(x, [2, 5, 1], dim=1),
    "slice": lambda m, x: x[:, 2:4] + x[:, 4:6],
    "concat": lambda m, x: torch.cat([x, x * 2], dim=1),
    "concat of tokens": lambda m, x: torch.cat([x, x * 2], dim=2),
    "a convolution of single tokens": lambda m, x: m.single(x),
    "reshape": lambda m, x: (x.unflatten(1, (2, 4)) * 2).flatten(1, 2),
    "batches of matrices": lambda m, x: torch.einsum("bcl,cd->bdl", x, m.weights.expand(E, 3) * m.weights.T[:, :3]),
}


@pytest.mark.parametrize("name", CANCELLED)
def test_transposes_cancel_around(name):
    assert transposes(simplified_graph(Of(CANCELLED[name]), (TOKENS,))) == 0


STAYING = {
    "a product along the tokens": lambda m, x: m.linear(x),
    "what is read as it is as well": lambda m, x: torch.relu(x) + m.linear(torch.relu(x)),
    "softmax": lambda m, x: torch.softmax(x, -1),
    "a grouped convolution whose groups stay behind the tokens": lambda m, x: m.grouped(x),
}


@pytest.mark.parametrize("name", STAYING)
def test_transposes_stay_around(name):
    module = Of(STAYING[name])
    assert transposes(simplified_graph(module, (TOKENS,))) == transposes(exported(module, (TOKENS,)).graph)


class ToChannelsLast(nn.Module):
    """Nothing to gain: one Transpose, wherever it stands."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 2), nn.LayerNorm(4)

    def forward(self, x):
        return self.norm(torch.relu(self.conv(x) + 1).permute(0, 2, 3, 1))


def test_a_graph_that_gains_nothing_stays_what_it_is():
    inputs = (torch.randn(1, 3, 5, 5),)
    before = [node.op_type for node in exported(ToChannelsLast(), inputs).graph]
    assert [node.op_type for node in simplified_graph(ToChannelsLast(), inputs)] == before


def test_a_scan_of_tokens_has_none():
    class Scanned(nn.Module):
        def __init__(self):
            super().__init__()
            self.scan, self.linear = Scan(), nn.Linear(E, E)

        def forward(self, x):
            x = x.transpose(1, 2)
            delta = self.linear(x.transpose(1, 2)).transpose(1, 2)
            return self.scan(x, delta, x[:, :4], x[:, 4:]).transpose(1, 2)

    assert transposes(simplified_graph(Scanned(), (TOKENS,))) == 0
