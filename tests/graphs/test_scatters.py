import pytest
import torch
from helpers.foreign import exported, operators, simplified_graph
from torch import nn

from vimdeploy.graphs.simplify import simplified


class CrossScan(nn.Module):
    """As VMamba and Mamba-YOLO write it."""

    def forward(self, x):
        B, C, H, W = x.shape
        y = x.new_empty((B, 4, C, H * W))
        y[:, 0] = x.flatten(2, 3)
        y[:, 1] = x.transpose(2, 3).flatten(2, 3)
        y[:, 2:4] = torch.flip(y[:, 0:2], dims=[-1])
        return y


class CrossScanOfTokens(nn.Module):
    """As VMamba writes it with channels last."""

    def forward(self, x):
        B, H, W, C = x.shape
        y = x.new_zeros((B, H * W, 4, C))
        y[:, :, 0, :] = x.flatten(1, 2)
        y[:, :, 1, :] = x.transpose(1, 2).flatten(1, 2)
        y[:, :, 2:4, :] = torch.flip(y[:, :, 0:2, :], dims=[1])
        return y


class AtrousScan(nn.Module):
    """As EfficientVMamba writes it."""

    def forward(self, x):
        B, C, H, W = x.shape
        y = x.new_empty((B, 4, C, H // 2 * (W // 2)))
        y[:, 0] = x[:, :, ::2, ::2].reshape(B, C, -1)
        y[:, 1] = x.transpose(2, 3)[:, :, ::2, 1::2].reshape(B, C, -1)
        y[:, 2] = x[:, :, ::2, 1::2].reshape(B, C, -1)
        y[:, 3] = x.transpose(2, 3)[:, :, 1::2, 1::2].reshape(B, C, -1)
        return y


class AtrousMerge(nn.Module):
    """As EfficientVMamba writes it: every second row and column of a map at a time."""

    def forward(self, x):
        B, _, C, H, W = x.shape
        y = x.new_empty((B, C, 2 * H, 2 * W))
        y[:, :, ::2, ::2] = x[:, 0]
        y[:, :, 1::2, ::2] = x[:, 1].reshape(B, C, W, H).transpose(2, 3)
        y[:, :, ::2, 1::2] = x[:, 2]
        y[:, :, 1::2, 1::2] = x[:, 3].reshape(B, C, W, H).transpose(2, 3)
        return y


class Written(nn.Module):
    """Writes, given as a function, into three rows."""

    def __init__(self, write):
        super().__init__()
        self.write = write

    def forward(self, x):
        y = x.new_zeros((x.shape[0], 3, x.shape[2]))
        self.write(x, y)
        return y


CASES = {
    "channels first": (CrossScan(), (2, 3, 4, 6), {0: "b", 2: "h", 3: "w"}, (3, 3, 7, 5)),
    "channels last": (CrossScanOfTokens(), (2, 4, 6, 3), {0: "b", 1: "h", 2: "w"}, (1, 5, 7, 3)),
    "every second place": (AtrousMerge(), (2, 4, 3, 5, 6), {0: "b", 3: "h", 4: "w"}, (1, 4, 3, 7, 3)),
}


def left(graph):
    """The operators that write in place, and how often they are there."""
    return {name: count for name, count in operators(graph).items() if name.startswith("Scatter")}


@pytest.mark.parametrize("case", CASES)
class TestWholeSlices:
    def test_become_concats(self, case):
        module, shape, _, _ = CASES[case]
        assert not left(simplified_graph(module, (torch.randn(shape),)))

    def test_become_concats_at_free_sizes(self, case):
        module, shape, free, other = CASES[case]
        graph = simplified_graph(module, (torch.randn(shape),), [free], (torch.randn(other),))
        assert not left(graph)
        assert "Range" not in operators(graph)

    def test_have_types_and_shapes_and_the_notes_of_their_module(self, case):
        module, shape, _, _ = CASES[case]
        for node in simplified_graph(module, (torch.randn(shape),)):
            assert "pkg.torch.onnx.name_scopes" in node.metadata_props
            assert all(value.name and value.dtype is not None and value.shape is not None for value in node.outputs)


def test_strided_reads_of_an_even_map():
    assert not left(simplified_graph(AtrousScan(), (torch.randn(2, 3, 4, 6),)))


def test_a_cross_scan_is_one_flip_and_two_concats():
    counts = operators(simplified_graph(CrossScan(), (torch.randn(2, 3, 4, 6),)))
    assert counts == {"Concat": 2, "Slice": 1, "Reshape": 2, "Unsqueeze": 2, "Transpose": 1}


def write_all_twice(x, y):
    y[:, 0:2] = x[:, 0:2]
    y[:, 2] = x[:, 1]
    y[:, 0:2] = x[:, 1:3]


def write_two_of_three(x, y):
    y[:, 0] = x[:, 0]
    y[:, 2] = x[:, 1]


def write_over_half_of_a_slice(x, y):
    y[:, 0:2] = x[:, 0:2]
    y[:, 1:3] = x[:, 1:3]


def write_half_rows(x, y):
    for row in range(3):
        y[:, row, 0:2] = x[:, row, 0:2]


def write_every_second_place_of_an_odd_row(x, y):
    y[:, ::2] = x[:, ::2]
    y[:, 1::2] = x[:, 1::2]


def add_to_a_row(x, y):
    y[:, 0:3] += x[:, 0:3]
    y[:, 1] += x[:, 1]


def test_the_last_write_counts():
    assert not left(simplified_graph(Written(write_all_twice), (torch.randn(2, 3, 4),)))


@pytest.mark.parametrize(
    "write",
    [write_two_of_three, write_over_half_of_a_slice, write_half_rows, write_every_second_place_of_an_odd_row],
)
def test_what_is_written_in_part_stays(write):
    module, inputs = Written(write), (torch.randn(2, 3, 4),)
    assert left(exported(module, inputs).graph)
    assert left(simplified_graph(module, inputs))


def test_a_row_that_is_added_to_gives_the_same_answers():
    simplified_graph(Written(add_to_a_row), (torch.randn(2, 3, 4),))


def test_a_graph_without_writes_stays_what_it_is():
    model = exported(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), (torch.randn(2, 4),))
    before = [(node.op_type, [value.name for value in node.inputs]) for node in model.graph]
    simplified(model)
    assert [(node.op_type, [value.name for value in node.inputs]) for node in model.graph] == before
