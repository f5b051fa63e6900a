"""Nodes that are products with a constant along one axis of a value: MatMul, Gemm, Einsum, convolutions of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from vimdeploy.graphs.passes.editor import attribute, constant_of, dims, same


@dataclass(frozen=True)
class Product:
    """A product with a constant along one axis of a value."""

    source: int
    """Which input the value is."""
    axes: tuple[int, ...]
    """Per axis of the value the output's, -1 for the axis that is summed over."""
    new: int
    """The output's axis of the products."""
    weight: np.ndarray
    """(K, O), or (G, K, O) with groups."""
    group: int = -1
    """The output's axis of the groups; if it is ``new``, they are the first factor of that."""
    bias: np.ndarray | None = None
    """(O,), or (G, 1, O)."""
    weight_value: ir.Value | None = None
    """The weight if the graph has it as it is."""


def product_of(node: ir.Node) -> Product | None:
    """What a node multiplies, if it is a product with a constant."""
    weights = [constant_of(value) for value in node.inputs]
    rank = len(dims(node.outputs[0]))
    if node.op_type == "MatMul" and [weight is None for weight in weights] in ([True, False], [False, True]):
        source = 0 if weights[0] is None else 1
        return _matmul_product(node, source, weights[1 - source], rank)
    if node.op_type == "Gemm":
        return _gemm_product(node, weights)
    if node.op_type == "Conv" and rank == 3:
        return _conv_product(node, weights)
    if node.op_type == "Einsum" and len(weights) == 2:
        return _einsum_product(node, weights)
    return None


def axis_of_groups(node: ir.Node) -> int:
    """The axis whose factors a grouped convolution needs apart; -1 for any other node."""
    return 1 if node.op_type == "Conv" and attribute(node, "group", 1) > 1 else -1


def _matmul_product(node: ir.Node, source: int, weight: np.ndarray | None, rank: int) -> Product | None:
    x = node.inputs[source]
    if weight is None or x is None or weight.ndim < 2 or len(dims(x)) != rank:
        return None
    kept = weight
    while weight.ndim > 2 and len(weight) == 1:
        weight = weight[0]
    if weight.ndim > 3 or (weight.ndim == 3 and (rank < 3 or not same(dims(x)[-3], len(weight)))):
        return None
    outer, group = range(rank - 2), rank - 3 if weight.ndim == 3 else -1
    if source == 0:
        value = node.inputs[1] if weight is kept else None
        return Product(0, (*outer, rank - 2, -1), rank - 1, weight, group, weight_value=value)
    return Product(1, (*outer, -1, rank - 1), rank - 2, weight.swapaxes(-1, -2), group)


def _gemm_product(node: ir.Node, weights: Sequence[np.ndarray | None]) -> Product | None:
    [x, weight, *rest] = weights
    bias = rest[0].reshape(-1) if rest and rest[0] is not None else None
    scaled = attribute(node, "alpha", 1.0) != 1 or (bias is not None and attribute(node, "beta", 1.0) != 1)
    if x is not None or weight is None or attribute(node, "transA", 0) or scaled:
        return None
    if len(node.inputs) > 2 and node.inputs[2] is not None and (bias is None or bias.size != dims(node.outputs[0])[1]):
        return None
    weight = weight.T if attribute(node, "transB", 0) else weight
    return Product(0, (0, -1), 1, weight, bias=bias)


def _conv_product(node: ir.Node, weights: Sequence[np.ndarray | None]) -> Product | None:
    """A convolution of single tokens, whose groups are the first factor of its channels."""
    [x, weight, *rest] = weights
    bias, groups = rest[0] if rest else None, attribute(node, "group", 1)
    plain = not any(attribute(node, "pads", ())) and set(attribute(node, "strides", (1,))) == {1}
    if x is not None or weight is None or weight.shape[2] != 1 or not plain:
        return None
    if len(node.inputs) > 2 and node.inputs[2] is not None and bias is None:
        return None
    if groups == 1:
        return Product(0, (0, -1, 2), 1, weight[:, :, 0].T, bias=bias)
    by_group = weight.reshape(groups, -1, weight.shape[1]).swapaxes(1, 2)  # (G, K, O)
    return Product(0, (0, -1, 2), 1, by_group, 1, None if bias is None else bias.reshape(groups, 1, -1))


def _einsum_product(node: ir.Node, weights: Sequence[np.ndarray | None]) -> Product | None:
    terms, arrow, result = str(attribute(node, "equation")).replace(" ", "").partition("->")
    source = 0 if weights[0] is None else 1
    weight, letters = weights[1 - source], terms.split(",")
    if not arrow or "." in terms or weight is None or weights[source] is not None:
        return None
    own, others = letters[source], letters[1 - source]
    if any(len(set(term)) < len(term) for term in (own, others, result)):
        return None
    summed = [letter for letter in others if letter in own and letter not in result]
    groups = [letter for letter in others if letter in own and letter in result]
    new = [letter for letter in others if letter not in own and letter in result]
    lost = set(own) - set(result) - set(summed)
    if len(summed) != 1 or len(new) != 1 or len(groups) > 1 or len(others) != len(groups) + 2 or lost:
        return None
    weight = weight.transpose([others.index(letter) for letter in (*groups, *summed, *new)])
    axes = tuple(result.find(letter) for letter in own)
    return Product(source, axes, result.index(new[0]), weight, result.find(groups[0]) if groups else -1)
