"""Small models that call the extensions and packages of other people's Mambas, each as a family of real ones does.

They are written as those models are: for functions that are not here, imported at the top. Everything is seeded.
"""

import torch
import torch.nn.functional as F
from torch import nn

import vimdeploy

with vimdeploy.compat.mamba():
    import causal_conv1d_cuda
    import selective_scan_cuda
    import selective_scan_cuda_core
    import selective_scan_cuda_oflex
    from causal_conv1d import causal_conv1d_fn
    from mamba_ssm.modules.mamba_simple import Mamba
    from mamba_ssm.ops.selective_scan_interface import (
        bimamba_inner_fn,
        mamba_inner_fn,
        mamba_inner_fn_no_out_proj,
        selective_scan_fn,
    )
    from mamba_ssm.ops.triton.layer_norm import RMSNorm, layer_norm_fn, rms_norm_fn

CHANNELS, STATES, RANK, WIDTH, HEIGHT, COLUMNS = 6, 4, 3, 4, 3, 5
TOKENS = HEIGHT * COLUMNS


class Weights(nn.Module):
    """The parameters of ``directions`` scans, in the shapes of the field."""

    def __init__(self, directions=1, states=STATES):
        super().__init__()
        self.x_proj = nn.Parameter(torch.randn(directions, RANK + 2 * states, CHANNELS) / 3)
        self.dt_proj = nn.Parameter(torch.randn(directions, CHANNELS, RANK) / 2)
        self.dt_bias = nn.Parameter(torch.randn(directions, CHANNELS))
        self.A_log = nn.Parameter(torch.rand(directions * CHANNELS, states))
        self.D = nn.Parameter(torch.randn(directions * CHANNELS))
        self.states = states

    @property
    def A(self):  # noqa: N802
        return -torch.exp(self.A_log.float())


class Gated(nn.Module):
    """P1 with z, as mambapy and the slow path of mamba_ssm: the scan gates."""

    def __init__(self):
        super().__init__()
        self.in_proj, self.scan = nn.Linear(CHANNELS, 2 * CHANNELS), Weights()

    def forward(self, hidden):  # (B, L, C)
        x, z = self.in_proj(hidden).chunk(2, dim=-1)
        projected = x @ self.scan.x_proj[0].T
        dt, b, c = projected.split([RANK, STATES, STATES], dim=-1)
        delta = self.scan.dt_proj[0] @ dt.transpose(1, 2)
        y = selective_scan_fn(
            x.transpose(1, 2),
            delta,
            self.scan.A,
            b.transpose(1, 2),
            c.transpose(1, 2),
            self.scan.D.float(),
            z=z.transpose(1, 2),
            delta_softplus=True,
            delta_bias=self.scan.dt_bias[0].float(),
        )
        return y.transpose(1, 2)


class Ungated(nn.Module):
    """P1 without z, as MambaVision: convolutions that are not causal, and z beside y."""

    def __init__(self):
        super().__init__()
        self.in_proj, self.scan = nn.Linear(CHANNELS, 2 * CHANNELS), Weights()
        self.conv_x = nn.Conv1d(CHANNELS, CHANNELS, 3, padding="same", groups=CHANNELS)
        self.conv_z = nn.Conv1d(CHANNELS, CHANNELS, 3, padding="same", groups=CHANNELS)

    def forward(self, hidden):  # (B, L, C)
        x, z = self.in_proj(hidden).transpose(1, 2).chunk(2, dim=1)
        x, z = F.silu(self.conv_x(x)), F.silu(self.conv_z(z))
        batch, _, length = x.shape
        projected = F.linear(x.transpose(1, 2).reshape(batch * length, -1), self.scan.x_proj[0])
        dt, b, c = torch.split(projected, [RANK, STATES, STATES], dim=-1)
        delta = F.linear(dt, self.scan.dt_proj[0], self.scan.dt_bias[0])  # the bias once more below, as there
        delta, b, c = (t.reshape(batch, length, -1).transpose(1, 2).contiguous() for t in (delta, b, c))
        y = selective_scan_fn(
            x,
            delta,
            self.scan.A,
            b,
            c,
            self.scan.D.float(),
            z=None,
            delta_bias=self.scan.dt_bias[0].float(),
            delta_softplus=True,
            return_last_state=None,
        )
        return torch.cat([y, z], dim=1).transpose(1, 2)


