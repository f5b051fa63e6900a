"""The operators of domain ``vimdeploy``: names, shapes, types, attributes, version.

Everything that speaks of the operators reads this file: the ONNX schemas, the function bodies, the exporter, the
parsers' checks. The C++ side states the same in ``plugins/scan/problem.h``; a test compares the two.

Dimensions:
    B  batch                      E  channels inside a block (expand x dim)
    L  tokens                     N  states of a channel
    K  directions (2 for Vim)     R  rank of the step size
    W  width of the convolution

Everything is token-major (..., L, channels), as matrix products give and take it. Both directions travel on a leading
axis K. Position l of a reversed direction's tensors is token l: nothing is flipped in memory.

A change of meaning is version 2, and version 1 still runs.
"""

from __future__ import annotations

from dataclasses import dataclass

DOMAIN = "vimdeploy"
VERSION = 1

FLOAT_TYPES = ("float32", "float16", "bfloat16")
"""What a tensor of type ``T`` may be; one node has one T."""


@dataclass(frozen=True)
class Value:
    """An input or the output of an operator."""

    name: str
    dims: tuple[str, ...]
    type: str
    """``"T"``, one of FLOAT_TYPES throughout the node, or ``"float32"`` whatever T is."""
    doc: str


@dataclass(frozen=True)
class Attribute:
    """An attribute of an operator."""

    name: str
    type: str
    """``"ints"``, ``"float"`` or ``"string"``."""
    doc: str
    default: str | None = None
    """The value if the node has none; None if the node must have the attribute."""


@dataclass(frozen=True)
class Operator:
    """An operator: its name in the domain and what goes in and out."""

    name: str
    doc: str
    inputs: tuple[Value, ...]
    output: Value
    attributes: tuple[Attribute, ...]


_REVERSE = Attribute("reverse", "ints", "per direction: 0 reads the tokens first to last, 1 last to first")

# TensorRT's parser pairs a node with a plugin by these two attributes; everybody else passes over them.
_PLUGIN = (
    Attribute("plugin_namespace", "string", "where TensorRT looks for the plugin", DOMAIN),
    Attribute("plugin_version", "string", "the plugin's version for TensorRT", str(VERSION)),
)

CONV1D = Operator(
    name="BidirectionalConv1d",
    doc="""Causal depthwise convolution over the tokens, then SiLU, for K directions at once.

x = xz[..., :E]; forward: u[l] = silu(bias + sum_w weight[w] * x[l - W + 1 + w]); reversed: the same with
x[l + W - 1 - w]; zeros outside. All arithmetic in float32.""",
    inputs=(
        Value("xz", ("B", "L", "2E"), "T", "x and z, as in_proj gives them"),
        Value("weight", ("K", "E", "W"), "T", "taps, the last one on the current token"),
        Value("bias", ("K", "E"), "T", "bias"),
    ),
    output=Value("u", ("K", "B", "L", "E"), "T", "one sequence per direction"),
    attributes=(_REVERSE, *_PLUGIN),
)

SELECTIVE_SCAN = Operator(
    name="BidirectionalSelectiveScan",
    doc="""The selective scan of K directions, gated and summed.

With D_t = softplus(dt_bias + sum_r dt_weight[e, r] * dt_bc[r]), B = dt_bc[R : R + N], C = dt_bc[R + N :]:
h(l) = exp(D_t * A) * h(previous token of the direction) + D_t * B * u; y_k = sum_n C * h + D * u;
y = scale * silu(z) * sum_k y_k with z = xz[..., E:]. All arithmetic and h in float32; softplus(x) = x above 20.""",
    inputs=(
        Value("u", ("K", "B", "L", "E"), "T", "the scan's input, one sequence per direction"),
        Value("xz", ("B", "L", "2E"), "T", "x and z, as in_proj gives them; only z is read"),
        Value("dt_bc", ("K", "B", "L", "R+2N"), "T", "low-rank step size, B and C, as x_proj gives them"),
        Value("dt_weight", ("K", "E", "R"), "T", "from the low rank to a step size per channel"),
        Value("dt_bias", ("K", "E"), "float32", "bias of the step size"),
        Value("A", ("K", "E", "N"), "float32", "-exp(A_log): negative"),
        Value("D", ("K", "E"), "float32", "skip connection"),
    ),
    output=Value("y", ("B", "L", "E"), "T", "as out_proj takes it"),
    attributes=(_REVERSE, Attribute("scale", "float", "factor on the sum of the directions"), *_PLUGIN),
)

OPERATORS = (CONV1D, SELECTIVE_SCAN)
