"""The operators in PyTorch: what the models call.

Eagerly a plain loop over the tokens, the reference that every other implementation is held against (differentiable, so
that small models can be trained with it). While ``torch.onnx.export`` traces, one opaque node of domain ``vimdeploy``.

``causal_conv1d`` and ``selective_scan``, which models of other people call, take the compiled kernels if those are
installed and no gradient is wanted; ``plain_loops`` keeps them to the loops.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vimdeploy.errors import ConfigError
from vimdeploy.ops import native
from vimdeploy.ops.contract import (
    AT_LEAST,
    BIDIRECTIONAL_CONV1D,
    BIDIRECTIONAL_SCAN,
    CAUSAL_CONV1D,
    DOMAIN,
    FLOAT_TYPES,
    LOW_RANK_SCAN,
    SELECTIVE_SCAN,
    VERSION,
    Operator,
)

_plain: ContextVar[bool] = ContextVar("plain", default=False)
_observer: ContextVar[Callable[[Tensor], Tensor]] = ContextVar("observer", default=lambda result: result)


@contextmanager
def plain_loops() -> Iterator[None]:
    """Compute by the plain loops within this block, in this thread, although compiled kernels are there."""
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


@contextmanager
def observed(function: Callable[[int, Tensor], Tensor]) -> Iterator[None]:
    """Pass what ``causal_conv1d`` and ``selective_scan`` find in this block, in this thread, through a function.

    It is called for eager calls alone: while a model is exported there is nothing to see.

    Args:
        function: (number of the call in this block, from 0; its result) -> what the call gives in the result's place.
            Of two blocks, one in the other, the inner one's is called.
    """
    numbers = itertools.count()
    token = _observer.set(lambda result: function(next(numbers), result))
    try:
        yield
    finally:
        _observer.reset(token)


def causal_conv1d(
    x: Tensor, weight: Tensor, bias: Tensor, *, reverse: Sequence[int] = (0,), silu: bool = True
) -> Tensor:
    """Causal depthwise convolution, for K directions: ``contract.CAUSAL_CONV1D``.

    Args:
        x: (B, L, X); the first E channels are read.
        weight: (K, E, W), the last tap on the current token.
        bias: (K, E).
        reverse: K flags; 1 reads the tokens last to first.
        silu: whether SiLU follows.

    Returns:
        u (K, B, L, E) in x's type; position l is token l in every direction.

    Raises:
        ConfigError: for types or sizes that contradict each other.
    """
    inputs = (x, weight, bias)
    _check(CAUSAL_CONV1D, inputs, reverse)
    if torch.onnx.is_in_onnx_export():
        shape = (len(reverse), *x.shape[:2], weight.shape[1])
        return _node(CAUSAL_CONV1D, inputs, {"reverse": list(reverse), "silu": int(silu)}, shape)
    u = None if _wants_loop(inputs) else native.causal_conv1d(inputs, reverse, silu)
    return _observer.get()(_convolved(x, weight, bias, reverse, silu) if u is None else u)


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    delta_bias: Tensor,
    *,
    delta_weight: Tensor | None = None,
    reverse: Sequence[int] = (0,),
    delta_softplus: bool = True,
) -> Tensor:
    """The selective scan of G groups: ``contract.SELECTIVE_SCAN``, with ``delta_weight`` ``contract.LOW_RANK_SCAN``.

    Args:
        u: (B, G, L, E).
        delta: (B, G, L, E), the step sizes before bias and softplus; (B, G, L, R) with ``delta_weight``.
        A: (G, E, N) float32, negative.
        B: (B, G, L, N).
        C: (B, G, L, N).
        D: (G, E) float32.
        delta_bias: (G, E) float32.
        delta_weight: (G, E, R), from a low rank to the step sizes.
        reverse: G flags; 1 scans the tokens last to first.
        delta_softplus: whether the step sizes pass a softplus.

    Returns:
        y (B, G, L, E) in u's type.

    Raises:
        ConfigError: for types or sizes that contradict each other.
    """
    op, inputs = _scan_and_inputs(u, delta, A, B, C, D, delta_bias, delta_weight, reverse=reverse)
    if torch.onnx.is_in_onnx_export():
        attributes = {"reverse": list(reverse), "delta_softplus": int(delta_softplus)}
        return _node(op, inputs, attributes, u.shape)
    return _scan(inputs, reverse, delta_softplus, with_state=False)[0]


def selective_scan_with_state(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    delta_bias: Tensor,
    *,
    delta_weight: Tensor | None = None,
    reverse: Sequence[int] = (0,),
    delta_softplus: bool = True,
) -> tuple[Tensor, Tensor]:
    """``selective_scan``, and the state after the last token that each group scans.

    Returns:
        y (B, G, L, E) in u's type, and h (B, G, E, N) float32.

    Raises:
        ConfigError: for types or sizes that contradict each other, and while a model is exported.
    """
    _, inputs = _scan_and_inputs(u, delta, A, B, C, D, delta_bias, delta_weight, reverse=reverse)
    if torch.onnx.is_in_onnx_export():
        raise ConfigError(
            "The model asks a selective scan for its last state, which an exported file cannot give; "
            "export it without return_last_state."
        )
    y, state = _scan(inputs, reverse, delta_softplus, with_state=True)
    assert state is not None  # it was asked for
    return y, state


def bidirectional_conv1d(xz: Tensor, weight: Tensor, bias: Tensor, reverse: Sequence[int]) -> Tensor:
    """Causal depthwise convolution and SiLU, for K directions: ``contract.BIDIRECTIONAL_CONV1D``.

    Args:
        xz: (B, L, 2E); x is the first half.
        weight: (K, E, W), the last tap on the current token.
        bias: (K, E).
        reverse: K flags; 1 reads the tokens last to first.

    Returns:
        u (K, B, L, E) in xz's type; position l is token l in every direction.
    """
    if torch.onnx.is_in_onnx_export():
        shape = (len(reverse), xz.shape[0], xz.shape[1], xz.shape[-1] // 2)
        return _node(BIDIRECTIONAL_CONV1D, (xz, weight, bias), {"reverse": list(reverse)}, shape)
    return _convolved(xz, weight, bias, reverse, silu=True)


def bidirectional_selective_scan(
    u: Tensor,
    xz: Tensor,
    dt_bc: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    reverse: Sequence[int],
    scale: float,
) -> Tensor:
    """The selective scan of K directions, gated and summed: ``contract.BIDIRECTIONAL_SCAN``.

    Args:
        u: (K, B, L, E).
        xz: (B, L, 2E); z, the gate, is the second half.
        dt_bc: (K, B, L, R + 2N): low-rank step size, B and C.
        dt_weight: (K, E, R).
        dt_bias: (K, E) float32.
        A: (K, E, N) float32, negative.
        D: (K, E) float32.
        reverse: K flags; 1 scans the tokens last to first.
        scale: factor on the sum of the directions.

    Returns:
        y (B, L, E) in u's type.
    """
    if torch.onnx.is_in_onnx_export():
        inputs = (u, xz, dt_bc, dt_weight, dt_bias, A, D)
        return _node(BIDIRECTIONAL_SCAN, inputs, {"reverse": list(reverse), "scale": scale}, u.shape[1:])
    channels, rank, states = u.shape[-1], dt_weight.shape[-1], A.shape[-1]
    u_scan = _in_scan_order(u, reverse).float()
    low_rank, b, c = _in_scan_order(dt_bc, reverse).float().split([rank, states, states], dim=-1)
    dt = low_rank @ dt_weight.float().transpose(1, 2)[:, None] + dt_bias[:, None, None]  # (K, B, L, E)
    dt = F.softplus(dt, threshold=20.0)
    y = _in_scan_order(scan_of_tokens(dt, dt * u_scan, A, b, c), reverse) + D[:, None, None] * u.float()
    z = xz[..., channels:].float()
    return (scale * F.silu(z) * y.sum(0)).to(u.dtype)


def scan_of_tokens(dt: Tensor, dt_u: Tensor, A: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The recurrence of the scan alone, token by token: h = exp(dt A) h + dt_u b, y = c h.

    Args:
        dt: (K, B, L, E), the step sizes.
        dt_u: (K, B, L, E), the step sizes times the input.
        A: (K, E, N).
        b: (K, B, L, N).
        c: (K, B, L, N).

    Returns:
        y (K, B, L, E).
    """
    return _scanned(dt, dt_u, A, b, c)[0]


