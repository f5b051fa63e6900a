"""The operators in standard ONNX operators: what a runtime without our library runs.

An operator's node finds a model-local function of its name in the file and is replaced by it. Any batch, length and
other size; T through casts; memory linear in the length; every tensor that has the N states of a channel belongs to
one step only.

The recurrence h = exp(dt A) h + dt B u has to be cut, or it takes L steps of a runtime's loop. Each direction's tokens,
in the order they are scanned, become CHUNKS chunks of T = ceil(L / CHUNKS) tokens:

    1. all chunks side by side, from a zero state, in T steps: y = C h, the end states, the sum of dt over each chunk;
    2. chunk after chunk: state before the next chunk = exp(A sum of dt) * state before this one + end state;
    3. all chunks side by side again: y += C exp(A sum of dt so far) * state before the chunk.

Only products of numbers in (0, 1] occur, so no dt is too large. Row (p Q + q) L + l of a tensor is token l of sequence
(p, q), which is (k, b) in Vim's form and (b, g) in that of other models; one tensor of row numbers does the flip, the
chunks and the padding, and one more puts y back. The padding repeats the last scanned token behind the end, where
nothing reads it.

A loop's body reads nothing from outside: its rows are put in the order of its steps before, and what all steps share is
a state that stays as it is. OpenVINO wants it so. ONNX Runtime copies such a state in every step: Vim-Ti takes 4 to 7 %
longer than with loops that read what is around them (at 224 on one thread and on two, at 1248 on two; AMD EPYC).

For known sizes there is a form without loops, of few nodes: the steps written out, the chunks as many as make them
fewest, and the convolution as one Conv.

A number of chunks that does not grow with L keeps a step's tensors in the cache, so the time per token is flat. ms per
block of Vim-Ti (B 1, K 2, E 384, N 16, R 12), all of its nodes, float32, ONNX Runtime 1.31, two cores of a Xeon with
AVX-512 and 2 MiB of L2 each; benchmarks/chunks.py measures it anywhere:

    chunks      one thread: L = 197   1025   6085     two threads: 1025   6085
    4                           8.8   48.1    307                  55.2    379
    8                           9.0   49.0    348                  51.0    273
    12                          9.9   51.9    322                  44.1    240
    16                         10.9   56.4    356                  47.3    249
    32                         14.5   71.4    434                  51.4    260
    sqrt(L)                    10.4   70.8    453                  50.0    277

With 12, a run at L = 6085 takes 160 MB beside its inputs: 27 kB per token. The whole recurrence again from the true
states, instead of step 3, took 10 % longer.

One state a channel wants nothing else: VMamba-T's first stage (G 4, L 3136, E 96, N 1) takes 25 ms by 12 chunks and 22
by 96, the best number there. Its products C h cost what a ReduceSum would, and a plain Mul, which no other N could
take, is a tenth faster.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from onnx import FunctionProto

from vimdeploy.ops.contract import (
    BIDIRECTIONAL_CONV1D,
    BIDIRECTIONAL_SCAN,
    CAUSAL_CONV1D,
    LOW_RANK_SCAN,
    OPERATORS,
    SELECTIVE_SCAN,
    Operator,
)
from vimdeploy.ops.onnx_builder import FunctionBuilder, Results, Value

CHUNKS = 12
"""Chunks of a sequence in the scan, whatever its length: the reason is in the head of this file."""

CONV1D_ROWS = 32
"""Tokens in a step of the convolution, counted over all sequences: more of them leave the cache. Tap after tap over all
tokens at once takes twice as long at L = 6085, a depthwise Conv between two transposes three times."""

LEAST_EXPONENT = -60.0
"""Below it exp counts as exp(-60) = 9e-27, which no float32 sum beside it can tell from less.

