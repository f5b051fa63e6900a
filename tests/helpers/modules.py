"""Small PyTorch modules as other people write them, without a Mamba in them; and files that make them."""

from dataclasses import dataclass

import torch
from torch import nn

import vimdeploy.ops.torch_ops as torch_ops


class Wide(nn.Module):
    """Several inputs, some nested and one constant; several outputs, some nested; a shared layer, a buffer."""

    def __init__(self):
        super().__init__()
        self.proj, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.again, self.names = self.proj, nn.Embedding(7, 4)
        self.register_buffer("shift", torch.randn(4))
        self.image = nn.Parameter(torch.rand(4))

    def forward(self, image, extra=None, *, beside, scale=1.0):
        assert not self.training
        hidden = self.norm(self.proj(image)) * scale + self.shift + self.names(beside["class_ids"])
        logits = hidden * self.image * beside["weight"]
        return {"logits": logits, "maps": [self.again(hidden), hidden], "none": extra, "best": logits.argmax(-1)}


def wide_inputs(batch=2):
    return {
        "image": torch.randn(batch, 4),
        "beside": {"class_ids": torch.arange(batch) % 7, "weight": torch.rand(batch, 4)},
        "scale": 0.5,
    }


@dataclass
class Answer:
    first: torch.Tensor
    second: torch.Tensor


class Linear(nn.Module):
    """One layer, and what a test does with it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)


class Windows(Linear):
    """The batch through a float and back, as MambaVision's window_reverse does."""

    def forward(self, x):
        windows = int(x.shape[0] * 4 / 4)
        return self.layer(self.layer(x)).view(windows, -1)


class Rows(Linear):
    """A loop over the batch."""

    def forward(self, x):
        return torch.stack([self.layer(x[row]) for row in range(x.shape[0])])


class Two(Linear):
    """Takes a batch of two alone."""

    def forward(self, x):
        return self.layer(x) + torch.zeros(2, 1)


class Mixing(Linear):
    """Rows that look at each other."""

    def forward(self, x):
        return self.layer(x).softmax(0)


class Choosing(Linear):
    """Asks for a value while it is traced."""

    def forward(self, x):
        if x.sum() > 0:
            return self.layer(x)
        return x


class Factored(Linear):
    """Calls what ONNX does not have."""

    def forward(self, x):
        return torch.linalg.qr(self.layer(x))[0]


class Drawing(Linear):
    """Random in eval mode too."""

    def forward(self, x):
        return {"sure": self.layer(x), "drawn": self.layer(x) + torch.rand_like(x)}


class Keeping(Linear):
    """Assigns to itself while it answers."""

    def forward(self, x):
        self.kept, self.calls = x * 2, getattr(self, "calls", 0) + 1
        return Answer(self.layer(self.kept), self.kept + 1)


class Pooled(nn.Module):
    """Pictures of any size."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 6, 4, 4), nn.Linear(6, 5)

    def forward(self, images):
        features = self.stem(images)
        return self.head(features.mean((2, 3))), features


class Scans(nn.Module):
    """Blocks of our operators, a second direction by flips, as cross scans write it."""

    def __init__(self, blocks=2, channels=6, states=3):
        super().__init__()
        self.sizes = (channels, states)
        self.blocks = nn.ModuleList(nn.ModuleDict({"inner": Block(channels, states)}) for _ in range(blocks))
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(blocks))

    def forward(self, tokens):  # (B, L, C)
        for norm, block in zip(self.norms, self.blocks, strict=True):
            tokens = tokens + block["inner"](norm(tokens))
        return tokens


class Block(nn.Module):
    def __init__(self, channels, states):
        super().__init__()
        self.sizes = (channels, states)
        self.mixed = nn.Linear(channels, channels)
        self.conv_weight = nn.Parameter(torch.randn(1, channels, 4) / 2)
        self.conv_bias = nn.Parameter(torch.randn(1, channels))
        self.proj = nn.Parameter(torch.randn(2, channels + 2 * states, channels) / 2)
        self.A_log = nn.Parameter(torch.rand(2, channels, states))
        self.D = nn.Parameter(torch.randn(2, channels))
        self.bias = nn.Parameter(torch.randn(2, channels))

    def forward(self, x):
        channels, states = self.sizes
        u = torch_ops.causal_conv1d(self.mixed(x), self.conv_weight, self.conv_bias)[0]  # (B, L, E)
        both = torch.stack([u, u.flip(1)], 1)  # (B, G, L, E)
        delta, b, c = (both @ self.proj.transpose(1, 2)).split([channels, states, states], dim=-1)
        y = torch_ops.selective_scan(both, delta, -self.A_log.exp(), b, c, self.D, self.bias, reverse=(0, 0))
        return y[:, 0] + y[:, 1].flip(1)


FILE = """
import torch
from torch import nn
from mamba_ssm.modules.mamba_simple import Mamba
from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
from beside import CHANNELS

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.mamba, self.head = nn.Linear(3, CHANNELS), Mamba(CHANNELS, d_state=4), nn.Linear(CHANNELS, 5)

    def forward(self, tokens):
        features = self.stem(tokens)
        return {"logits": self.head((features + self.mamba(features)).mean(1)), "features": features}

def make():
    print("somebody's print")
    return Net(), torch.randn(1, 7, 3)

def number():
    return 3

def alone():
    return Net()

def broken():
    return nn.Linear(3, "four"), torch.randn(1, 3)

def forked():
    return Mamba(CHANNELS, bimamba_type="v2"), torch.randn(1, 7, CHANNELS)

def complex_a():
    model = Net()
    model.mamba.A_log = nn.Parameter(model.mamba.A_log.to(torch.complex64))
    return model, torch.randn(1, 7, 3)

def complex_scan():
    return ComplexScan(), torch.randn(1, 3, 7)

class ComplexScan(nn.Module):
    def forward(self, u):
        states = torch.ones(1, 4, 7)
        return selective_scan_fn(u, u, -torch.ones(3, 4) + 1j, states, states)

def second():
    from mamba_ssm import Mamba2
    return Mamba2(CHANNELS), torch.randn(1, 7, CHANNELS)

def random():
    return nn.Sequential(nn.Linear(3, 3), Noise()), torch.randn(1, 3)

class Noise(nn.Module):
    def forward(self, x):
        return x + torch.rand_like(x)

def wanting(argument):
    return Net(), torch.randn(1, 7, 3)

five = 5
"""
"""A file that makes models; it imports what is not installed, and a file beside it."""


def write_model_file(folder):
    """``their_model.py`` in a folder."""
    (folder / "beside.py").write_text("CHANNELS = 8\n")
    path = folder / "their_model.py"
    path.write_text(FILE)
    return path
