import pytest
import torch
from helpers.foreign import exported, flips, operators, reverses, simplified_graph
from helpers.foreign_blocks import ConvSS2D, E, EinsumSS2D, N, Scan
from torch import nn

from vimdeploy.compat.conv import causal_conv1d_fn

IMAGES = {
    "grouped convolutions": (ConvSS2D(), (2, E, 4, 6), {0: "b", 2: "h", 3: "w"}, (1, E, 5, 3)),
    "einsum": (EinsumSS2D(), (2, 4, 6, E), {0: "b", 1: "h", 2: "w"}, (3, 7, 3, E)),
}


@pytest.mark.parametrize("case", IMAGES)
class TestACrossScan:
    """Two of four groups are flips of the other two, and are flipped back by the merge."""

    def test_reads_each_group_once(self, case):
        module, shape, _, _ = IMAGES[case]
        graph = simplified_graph(module, (torch.randn(shape),))
        assert (flips(graph), reverses(graph)) == (0, [[0, 0, 1, 1]])

    @pytest.mark.slow
    def test_of_free_sizes(self, case):
        module, shape, free, other = IMAGES[case]
        graph = simplified_graph(module, (torch.randn(shape),), [free], (torch.randn(other),))
        assert (flips(graph), reverses(graph)) == (0, [[0, 0, 1, 1]])


class Flipped(nn.Module):
    """A scan that some arrangement of flips is around, given as a function."""

    def __init__(self, forward):
        super().__init__()
        self.scan, self.linear, self.function = Scan(), nn.Linear(E, E + 2 * N), forward

    def pieces(self, x):
        """delta, B and C of tokens (B, E, L)."""
        return (t.transpose(1, 2) for t in torch.split(self.linear(x.transpose(1, 2)), [E, N, N], dim=-1))

    def forward(self, x):
        return self.function(self, x)


def there_and_back(model, x):
    x = x.flip(-1)
    return model.scan(x, *model.pieces(x)).flip(-1)


def each_by_itself(model, x):
    delta, b, c = model.pieces(x)
    return torch.sigmoid(model.scan(x.flip(-1), delta.flip(-1), b.flip(-1), c.flip(-1))).flip(-1)


def merged_with_the_batch(model, x):
    flat = x.flip(-1).permute(1, 0, 2).reshape(E, -1) * 2
    u = flat.view(E, x.shape[0], x.shape[2]).permute(1, 0, 2)
    return model.scan(u, *model.pieces(u)).flip(-1)


def only_there(model, x):
    x = x.flip(-1)
    return model.scan(x, *model.pieces(x))


def only_back(model, x):
    return model.scan(x, *model.pieces(x)).flip(-1)


def read_elsewhere(model, x):
    flipped = x.flip(-1)
    return model.scan(flipped, *model.pieces(flipped)).flip(-1), flipped


def with_steps_of_other_tokens(model, x):
    delta, b, c = model.pieces(x)
    return model.scan(x.flip(-1), delta, b.flip(-1), c.flip(-1)).flip(-1)


def of_channels(model, x):
    x = x.flip(1)
    return model.scan(x, *model.pieces(x)).flip(1)


def added_to_what_is_not_flipped(model, x):
    flipped = x.flip(-1) + x
    return model.scan(flipped, *model.pieces(flipped)).flip(-1)


def mixed_along_the_tokens(model, x):
    flipped = torch.cumsum(x.flip(-1), -1)
    return model.scan(flipped, *model.pieces(flipped)).flip(-1)


@pytest.mark.parametrize("function", [there_and_back, each_by_itself, merged_with_the_batch])
def test_flips_of_all_that_a_scan_reads_are_its_reverse(function):
    graph = simplified_graph(Flipped(function), (torch.randn(2, E, 5),))
    assert (flips(graph), reverses(graph)) == (0, [[1]])


@pytest.mark.parametrize(
    "function",
    [
        *(only_there, only_back, read_elsewhere, with_steps_of_other_tokens, of_channels),
        *(added_to_what_is_not_flipped, mixed_along_the_tokens),
    ],
)
def test_other_flips_stay(function):
    module, inputs = Flipped(function), (torch.randn(2, E, 5),)
    graph = simplified_graph(module, inputs)
    assert (flips(graph), reverses(graph)) == (flips(exported(module, inputs).graph), [[0]])


class Groups(nn.Module):
    """Three groups, the last one flipped, and merged by a function."""

    def __init__(self, merge):
        super().__init__()
        self.scan, self.weight, self.merge = Scan(groups=3), nn.Parameter(torch.rand(3, E + 2 * N, E)), merge

    def forward(self, x):
        xs = torch.stack([x, 2 * x, x.flip(-1)], dim=1)
        delta, b, c = torch.split(torch.einsum("bkdl,kcd->bkcl", xs, self.weight), [E, N, N], dim=2)
        ys = self.scan(xs.flatten(1, 2), delta.flatten(1, 2), b.contiguous(), c.contiguous())
        return self.merge(ys.unflatten(1, (3, E)))


def test_groups_that_are_taken_apart_before_they_are_flipped_back():
    graph = simplified_graph(Groups(lambda y: y[:, 0] + y[:, 1] + y[:, 2].flip(-1)), (torch.randn(2, E, 5),))
    assert (flips(graph), reverses(graph)) == (0, [[0, 0, 1]])


@pytest.mark.parametrize("merge", [lambda y: y.sum(1), lambda y: y[:, 1:].flip(-1), lambda y: y[:, 2] + y[:, 0]])
def test_groups_that_are_not_flipped_back_stay(merge):
    graph = simplified_graph(Groups(merge), (torch.randn(2, E, 5),))
    assert reverses(graph) == [[0, 0, 0]]


class Convolution(nn.Module):
    def __init__(self, padding=3):
        super().__init__()
        self.conv, self.scan = nn.Conv1d(E, E, 4, groups=E, padding=padding), Scan()


class FlippedConvolution(Convolution):
    def forward(self, x):
        return causal_conv1d_fn(x.flip(-1), self.conv.weight[:, 0], self.conv.bias, activation="silu").flip(-1)


class StandardConvolution(Convolution):
    """The causal convolution as Mamba code writes it with nn.Conv1d."""

    def forward(self, x):
        u = torch.nn.functional.silu(self.conv(x)[..., : x.shape[-1]])
        return self.scan(u, u, u[:, :N], u[:, -N:])


class TestACausalConvolution:
    def test_between_flips_is_reversed(self):
        graph = simplified_graph(FlippedConvolution(), (torch.randn(2, E, 5),))
        assert (flips(graph), reverses(graph)) == (0, [[1]])

    @pytest.mark.parametrize("free", [None, [{0: "b", 2: "l"}]])
    def test_of_the_standard_becomes_the_operator(self, free):
        graph = simplified_graph(StandardConvolution(), (torch.randn(2, E, 5),), free)
        assert not {"Conv", "Sigmoid", "Mul"} & set(operators(graph))
        [conv] = [node for node in graph if node.op_type == "CausalConv1d"]
        assert conv.attributes["silu"].value == 1

    def test_that_reads_later_tokens_stays(self):
        graph = simplified_graph(StandardConvolution(padding=2), (torch.randn(2, E, 5),))
        assert operators(graph)["Conv"] == 1

    def test_in_a_network_without_a_scan_stays(self):
        class Alone(Convolution):
            def forward(self, x):
                return self.conv(x)[..., : x.shape[-1]]

        assert operators(simplified_graph(Alone(), (torch.randn(2, E, 5),)))["Conv"] == 1