def cross_scanned(x):
    """(B, C, H, W) -> (B, 4, C, L): rows, columns, and both reversed."""
    rows = x.flatten(2)
    columns = x.transpose(2, 3).flatten(2)
    both = torch.stack([rows, columns], dim=1)
    return torch.cat([both, torch.flip(both, dims=[-1])], dim=1)


def cross_scanned_in_place(x):
    """``cross_scanned``, written slice by slice into a tensor without values, as VMamba does."""
    batch, channels, height, width = x.shape
    xs = x.new_empty((batch, 4, channels, height * width))
    xs[:, 0] = x.flatten(2, 3)
    xs[:, 1] = x.transpose(dim0=2, dim1=3).flatten(2, 3)
    xs[:, 2:4] = torch.flip(xs[:, 0:2], dims=[-1])
    return xs


def cross_merged(ys, height, width):
    """(B, 4, C, L) -> (B, C, L)."""
    batch, _, channels, length = ys.shape
    both = ys[:, 0:2] + ys[:, 2:4].flip(dims=[-1]).view(batch, 2, channels, length)
    columns = both[:, 1].view(batch, channels, width, height).transpose(2, 3).contiguous().view(batch, channels, length)
    return both[:, 0] + columns


class Cross(nn.Module):
    """P2, as MambaIR, VM-UNet and Swin-UMamba: four directions in one call, from stack, cat and flip."""

    cross_scan = staticmethod(cross_scanned)

    def __init__(self, states=STATES):
        super().__init__()
        self.scan = Weights(4, states)

    def forward(self, x):  # (B, C, H, W)
        batch, channels, height, width = x.shape
        length, scan = height * width, self.scan
        xs = self.cross_scan(x)
        projected = torch.einsum("b k d l, k c d -> b k c l", xs, scan.x_proj)
        dts, bs, cs = torch.split(projected, [RANK, scan.states, scan.states], dim=2)
        dts = torch.einsum("b k r l, k d r -> b k d l", dts, scan.dt_proj)
        ys = self.scanned(
            xs.float().view(batch, -1, length),
            dts.contiguous().float().view(batch, -1, length),
            scan.A,
            bs.float().view(batch, 4, -1, length),
            cs.float().view(batch, 4, -1, length),
            scan.D.float().view(-1),
            scan.dt_bias.float().view(-1),
        ).view(batch, 4, -1, length)
        assert ys.dtype == torch.float32
        return cross_merged(ys, height, width).view(batch, channels, height, width)

    def scanned(self, xs, dts, A, bs, cs, D, dt_bias):
        return selective_scan_fn(
            xs, dts, A, bs, cs, D, z=None, delta_bias=dt_bias, delta_softplus=True, return_last_state=False
        )