Without it ONNX Runtime's Exp is 20 times as slow from -87 downwards, where float32 becomes denormal, and a block with
dt = 8 takes 43 ms instead of 8."""


def function_protos(opset: int) -> list[FunctionProto]:
    """The body of each operator in ``contract.OPERATORS``.

    Args:
        opset: of the standard operators, 20 or newer: that of the model, else onnx.inliner passes the functions over.
    """
    return [function_proto(op, opset) for op in OPERATORS]


def function_proto(op: Operator, opset: int, sizes: Mapping[str, int] | None = None) -> FunctionProto:
    """The body of an operator.

    Args:
        op: one of ``contract.OPERATORS``.
        opset: as of ``function_protos``.
        sizes: None for any; else all of them by the contract's letters, for a body without loops.
    """
    bodies = {
        BIDIRECTIONAL_CONV1D: _bidirectional_conv1d,
        BIDIRECTIONAL_SCAN: _bidirectional_scan,
        CAUSAL_CONV1D: _causal_conv1d,
        SELECTIVE_SCAN: _selective_scan,
        LOW_RANK_SCAN: _selective_scan,
    }
    f = FunctionBuilder(op, sizes)
    return f.function(bodies[op](f), opset)


def _bidirectional_conv1d(f: FunctionBuilder) -> Value:
    """BIDIRECTIONAL_CONV1D: xz as rows of E, two per token, x and z."""
    xz, weight, bias = f.inputs
    if f.sizes is not None:
        return f.op("CastLike", _silu(f, _convolution_at_once(f, xz, weight, bias, f.sizes)), xz)
    return _convolution(f, xz, 2, weight, bias)


def _causal_conv1d(f: FunctionBuilder) -> Value:
    """CAUSAL_CONV1D."""
    x, weight, bias = f.inputs
    if f.sizes is not None:
        u = _convolution_at_once(f, x, weight, bias, f.sizes)
        return f.op("CastLike", f.op("Where", f.flag("silu"), _silu(f, u), u), x)
    x = f.op("Slice", x, f.shape(0), f.size(weight, 1), f.shape(2))  # (B, L, E)
    return _convolution(f, x, 1, weight, bias, f.flag("silu"))


def _convolution(
    f: FunctionBuilder, x: Value, rows_of_token: int, weight: Value, bias: Value, *has_silu: Value
) -> Value:
    """In steps of CONV1D_ROWS tokens of any sequence, to stay in the cache.

    Args:
        x: (B, L, rows_of_token * E), of which the first E channels are read.
        has_silu: whether SiLU follows, a bool; it does if nothing is said.
    """
    B, L = f.size(x, 0), f.size(x, 1)
    K, E, W = (f.size(weight, axis) for axis in range(3))
    T = CONV1D_ROWS
    steps = (L + (T - 1)) // T

    # Each step has its tokens of x, and the W - 1 before and behind them, of zeros outside of the sequence.
    zeros = f.op("CastLike", f.expand(0.0, 1, E), x)
    x_rows = f.op("Concat", f.reshape(x, -1, E), zeros, axis=0)  # (rows_of_token BL + 1, E)
    margin = W - 1
    position = f.range(steps, 1) * T + (f.range(margin * 2 + T) - margin)  # (steps, T + 2W - 2)
    inside = f.op("And", f.op("GreaterOrEqual", position, 0), f.op("Less", position, L))
    sequence = f.range(B, 2) * L  # (B, 1, 1)
    rows = f.op("Where", inside, (sequence + position) * rows_of_token, B * L * rows_of_token)
    x_rows = f.reshape(f.rows(x_rows, rows), -1, margin * 2 + T, E)  # (B steps, T + 2W - 2, E)

    # The row of those under each tap.
    behind = f.range(W, 2)  # (W, 1, 1)
    under_taps = f.op("Where", f.unsqueeze(f.flag("reverse"), 1), margin * 2 - behind, behind) + f.range(T)  # (W, K, T)
    taps = f.unsqueeze(f.op("Transpose", f.float32(weight), perm=[2, 0, 1]), 2)  # (W, K, 1, E)
    bias = f.unsqueeze(f.float32(bias), 1)  # (K, 1, E)

    def step(*given: Value) -> Results:
        *same, x = given
        bias, taps, under_taps, *has_silu = same
        x = f.float32(f.rows(x, under_taps)) * taps  # (W, K, T, E)
        u = f.op("Reshape", f.sum_of_rows(x), f.op("Shape", x, start=1)) + bias
        gate = f.op("Sigmoid", u)
        if has_silu:
            gate = f.op("Where", has_silu[0], gate, 1.0)
        return [f.op("Identity", value) for value in same], [u * gate]

    _, [u] = f.scan(step, [bias, taps, under_taps, *has_silu], [x_rows], B * steps)  # (B steps, K, T, E)

    token = f.range(L)
    rows = ((f.range(B, 1) * steps + token // T) * K + f.range(K, 2)) * T + token % T  # (K, B, L)
    return f.op("CastLike", f.rows(f.reshape(u, -1, E), rows), x)


def _convolution_at_once(f: FunctionBuilder, x: Value, weight: Value, bias: Value, sizes: Mapping[str, int]) -> Value:
    """As one Conv, whose kernels reach W - 1 tokens to both sides: its taps are 0 on the side that is not looked at.

    Args:
        x: (B, L, ·), of which the first E channels are read.

    Returns:
        u (K, B, L, E) float32, before SiLU.
    """
    B, L, K, E, W = (sizes[letter] for letter in "BLKEW")
    behind = f.range(W, 1)  # (W, 1)
    place = f.op("Where", f.unsqueeze(f.flag("reverse"), 1, 2), -behind + 2 * (W - 1), behind)  # (K, W, 1)
    kernels = f.float32(weight) @ f.float32(f.op("Equal", place, f.range(2 * W - 1)))  # (K, E, 2W - 1)
    kernels = f.reshape(f.op("Transpose", kernels, perm=[1, 0, 2]), E * K, 1, 1, 2 * W - 1)
    biases = f.reshape(f.op("Transpose", f.float32(bias), perm=[1, 0]), E * K)

    x = f.op("Slice", f.float32(x), f.shape(0), f.shape(E), f.shape(2))
    x = f.reshape(f.op("Transpose", x, perm=[0, 2, 1]), B, E, 1, L)
    u = f.op("Conv", x, kernels, biases, group=E, pads=[0, W - 1, 0, W - 1])  # (B, EK, 1, L)
    return f.op("Transpose", f.reshape(u, B, E, K, L), perm=[2, 0, 3, 1])


def _bidirectional_scan(f: FunctionBuilder) -> Value:
    """BIDIRECTIONAL_SCAN: the recurrence of (K, B) sequences, summed and gated."""
    u, xz, dt_bc, dt_weight, dt_bias, A, D = f.inputs
    K, B, L, E = (f.size(u, axis) for axis in range(4))
    N, R = f.size(A, 2), f.size(dt_weight, 2)

    # Step sizes of all tokens, (K, BL, E), and what multiplies B, dt u.
    low_rank, b, c = f.split(dt_bc, R, N, N)
    dt = f.float32(f.reshape(low_rank, K, -1, R)) @ _states_first(f, f.float32(dt_weight)) + f.unsqueeze(dt_bias, 1)
    dt = _softplus(f, dt)
    dt_u = dt * f.float32(f.reshape(u, K, -1, E))

    A = f.unsqueeze(_states_first(f, A), 1)  # (K, 1, N, E)
    y = _recurrence(f, (K, B, L, E, N), f.unsqueeze(f.flag("reverse"), 1), dt, dt_u, A, b, c)

    y = f.reshape(f.sum_of_rows(y + f.float32(u) * f.unsqueeze(D, 1, 2)), B, L, E)
    z = f.op("Gather", f.reshape(xz, B, L, 2, E), 1, axis=2)
    return f.op("CastLike", _silu(f, f.float32(z)) * y * f.attribute("scale"), u)


def _selective_scan(f: FunctionBuilder) -> Value:
    """SELECTIVE_SCAN and LOW_RANK_SCAN: the recurrence of (B, G) sequences."""
    u, delta, A, b, c, D, delta_bias, *delta_weight = f.inputs
    B, G, L, E = (f.size(u, axis) for axis in range(4))
    N = f.size(A, 2)

    dt = f.float32(delta)
    if delta_weight:
        dt = dt @ _states_first(f, f.float32(delta_weight[0]))
    dt = dt + f.unsqueeze(delta_bias, 1)  # (B, G, L, E)
    dt = f.op("Where", f.flag("delta_softplus"), _softplus(f, dt), dt)
    dt_u = dt * f.float32(u)

    y = _recurrence(f, (B, G, L, E, N), f.flag("reverse"), dt, dt_u, _states_first(f, A), b, c)
    return f.op("CastLike", y + f.float32(u) * f.unsqueeze(D, 1), u)


def _recurrence(
    f: FunctionBuilder,
    sizes: tuple[Value, Value, Value, Value, Value],
    is_reversed: Value,
    dt: Value,
    dt_u: Value,
    A: Value,
    b: Value,
    c: Value,
) -> Value:
    """The recurrence of P by Q sequences of L tokens, as the head of this file tells it.

    Args:
        sizes: P, Q, L, E, N.
        is_reversed: bool, as large as (P, Q) or broadcast to it.
        dt: P Q L rows of E, in any shape; float32, as ``dt_u`` and ``A`` are.
        dt_u: as ``dt``.
        A: as large as (P, Q, N, E) or broadcast to it.
        b: P Q L rows of N, of any type.
        c: as ``b``.

    Returns:
        y (P, Q, L, E) float32, at its token.
    """
    P, Q, L, E, N = sizes
    S, T = _chunks(f, L)

    # Step t takes token t of each chunk; behind the last token the last one again.
    sequence, last = f.range(P, 1) * Q + f.range(Q), L - 1  # (P, Q)
    position = f.op("Min", f.range(S, 2) * T + f.range(T, 3), last)  # (T, S, 1, 1)
    rows = sequence * L + f.op("Where", is_reversed, last - position, position)  # (T, S, P, Q)
    dt, dt_u = f.rows(f.reshape(dt, -1, 1, E), rows), f.rows(f.reshape(dt_u, -1, 1, E), rows)  # (T, S, P, Q, 1, E)
    b = f.float32(f.rows(f.reshape(b, -1, N, 1), rows))  # (T, S, P, Q, N, 1)
    c = f.float32(f.rows(f.reshape(c, -1, 1, N), rows))  # (T, S, P, Q, 1, N)

    def decay(dt: Value, A: Value) -> Value:
        return f.op("Exp", f.op("Max", dt * A, LEAST_EXPONENT))

    # 1. From zero to the end of each chunk.
    def local_step(A: Value, h: Value, dt: Value, dt_u: Value, b: Value, c: Value) -> Results:
        h = decay(dt, A) * h + b * dt_u
        return [f.op("Identity", A), h], [c @ h]

    [_, h_ends], [y] = f.scan(
        local_step, [A, f.expand(0.0, S, P, Q, N, E)], [dt, dt_u, b, c], T
    )  # y (T, S, P, Q, 1, E)

    # 2. From chunk to chunk.
    def chunk_step(A: Value, h: Value, h_end: Value, dt_sum: Value) -> Results:
        return [f.op("Identity", A), decay(dt_sum, A) * h + h_end], [f.op("Identity", h)]

    dt_sums = f.reshape(f.sum_of_rows(dt), S, P, Q, 1, E)
    _, [h_starts] = f.scan(chunk_step, [A, f.expand(0.0, P, Q, N, E)], [h_ends, dt_sums], S)

    # 3. What is left of each chunk's start.
    def start_step(A: Value, h_starts: Value, dt_sum: Value, dt: Value, c: Value, y: Value) -> Results:
        dt_sum = dt_sum + dt
        y = y + c @ (decay(dt_sum, A) * h_starts)
        return [f.op("Identity", A), f.op("Identity", h_starts), dt_sum], [y]

    _, [y] = f.scan(start_step, [A, h_starts, f.expand(0.0, S, P, Q, 1, E)], [dt, c, y], T)

    # Back to the tokens' order.
    token = f.range(L)
    position = f.op("Where", f.unsqueeze(is_reversed, -1), last - token, token)
    rows = (position % T * S + position // T) * (P * Q) + f.unsqueeze(sequence, 2)  # (P, Q, L)
    return f.rows(f.reshape(y, -1, E), rows)


def _chunks(f: FunctionBuilder, L: Value) -> tuple[int, Value | int]:
    """How many chunks, and their tokens. Without loops as few nodes as can be: a token takes 14, a chunk 5."""
    if f.sizes is None:
        return CHUNKS, (L + (CHUNKS - 1)) // CHUNKS
    chunks = math.ceil(math.sqrt(f.sizes["L"] * 14 / 5))
    tokens = math.ceil(f.sizes["L"] / chunks)
    return math.ceil(f.sizes["L"] / tokens), tokens


def _states_first(f: FunctionBuilder, x: Value) -> Value:
    """(·, E, N) → (·, N, E): E innermost, where a runtime's loops are longest."""
    return f.op("Transpose", x, perm=[0, 2, 1])


def _silu(f: FunctionBuilder, x: Value) -> Value:
    return x * f.op("Sigmoid", x)


def _softplus(f: FunctionBuilder, x: Value) -> Value:
    """max(x, 0) + log(1 + e), e = exp(-|x|): exact to a few units in the last place however small e is.

    1 + e rounds to w; log(1 + e) = log(w) + (1 + e - w) / w, to first order of the rounding.
    """
    e = f.op("Exp", -f.op("Abs", x))
    w = e + 1.0
    return f.op("Relu", x) + (f.op("Log", w) + (e - (w - 1.0)) / w)
