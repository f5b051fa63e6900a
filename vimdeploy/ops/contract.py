"""The operators of domain ``vimdeploy``: names, shapes, types, attributes, version.

Everything that speaks of the operators reads this file: the ONNX schemas, the function bodies, the exporter, the
parsers' checks. The C++ side states the same in ``plugins/scan/problem.h``; a test compares the two.

Dimensions:
    B  batch                      E  channels inside a block (expand x dim)
    L  tokens                     N  states of a channel
    K  directions (2 for Vim)     R  rank of the step size
    W  width of the convolution   G  groups of channels, each with a direction, a B and a C of its own
    X  channels of which the first E are read

Everything is token-major (..., L, channels), as matrix products give and take it. Vim's directions travel on a leading
axis K, the groups of models in which several scans are one call (VMamba's four, for example) on an axis G behind the
batch. Position l of a reversed direction's tensors is token l: nothing is flipped in memory.

No input is optional, for a function body cannot ask whether one is there: a D or a bias that a model lacks is zeros.

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
    """``"int"``, ``"ints"``, ``"float"`` or ``"string"``."""
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

    @property
    def flagged(self) -> str:
        """The size that ``reverse`` has a flag for each of: K directions or G groups."""
        return "G" if any("G" in value.dims for value in self.inputs) else "K"

    @property
    def defaults(self) -> dict[str, str]:
        """The attributes that a node need not have, by name, and their values then."""
        return {a.name: a.default for a in self.attributes if a.default is not None}


AT_LEAST = {"X": "E"}
"""A size that must not be less than another."""

_REVERSE = Attribute("reverse", "ints", "per direction or group: 0 reads the tokens first to last, 1 last to first")

# TensorRT's parser pairs a node with a plugin by these two attributes; everybody else passes over them.
_PLUGIN = (
    Attribute("plugin_namespace", "string", "where TensorRT looks for the plugin", DOMAIN),
    Attribute("plugin_version", "string", "the plugin's version for TensorRT", str(VERSION)),
)

BIDIRECTIONAL_CONV1D = Operator(
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

BIDIRECTIONAL_SCAN = Operator(
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

CAUSAL_CONV1D = Operator(
    name="CausalConv1d",
    doc="""Causal depthwise convolution over the tokens for K directions at once, with or without SiLU after it.

As BidirectionalConv1d, of the first E channels of x.""",
    inputs=(
        Value("x", ("B", "L", "X"), "T", "channels; the first E are read"),
        *BIDIRECTIONAL_CONV1D.inputs[1:],
    ),
    output=BIDIRECTIONAL_CONV1D.output,
    attributes=(_REVERSE, Attribute("silu", "int", "1: SiLU after the sum; 0: nothing"), *_PLUGIN),
)

_SOFTPLUS = Attribute("delta_softplus", "int", "1: the step size is the softplus of the sum; 0: the sum")

SELECTIVE_SCAN = Operator(
    name="SelectiveScan",
    doc="""The selective scan of G groups of channels.

dt = delta + delta_bias, or its softplus; h(l) = exp(dt * A) * h(previous token of the group) + dt * B * u;
y = sum_n C * h + D * u. All arithmetic and h in float32; softplus(x) = x above 20.""",
    inputs=(
        Value("u", ("B", "G", "L", "E"), "T", "the scan's input"),
        Value("delta", ("B", "G", "L", "E"), "T", "step size before bias and softplus"),
        Value("A", ("G", "E", "N"), "float32", "negative"),
        Value("B", ("B", "G", "L", "N"), "T", "from the input to the states"),
        Value("C", ("B", "G", "L", "N"), "T", "from the states to the output"),
        Value("D", ("G", "E"), "float32", "skip connection"),
        Value("delta_bias", ("G", "E"), "float32", "bias of the step size"),
    ),
    output=Value("y", ("B", "G", "L", "E"), "T", "the scan's output"),
    attributes=(_REVERSE, _SOFTPLUS, *_PLUGIN),
)

LOW_RANK_SCAN = Operator(
    name="LowRankSelectiveScan",
    doc="""SelectiveScan with dt = delta_bias + sum_r delta_weight[e, r] * delta[r], or its softplus.""",
    inputs=(
        SELECTIVE_SCAN.inputs[0],
        Value("delta", ("B", "G", "L", "R"), "T", "low-rank step size"),
        *SELECTIVE_SCAN.inputs[2:],
        Value("delta_weight", ("G", "E", "R"), "T", "from the low rank to a step size per channel"),
    ),
    output=SELECTIVE_SCAN.output,
    attributes=SELECTIVE_SCAN.attributes,
)

OPERATORS = (BIDIRECTIONAL_CONV1D, BIDIRECTIONAL_SCAN, CAUSAL_CONV1D, SELECTIVE_SCAN, LOW_RANK_SCAN)