class ScanOfAnExtension(torch.autograd.Function):
    """VMamba's and LocalMamba's wrapper of the extensions."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cuda")
    def forward(ctx, u, delta, A, B, C, D=None, delta_bias=None, delta_softplus=False, backend="oflex"):
        ctx.delta_softplus = delta_softplus
        if backend == "oflex":
            out, x, *_ = selective_scan_cuda_oflex.fwd(u, delta, A, B, C, D, delta_bias, delta_softplus, 1, True)
        elif backend == "core":
            out, x, *_ = selective_scan_cuda_core.fwd(u, delta, A, B, C, D, delta_bias, delta_softplus, 1)
        else:
            out, x, *_ = selective_scan_cuda.fwd(u, delta, A, B, C, D, None, delta_bias, delta_softplus)
        ctx.save_for_backward(u, delta, A, B, C, D, delta_bias, x)
        return out

    @staticmethod
    @torch.amp.custom_bwd(device_type="cuda")
    def backward(ctx, dout):
        u, delta, A, B, C, D, delta_bias, x = ctx.saved_tensors
        du, ddelta, dA, dB, dC, dD, dbias, *_ = selective_scan_cuda_oflex.bwd(
            u, delta, A, B, C, D, delta_bias, dout.contiguous(), x, ctx.delta_softplus, 1
        )
        return du, ddelta, dA, dB, dC, dD, dbias, None, None


class CrossOfAnExtension(Cross):
    """P4, as VMamba (one state), LocalVMamba and Mamba-YOLO: the cross scan in place, the extension itself."""

    cross_scan = staticmethod(cross_scanned_in_place)

    def __init__(self, backend="oflex", states=1):
        super().__init__(states)
        self.backend = backend

    def forward(self, x):
        with torch.cuda.device(x.device):
            return super().forward(x)

    def scanned(self, xs, dts, A, bs, cs, D, dt_bias):
        return ScanOfAnExtension.apply(xs, dts, A, bs.contiguous(), cs.contiguous(), D, dt_bias, True, self.backend)


class Block(nn.Module):
    """P3: parameters of a Mamba block, for the fused functions."""

    def __init__(self, directions=1):
        super().__init__()
        self.in_proj = nn.Linear(CHANNELS, 2 * CHANNELS, bias=False)
        self.convs = nn.ModuleList(
            nn.Conv1d(CHANNELS, CHANNELS, WIDTH, groups=CHANNELS, padding=WIDTH - 1) for _ in range(directions)
        )
        self.scans = nn.ModuleList(Weights() for _ in range(directions))
        self.out_proj = nn.Linear(CHANNELS, CHANNELS)

    def xz(self, hidden):
        """(B, L, C) -> (B, 2C, L) as mamba_ssm does it: a product with the weight on the left."""
        batch, length, _ = hidden.shape
        product = self.in_proj.weight @ hidden.permute(2, 0, 1).reshape(CHANNELS, batch * length)
        return product.reshape(-1, batch, length).permute(1, 0, 2)

    def of_direction(self, k):
        conv, scan = self.convs[k], self.scans[k]
        return conv.weight, conv.bias, scan.x_proj[0], scan.dt_proj[0]


class Fused(Block):
    """P3, as the fast path of mamba_ssm: everything in one call."""

    def forward(self, hidden):
        scan = self.scans[0]
        return mamba_inner_fn(
            self.xz(hidden),
            *self.of_direction(0),
            self.out_proj.weight,
            self.out_proj.bias,
            scan.A,
            None,
            None,
            scan.D.float(),
            delta_bias=scan.dt_bias[0].float(),
            delta_softplus=True,
        )


class Vim(Block):
    """P3, as Vision Mamba's v2 and VideoMamba: a second direction, its own parameters over the flipped tokens."""

    def __init__(self):
        super().__init__(2)

    def forward(self, hidden):
        xz = self.xz(hidden)
        forward, backward = (
            mamba_inner_fn_no_out_proj(
                tokens,
                *self.of_direction(k),
                self.scans[k].A,
                None,
                None,
                self.scans[k].D.float(),
                delta_bias=self.scans[k].dt_bias[0].float(),
                delta_softplus=True,
            )
            for k, tokens in enumerate([xz, xz.flip([-1])])
        )
        return F.linear((forward + backward.flip([-1])).transpose(1, 2) / 2, self.out_proj.weight, self.out_proj.bias)


class VimOfOneConvolution(Block):
    """P3, as Vision Mamba's v1: one convolution, a second A."""

    def __init__(self):
        super().__init__(2)

    def forward(self, hidden):
        return bimamba_inner_fn(
            self.xz(hidden),
            *self.of_direction(0),
            self.out_proj.weight,
            self.out_proj.bias,
            self.scans[0].A,
            self.scans[1].A,
            None,
            None,
            self.scans[0].D.float(),
            delta_bias=self.scans[0].dt_bias[0].float(),
            delta_softplus=True,
        )


class Stock(nn.Module):
    """The block of mamba_ssm itself, as U-Mamba uses it."""

    def __init__(self):
        super().__init__()
        self.mamba = Mamba(d_model=CHANNELS, d_state=STATES, d_conv=WIDTH, expand=2)

    def forward(self, hidden):
        return self.mamba(hidden)


