import pytest
import torch
from helpers.foreign import operators, reverses, simplified_graph
from helpers.foreign_blocks import Block, E, MambaBlock, MambapyBlock, Path, VimBlock

TOKENS, OTHERS = torch.randn(2, 5, 6), torch.randn(3, 9, 6)
FREE = [{0: "b", 1: "l"}]
MIXER = {"MatMul": 3, "BidirectionalConv1d": 1, "BidirectionalSelectiveScan": 1}
"""in_proj, one x_proj of all directions, out_proj, and the two operators: what our own Vim has."""


def scan_of(graph):
    return next(node for node in graph if node.op_type == "BidirectionalSelectiveScan")


@pytest.mark.parametrize("block", [VimBlock, MambapyBlock])
@pytest.mark.parametrize("divide", [True, False])
def test_a_block_of_two_directions_is_what_our_own_is(block, divide):
    graph = simplified_graph(block(divide), (TOKENS,))
    assert (operators(graph), reverses(graph)) == (MIXER, [[0, 1], [0, 1]])
    assert scan_of(graph).attributes["scale"].value == (0.5 if divide else 1)


@pytest.mark.parametrize("block", [VimBlock, MambaBlock])
def test_free_sizes(block):
    assert operators(simplified_graph(block(), (TOKENS,), FREE, (OTHERS,))) == MIXER


def test_a_block_of_one_direction():
    graph = simplified_graph(MambaBlock(), (TOKENS,))
    assert (operators(graph), reverses(graph)) == (MIXER, [[0], [0]])


def test_the_nodes_have_the_notes_of_their_modules():
    graph = simplified_graph(VimBlock(), (TOKENS,))
    assert all("pkg.torch.onnx.name_scopes" in node.metadata_props for node in graph)


class Other(Block):
    """Two paths, put together by a function of (block, xz), channels first."""

    def __init__(self, function, widths=(4, 4)):
        super().__init__([Path(width) for width in widths])
        self.function = function

    def forward(self, h):
        out = self.function(self, self.in_proj(h).transpose(1, 2))
        return out.transpose(1, 2) if isinstance(out, torch.Tensor) else tuple(t.transpose(1, 2) for t in out)


def of_other_gates(m, xz):
    return m.paths[0](xz) + m.paths[1](xz.flip(-1), torch.cos(xz[:, E:])).flip(-1)


def of_other_inputs(m, xz):
    return m.paths[0](xz) + m.paths[1](2 * xz).flip(-1)


def of_one_gate_unflipped(m, xz):
    return m.paths[0](xz) + m.paths[1](xz.flip(-1), xz[:, E:]).flip(-1)


def kept_apart(m, xz):
    return torch.cat([m.paths[0](xz), m.paths[1](xz.flip(-1)).flip(-1)], dim=1)


def of_other_shapes(m, xz):
    return m.paths[0](xz) + m.paths[1](xz)[:, :, :1]


@pytest.mark.parametrize(
    "module",
    [*map(Other, (of_other_gates, of_other_inputs, of_one_gate_unflipped, kept_apart)), VimBlock(widths=(4, 3))],
)
def test_paths_that_do_not_fit_together_are_no_mixer_of_two_directions(module):
    graph = simplified_graph(module, (TOKENS,))
    assert all(len(directions) == 1 for directions in reverses(graph))


def test_a_sum_that_is_broadcast_is_no_mixer_of_two_directions():
    graph = simplified_graph(Other(of_other_shapes), (TOKENS,))
    assert all(len(directions) == 1 for directions in reverses(graph))


def test_two_directions_that_read_the_tokens_alike():
    graph = simplified_graph(Other(lambda m, xz: m.paths[0](xz) + m.paths[1](xz)), (TOKENS,))
    assert reverses(graph) == [[0, 0], [0, 0]]


def test_what_is_read_before_the_sum_is_there_still():
    def both(m, xz):
        y = m.paths[0](xz)
        return y, y + m.paths[1](xz.flip(-1)).flip(-1)

    simplified_graph(Other(both), (TOKENS,))
