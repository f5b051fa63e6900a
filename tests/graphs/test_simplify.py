"""Simplified graphs as wholes: names, other networks, and our own, which stays what it is."""

import pytest
import torch
import torch.nn.functional as F
from helpers.foreign import answers, exported, simplified_graph
from helpers.foreign_blocks import E, MambapyBlock, VimBlock
from torch import nn

from vimdeploy.exporters import onnx_graph
from vimdeploy.graphs.simplify import simplified
from vimdeploy.networks import network_of_variant


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(E, 3 * E), nn.Linear(E, E)

    def forward(self, x):
        B, L, _ = x.shape
        q, k, v = self.qkv(x).view(B, L, 3, 2, -1).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, L, E))


class Windows(nn.Module):
    """Windows of a map, as Swin and MambaVision take them."""

    def __init__(self):
        super().__init__()
        self.conv, self.attention, self.norm = nn.Conv2d(E, E, 3, padding=1), Attention(), nn.LayerNorm(E)

    def forward(self, x):
        x = F.gelu(self.conv(x))
        B, C, H, W = x.shape
        y = x.view(B, C, H // 2, 2, W // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(-1, 4, C)
        y = self.attention(self.norm(y)).view(B, H // 2, W // 2, 2, 2, C).permute(0, 5, 1, 3, 2, 4)
        return x + y.reshape(B, C, H, W).flip(3).flip(2)


class Pyramid(nn.Module):
    """Maps of several sizes, shuffled and put together, with norms of channels first."""

    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Conv2d(E, 2 * E, 2, stride=2), nn.ConvTranspose2d(2 * E, E, 2, stride=2)
        self.norm, self.mlp = nn.LayerNorm(2 * E), nn.Sequential(nn.Linear(2 * E, 3), nn.ReLU(), nn.Linear(3, 2 * E))

    def forward(self, x):
        y = self.down(x)
        y = y + self.norm(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        y = y + self.mlp(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        B, C, H, W = y.shape
        y = y.view(B, 2, C // 2, H, W).transpose(1, 2).reshape(B, C, H, W)
        return torch.cat([x, F.interpolate(self.up(y), scale_factor=1.0)], 1), y.mean((2, 3))


class Sequence(nn.Module):
    """A recurrent network, whose nodes have several outputs, and a loop of indices."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(E, E, batch_first=True, bidirectional=True)

    def forward(self, x):
        y, (h, _) = self.lstm(x.flip(1))
        return y.flip(1), h.transpose(0, 1), torch.argsort(y, dim=1)[:, :1], torch.where(y > 0, y, x[..., :1])


OTHERS = {
    "attention": (Attention(), (2, 6, E), {0: "b", 1: "l"}, (3, 4, E)),
    "windows": (Windows(), (2, E, 4, 6), {0: "b"}, (3, E, 4, 6)),
    "pyramid": (Pyramid(), (2, E, 4, 6), {0: "b", 2: "2*h", 3: "2*w"}, (1, E, 2, 8)),
    "sequence": (Sequence(), (2, 6, E), None, None),
}


@pytest.mark.parametrize("name", OTHERS)
def test_networks_without_a_scan_give_the_same_answers(name):
    module, shape, _, _ = OTHERS[name]
    simplified_graph(module, (torch.randn(shape),))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["attention", "windows"])
def test_networks_without_a_scan_give_the_same_answers_at_free_sizes(name):
    module, shape, free, other = OTHERS[name]
    simplified_graph(module, (torch.randn(shape),), [free], (torch.randn(other),))


@pytest.mark.parametrize("task", ["classification", "features"])
def test_an_export_of_our_own_would_stay_the_same_to_the_byte(tiny, task, monkeypatch):
    network = network_of_variant(tiny, 0, task=task)
    wanted = onnx_graph.onnx_from_model(network.module, network.info)
    name, seen = onnx_graph._name_after_modules, []

    def simplify_and_name(model, *arguments):
        simplified(model)
        seen.append(model)
        name(model, *arguments)

    monkeypatch.setattr(onnx_graph, "_name_after_modules", simplify_and_name)
    found = onnx_graph.onnx_from_model(network.module, network.info)
    assert seen
    assert found.SerializeToString(deterministic=True) == wanted.SerializeToString(deterministic=True)


class TestASimplifiedGraph:
    @pytest.fixture(scope="class")
    def model(self):
        model = exported(nn.Sequential(VimBlock(), MambapyBlock()), (torch.randn(2, 5, 6),))
        simplified(model)
        return model

    def test_gives_every_value_a_name_of_its_own_a_type_and_a_shape(self, model):
        values = [value for node in model.graph for value in node.outputs]
        assert len({value.name for value in values}) == len(values)
        assert all(value.name and value.dtype is not None and value.shape is not None for value in values)

    def test_keeps_the_names_of_inputs_and_outputs(self, model):
        fresh = exported(nn.Sequential(VimBlock(), MambapyBlock()), (torch.randn(2, 5, 6),))
        for found, wanted in ((model.graph.inputs, fresh.graph.inputs), (model.graph.outputs, fresh.graph.outputs)):
            assert [value.name for value in found] == [value.name for value in wanted]

    def test_tells_which_module_each_node_comes_from(self, model):
        scopes = [node.metadata_props["pkg.torch.onnx.name_scopes"] for node in model.graph]
        assert all(("'0" in scope) != ("'1" in scope) for scope in scopes)

    def test_is_simple_already(self, model):
        before = [node.op_type for node in model.graph]
        simplified(model)
        assert [node.op_type for node in model.graph] == before

    def test_has_no_constants_that_nobody_reads(self, model):
        assert all(list(value.uses()) for value in model.graph.initializers.values())


def test_an_output_that_is_an_input_after_all():
    class Back(nn.Module):
        def forward(self, x):
            y = x.transpose(0, 1)
            return y.transpose(0, 1), y.transpose(0, 1), y.reshape(-1).reshape(3, 2)

    model = exported(Back(), (torch.randn(2, 3),))
    names = [value.name for value in model.graph.outputs]
    simplified(model)
    assert [value.name for value in model.graph.outputs] == names
    found = answers(model, (torch.arange(6.0).view(2, 3),))
    assert [value.tolist() for value in found[:2]] == [[[0, 1, 2], [3, 4, 5]]] * 2
