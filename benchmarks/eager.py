"""The selective scan in PyTorch on a CPU: the loop that Mamba's code falls back to beside our compiled kernel.

    python benchmarks/eager.py --threads 2 --rounds 7

All take their turns (A B C A B C ...) in one process on the same channel-major tensors, as Mamba's code has them; our
time holds the copies that make them token-major. Printed is the shortest time of each, for what others do on the
machine meanwhile only adds to a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import click
import torch
import torch.nn.functional as F
from torch import Tensor

from vimdeploy.ops import torch_ops
from vimdeploy.ops.contract import FLOAT_TYPES

SIZES = ((1, 1024, 384, 16), (1, 1024, 384, 1), (4, 3136, 96, 1), (4, 784, 192, 16), (1, 196, 160, 8))
"""Groups, tokens, channels of a group and states: a Vim-Ti at 512 pixels, the same with one state, stages of VMamba-T
and of a U-Net of scans, and of MambaVision-T."""


def selective_scan_ref(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor) -> Tensor:
    """What state-spaces/mamba's function of this name computes, in the steps in which it does.

    Args:
        u: (B, G E, L).
        delta: (B, G E, L).
        A: (G E, N) float32.
        B: (B, G, N, L).
        C: (B, G, N, L).
        D: (G E,) float32.
        bias: (G E,) float32.

    Returns:
        y (B, G E, L) in u's type.
    """
    channels = A.shape[0] // B.shape[1]
    x, dt = u.float(), F.softplus(delta.float() + bias[:, None])
    b, c = (t.float().repeat_interleave(channels, dim=1) for t in (B, C))  # (B, G E, N, L)
    decay = torch.exp(torch.einsum("bdl,dn->bdln", dt, A))
    added = torch.einsum("bdl,bdnl,bdl->bdln", dt, b, x)
    h = A.new_zeros(u.shape[0], *A.shape)
    steps = []
    for token in range(u.shape[2]):
        h = decay[:, :, token] * h + added[:, :, token]
        steps.append(torch.einsum("bdn,bdn->bd", h, c[..., token]))
    return (torch.stack(steps, dim=2) + x * D[:, None]).to(u.dtype)


def ours(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor) -> Tensor:
    """The same by ``torch_ops``, in another order of the axes."""
    groups = B.shape[1]
    u, delta = (t.unflatten(1, (groups, -1)).transpose(2, 3) for t in (u, delta))
    A, D, bias = (t.unflatten(0, (groups, -1)) for t in (A, D, bias))
    y = torch_ops.selective_scan(
        u, delta, A, B.transpose(2, 3), C.transpose(2, 3), D, bias, reverse=[0] * groups
    )  # (B, G, L, E)
    return y.transpose(2, 3).flatten(1, 2)


def our_loop(*inputs: Tensor) -> Tensor:
    """``ours`` without compiled kernels."""
    with torch_ops.plain_loops():
        return ours(*inputs)


def inputs_of(groups: int, tokens: int, channels: int, states: int) -> list[Tensor]:
    """Random inputs of ``selective_scan_ref`` in float32, one sequence; step sizes as trained models have them."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    all_channels = groups * channels
    u, delta = random(1, all_channels, tokens), random(1, all_channels, tokens) - 3
    A = -torch.arange(1.0, states + 1).expand(all_channels, -1).contiguous()
    B, C = random(1, groups, states, tokens), random(1, groups, states, tokens)
    return [u, delta, A, B, C, random(all_channels), random(all_channels)]


def in_type(inputs: list[Tensor], name: str) -> list[Tensor]:
    """u, delta, B and C in a type."""
    u, delta, A, B, C, D, bias = inputs
    dtype = getattr(torch, name)
    return [u.to(dtype), delta.to(dtype), A, B.to(dtype), C.to(dtype), D, bias]


@click.command()
@click.option("--threads", default=2, show_default=True, help="Threads of PyTorch and of our kernels.")
@click.option("--rounds", default=7, show_default=True, help="Turns that each takes.")
@torch.no_grad()
def main(threads: int, rounds: int) -> None:
    """Measure and print."""
    torch.set_num_threads(threads)
    click.echo(f"{threads} thread(s), one sequence; ms, and how many times as long as ours in the same type it takes")
    click.echo(f"{'G':>2} {'L':>5} {'E':>4} {'N':>3}  {'type':9} {'Mamba':>14} {'our loop':>15} {'ours':>8}")
    for size in SIZES:
        float32 = inputs_of(*size)
        runs: dict[tuple[str, Callable[..., Tensor]], list[float]] = {}
        for _ in range(rounds):
            for name in FLOAT_TYPES:
                inputs = in_type(float32, name)
                for function in (selective_scan_ref, our_loop, ours):
                    start = time.perf_counter()
                    function(*inputs)
                    runs.setdefault((name, function), []).append(time.perf_counter() - start)
        ms = {key: min(times) * 1e3 for key, times in runs.items()}
        for name in FLOAT_TYPES:
            own = ms[name, ours]
            others = (f"{ms[name, f]:7.1f} ({ms[name, f] / own:5.1f})" for f in (selective_scan_ref, our_loop))
            groups, tokens, channels, states = size
            click.echo(f"{groups:2} {tokens:5} {channels:4} {states:3}  {name:9} {' '.join(others)} {own:8.2f}")


if __name__ == "__main__":
    main()