def _convolved(x: Tensor, weight: Tensor, bias: Tensor, reverse: Sequence[int], silu: bool) -> Tensor:
    """The convolutions by PyTorch: u (K, B, L, E)."""
    _, channels, width = weight.shape
    tokens_last = x[..., :channels].float().transpose(1, 2)  # (B, E, L)
    directions = []
    with _without_autocast(x):
        for k, is_reversed in enumerate(reverse):
            taps = weight[k].float()[:, None, :]  # (E, 1, W)
            padded = F.pad(tokens_last, (0, width - 1) if is_reversed else (width - 1, 0))
            taps = taps.flip(-1) if is_reversed else taps
            directions.append(F.conv1d(padded, taps, bias[k].float(), groups=channels))
    u = torch.stack(directions)
    return (F.silu(u) if silu else u).transpose(2, 3).to(x.dtype)  # (K, B, L, E)


def _without_autocast(tensor: Tensor) -> AbstractContextManager[Any]:
    """A block in which products of float32 stay in float32."""
    device = tensor.device.type
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def _scanned(dt: Tensor, dt_u: Tensor, A: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """``scan_of_tokens``, and the last state (K, B, E, N)."""
    h = torch.zeros_like(dt[:, :, 0, :, None]).expand(-1, -1, -1, A.shape[-1])  # (K, B, E, N)
    steps = []
    for t in range(dt.shape[2]):
        decay = torch.exp(dt[:, :, t, :, None] * A[:, None])
        h = decay * h + dt_u[:, :, t, :, None] * b[:, :, t, None, :]
        steps.append((h @ c[:, :, t, :, None])[..., 0])  # (K, B, E)
    return torch.stack(steps, dim=2), h


def _wants_loop(inputs: Sequence[Tensor]) -> bool:
    """Whether PyTorch has to see every step: for a gradient, for another tracer than ONNX's, or because of a block."""
    wants_gradient = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
    is_traced = torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None
    return _plain.get() or wants_gradient or is_traced


def _scan(
    inputs: Sequence[Tensor], reverse: Sequence[int], delta_softplus: bool, with_state: bool
) -> tuple[Tensor, Tensor | None]:
    """y, passed on to who observes it, and the last state if it is wanted."""
    found = None if _wants_loop(inputs) else native.selective_scan(inputs, reverse, delta_softplus, with_state)
    y, state = found or _scan_by_loop(inputs, reverse, delta_softplus)
    if with_state and state is None:
        state = _last_state(inputs, reverse, delta_softplus)
    return _observer.get()(y), state


def _scan_by_loop(inputs: Sequence[Tensor], reverse: Sequence[int], delta_softplus: bool) -> tuple[Tensor, Tensor]:
    """y (B, G, L, E) and the last state (B, G, E, N)."""
    u, D = inputs[0], inputs[5]
    with _without_autocast(u):
        y, h = _scanned(*_recurrence_of(inputs, reverse, delta_softplus))
        y = _in_scan_order(y, reverse).transpose(0, 1) + D[:, None] * u.float()
        return y.to(u.dtype), h.transpose(0, 1)


def _last_state(inputs: Sequence[Tensor], reverse: Sequence[int], delta_softplus: bool) -> Tensor:
    """The last state (B, G, E, N) alone: the sum over the tokens of what each leaves in it, a state at a time."""
    with _without_autocast(inputs[0]):
        dt, dt_u, A, b, _ = _recurrence_of(inputs, reverse, delta_softplus)
        behind = F.pad(dt[:, :, 1:], (0, 0, 0, 1)).flip(2).cumsum(2).flip(2)  # the steps after each token, (G, B, L, E)
        of_states = zip(A.unbind(-1), b.unbind(-1), strict=True)  # (G, E) and (G, B, L)
        each = [(torch.exp(behind * a[:, None, None]) * dt_u * b_n[..., None]).sum(2) for a, b_n in of_states]
        return torch.stack(each, dim=-1).transpose(0, 1)


def _recurrence_of(inputs: Sequence[Tensor], reverse: Sequence[int], delta_softplus: bool) -> tuple[Tensor, ...]:
    """What ``scan_of_tokens`` takes, of a scan of groups: G as K, the tokens in the order in which they are scanned."""
    u, delta, A, B, C, _, delta_bias, *delta_weight = inputs
    u, dt, b, c = (_in_scan_order(t.transpose(0, 1), reverse).float() for t in (u, delta, B, C))  # (G, B, L, ·)
    if delta_weight:
        dt = dt @ delta_weight[0].float().transpose(1, 2)[:, None]
    dt = dt + delta_bias[:, None, None]
    if delta_softplus:
        dt = F.softplus(dt, threshold=20.0)
    return dt, dt * u, A, b, c


def _in_scan_order(tensor: Tensor, reverse: Sequence[int]) -> Tensor:
    """(K, B, L, ·), each direction's tokens in the order in which they are scanned; once more, and they are back."""
    return torch.stack([t.flip(1) if r else t for t, r in zip(tensor, reverse, strict=True)])


def _scan_and_inputs(*inputs: Tensor | None, reverse: Sequence[int]) -> tuple[Operator, tuple[Tensor, ...]]:
    """Which of the two scans it is, and its inputs, found right."""
    given = tuple(tensor for tensor in inputs if tensor is not None)  # delta_weight, the last one, may be None
    op = SELECTIVE_SCAN if len(given) < len(inputs) else LOW_RANK_SCAN
    _check(op, given, reverse)
    return op, given


def _check(op: Operator, inputs: Sequence[Tensor], reverse: Sequence[int]) -> None:
    """Whether types, devices and sizes fit together; a size that torch traces as a symbol fits any other.

    Raises:
        ConfigError: if they do not.
    """
    of_t = str(inputs[0].dtype).removeprefix("torch.")
    if of_t not in FLOAT_TYPES:
        raise ConfigError(f"{op.name} takes {', '.join(FLOAT_TYPES)}, found {op.inputs[0].name} in {of_t}.")
    if not set(reverse) <= {0, 1}:
        raise ConfigError(f"{op.name}: reverse must be flags of 0 and 1, found {list(reverse)}.")
    known = {op.flagged: (len(reverse), "reverse")}
    for value, tensor in zip(op.inputs, inputs, strict=True):
        wanted = f"{op.name}: {value.name} must be ({', '.join(value.dims)})"
        type_ = of_t if value.type == "T" else value.type
        if tensor.dtype != getattr(torch, type_) or tensor.device != inputs[0].device:
            found = f"{str(tensor.dtype).removeprefix('torch.')} on {tensor.device}"
            raise ConfigError(f"{wanted} in {type_} on {inputs[0].device}, found {found}.")
        if tensor.ndim != len(value.dims):
            raise ConfigError(f"{wanted}, found {tensor.ndim} dimensions.")
        for size, number in zip(value.dims, tensor.shape, strict=True):
            if type(number) is int:
                if number < 1 and size != "B":
                    raise ConfigError(f"{wanted}; {size} is {number} here, it must be 1 or more.")
                first, whose = known.setdefault(size, (number, value.name))
                if number != first:
                    raise ConfigError(f"{wanted}; {size} is {number} here and {first} by {whose}.")
    for size, least in AT_LEAST.items():
        if size in known and least in known and known[size][0] < known[least][0]:
            (number, whose), (bound, _) = known[size], known[least]
            raise ConfigError(f"{op.name}: {whose} must have {least} = {bound} channels or more, found {number}.")


def _node(op: Operator, inputs: Sequence[Tensor], attributes: dict[str, Any], shape: Sequence[int]) -> Tensor:
    """One opaque node of the operator, in the graph that is being traced."""
    attributes |= op.defaults
    node: Tensor = torch.onnx.ops.symbolic(
        f"{DOMAIN}::{op.name}", inputs, attributes, dtype=inputs[0].dtype, shape=shape, version=VERSION
    )
    return node
