"""What mamba_ssm, causal_conv1d and the extensions compute, in plain loops of float64, to compare stand-ins with.

Written from the formulas, with the functions' own names, so that a miniature can be run on them instead.
"""

from types import SimpleNamespace

import torch
import torch.nn.functional as F


def scan(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False):
    """(B, D, L) in float64, and the last state (B, D, N)."""
    u, delta, A, B, C = (t.double() for t in (u, delta, A, B, C))
    batch, channels, length = u.shape
    y = torch.zeros_like(u)
    h = torch.zeros(batch, channels, A.shape[1], dtype=torch.float64)
    for token in range(length):
        for channel in range(channels):
            dt = delta[:, channel * delta.shape[1] // channels, token]  # (B,)
            if delta_bias is not None:
                dt = dt + delta_bias[channel * len(delta_bias) // channels].double()
            if delta_softplus:
                dt = F.softplus(dt)
            b, c = (_of_channel(t, channel, channels, token) for t in (B, C))  # (B, N) or (N,)
            x = u[:, channel, token]
            h[:, channel] = torch.exp(dt[:, None] * A[channel]) * h[:, channel] + (dt * x)[:, None] * b
            y[:, channel, token] = (h[:, channel] * c).sum(-1)
            if D is not None:
                y[:, channel, token] += D[channel].double() * x
    return (y if z is None else y * F.silu(z.double())), h


def _of_channel(tensor, channel, channels, token):
    if tensor.dim() == 2:
        return tensor[channel]
    if tensor.dim() == 3:
        return tensor[..., token]
    return tensor[:, channel * tensor.shape[1] // channels, :, token]


def selective_scan_fn(
    u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, return_last_state=False
):
    y, state = scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus)
    return (y.to(u.dtype), state) if return_last_state else y.to(u.dtype)


def causal_conv1d_fn(x, weight, bias=None, activation=None):
    y = torch.zeros_like(x, dtype=torch.float64)
    for token in range(x.shape[2]):
        for tap in range(weight.shape[1]):
            source = token + tap - weight.shape[1] + 1
            if source >= 0:
                y[:, :, token] += weight[:, tap].double() * x[:, :, source].double()
    y = y if bias is None else y + bias.double()[:, None]
    return (F.silu(y) if activation else y).to(x.dtype)


def mamba_inner_fn_no_out_proj(
    xz,
    conv_weight,
    conv_bias,
    x_proj,
    dt_proj,
    A,
    B=None,
    C=None,
    D=None,
    delta_bias=None,
    B_proj_bias=None,
    C_proj_bias=None,
    delta_softplus=True,
    norm_weights=(None, None, None),
    eps=1e-6,
    backward_A=None,
):
    x, z = xz.double().chunk(2, dim=1)
    u = causal_conv1d_fn(x, conv_weight[:, 0], conv_bias, "silu")
    projected = torch.einsum("re,bel->brl", x_proj.double(), u)
    rank, states = dt_proj.shape[1], A.shape[1]
    delta = torch.einsum("er,brl->bel", dt_proj.double(), projected[:, :rank])
    b, c = projected[:, rank : rank + states], projected[:, -states:]
    b = b if B_proj_bias is None else b + B_proj_bias.double()[:, None]
    c = c if C_proj_bias is None else c + C_proj_bias.double()[:, None]
    b, c, delta = (
        t if weight is None else rms_norm(t.transpose(1, 2), weight, eps).transpose(1, 2)
        for t, weight in zip((b, c, delta), norm_weights, strict=True)
    )
    b, c = b if B is None else B, c if C is None else C
    y, _ = scan(u, delta, A, b, c, D, z, delta_bias, delta_softplus)
    if backward_A is not None:
        u, delta, b, c, z = (t.flip(-1) for t in (u, delta, b, c, z))
        y = y + scan(u, delta, backward_A, b, c, D, z, delta_bias, delta_softplus)[0].flip(-1)
    return y.to(xz.dtype)


def mamba_inner_fn(xz, conv_weight, conv_bias, x_proj, dt_proj, out_proj, out_bias, *rest, **options):
    y = mamba_inner_fn_no_out_proj(xz, conv_weight, conv_bias, x_proj, dt_proj, *rest, **options)
    return F.linear(y.transpose(1, 2), out_proj, out_bias)


def bimamba_inner_fn(xz, conv_weight, conv_bias, x_proj, dt_proj, out_proj, out_bias, A, A_b, *rest, **options):
    return mamba_inner_fn(
        xz, conv_weight, conv_bias, x_proj, dt_proj, out_proj, out_bias, A, *rest, backward_A=A_b, **options
    )


def rms_norm(x, weight, eps):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * weight


def rms_norm_fn(x, weight, bias, residual=None, prenorm=False, residual_in_fp32=False, eps=1e-6):
    total = x.double() if residual is None else x.double() + residual.double()
    kept = residual.dtype if residual is not None else torch.float32 if residual_in_fp32 else x.dtype
    y = rms_norm(total, weight.double(), eps)
    y = (y if bias is None else y + bias.double()).to(x.dtype)
    return (y, total.to(kept)) if prenorm else y


def layer_norm_fn(x, weight, bias, residual=None, eps=1e-6, prenorm=False, residual_in_fp32=False, is_rms_norm=False):
    total = x.double() if residual is None else x.double() + residual.double()
    kept = residual.dtype if residual is not None else torch.float32 if residual_in_fp32 else x.dtype
    centred = total - total.mean(-1, keepdim=True)
    y = (rms_norm(centred, weight.double(), eps) + bias.double()).to(x.dtype)
    return (y, total.to(kept)) if prenorm else y


def _fwd(u, delta, A, B, C, D, delta_bias, softplus, *tuning):
    return [selective_scan_fn(u, delta, A, B, C, D, None, delta_bias, softplus), None]


def _fwd_with_gate(u, delta, A, B, C, D, z, delta_bias, softplus):
    return [selective_scan_fn(u, delta, A, B, C, D, None, delta_bias, softplus), None]


selective_scan_cuda = SimpleNamespace(fwd=_fwd_with_gate)
selective_scan_cuda_core = selective_scan_cuda_oflex = SimpleNamespace(fwd=_fwd)


def _conv_fwd(x, weight, bias, *rest):
    y = causal_conv1d_fn(x, weight, bias, "silu" if rest[-1] else None)
    if len(rest) < 5:
        return y
    rest[2].copy_(y)
    return None


causal_conv1d_cuda = SimpleNamespace(causal_conv1d_fwd=_conv_fwd)