class StockOverPictures(nn.Module):
    """U-Mamba's layer: the block of mamba_ssm over the pixels of a picture, autocast switched off by a decorator."""

    def __init__(self):
        super().__init__()
        self.norm, self.mamba = nn.LayerNorm(CHANNELS), Mamba(d_model=CHANNELS, d_state=STATES, d_conv=WIDTH)

    @torch.amp.autocast("cuda", enabled=False)
    def forward(self, x):  # (B, C, H, W)
        if x.dtype == torch.float16:
            x = x.type(torch.float32)
        batch, channels = x.shape[:2]
        tokens = x.reshape(batch, channels, x.shape[2:].numel()).transpose(-1, -2)
        return self.mamba(self.norm(tokens)).transpose(-1, -2).reshape(batch, channels, *x.shape[2:])


class Convolution(nn.Module):
    """P5: the convolution alone, through the package."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(CHANNELS, CHANNELS, WIDTH, groups=CHANNELS, padding=WIDTH - 1)

    def forward(self, x):  # (B, C, L)
        return self.convolved(x, self.conv.weight[:, 0], self.conv.bias)

    def convolved(self, x, weight, bias):
        return causal_conv1d_fn(x=x, weight=weight, bias=bias, activation="silu")


class ConvolutionOfAnExtension(Convolution):
    """P4: the convolution alone, through the extension of one of the releases."""

    def __init__(self, arguments):
        super().__init__()
        self.arguments = arguments

    def convolved(self, x, weight, bias):
        if self.arguments == 8:
            out = torch.empty_like(x)
            causal_conv1d_cuda.causal_conv1d_fwd(x, weight, bias, None, None, out, None, True)
            return out
        nothing = [None] * (self.arguments - 4)
        return causal_conv1d_cuda.causal_conv1d_fwd(x, weight, bias, *nothing, True)


class Norms(nn.Module):
    """P6: what a Block of Vim calls between its mixers."""

    def __init__(self):
        super().__init__()
        self.first, self.last, self.layer = RMSNorm(CHANNELS, eps=1e-5), RMSNorm(CHANNELS), nn.LayerNorm(CHANNELS)
        for norm in (self.first, self.last, self.layer):
            nn.init.normal_(norm.weight)
        nn.init.normal_(self.layer.bias)

    def forward(self, hidden):  # (B, L, C)
        hidden, residual = rms_norm_fn(
            hidden, self.first.weight, self.first.bias, prenorm=True, residual_in_fp32=True, eps=self.first.eps
        )
        hidden, residual = layer_norm_fn(
            hidden,
            self.layer.weight,
            self.layer.bias,
            residual=residual,
            prenorm=True,
            residual_in_fp32=True,
            eps=self.layer.eps,
        )
        return self.last(hidden, residual, prenorm=False)


def _tokens(batch=2):
    return torch.randn(batch, TOKENS, CHANNELS)


def _channels(batch=2):
    return torch.randn(batch, CHANNELS, TOKENS)


def _picture(batch=2):
    return torch.randn(batch, CHANNELS, HEIGHT, COLUMNS)


MINIATURES = {
    "gated": (Gated, _tokens),
    "ungated": (Ungated, _tokens),
    "cross": (Cross, _picture),
    "oflex": (CrossOfAnExtension, _picture),
    "core": (lambda: CrossOfAnExtension("core", STATES), _picture),
    "extension": (lambda: CrossOfAnExtension("mamba", STATES), _picture),
    "fused": (Fused, _tokens),
    "vim": (Vim, _tokens),
    "vim_v1": (VimOfOneConvolution, _tokens),
    "stock": (Stock, _tokens),
    "stock_2d": (StockOverPictures, _picture),
    "convolution": (Convolution, _channels),
    "convolution_4": (lambda: ConvolutionOfAnExtension(4), _channels),
    "convolution_5": (lambda: ConvolutionOfAnExtension(5), _channels),
    "convolution_7": (lambda: ConvolutionOfAnExtension(7), _channels),
    "convolution_8": (lambda: ConvolutionOfAnExtension(8), _channels),
    "norms": (Norms, _tokens),
}


def miniature(name):
    """The model, ready to answer, and an input for it."""
    make_model, make_input = MINIATURES[name]
    torch.manual_seed(sum(name.encode()))
    return make_model().eval(), make_input()
