"""Float16 and bfloat16 files on a CPU.

ONNX Runtime has no products of these types on a CPU. For float16 it puts Casts around them by itself, then drops those
that meet a Cast of the file, so that values which the file rounds are never rounded; for bfloat16 it refuses the model.
With the Casts written out, both types run, and every value is rounded at the same place as on a GPU.
"""

from __future__ import annotations

import onnx
from onnx import NodeProto, TensorProto, helper

from vimdeploy.graphs.precision import PRODUCTS

_HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


def with_float32_products(model: onnx.ModelProto) -> bytes:
    """The model with each float16 or bfloat16 product as Casts to float32, the product, and a Cast back.

    Args:
        model: a file of ours: the types of its values are in it.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(model)
    types = {value.name: value.type.tensor_type.elem_type for value in proto.graph.value_info}
    nodes: list[NodeProto] = []
    for node in proto.graph.node:
        type_ = types.get(node.output[0])
        if node.op_type in PRODUCTS and type_ in _HALVES:
            nodes += _in_float32(node, type_)
        else:
            nodes.append(node)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    return proto.SerializeToString()


def _in_float32(node: NodeProto, type_: int) -> list[NodeProto]:
    product = NodeProto()
    product.CopyFrom(node)
    product.input[:] = [f"{node.name}.input_{i}" for i in range(len(node.input))]
    product.output[:] = [f"{node.name}.exact"]
    pairs = zip(node.input, product.input, strict=True)
    return [
        *(helper.make_node("Cast", [given], [wide], wide, to=TensorProto.FLOAT) for given, wide in pairs),
        product,
        helper.make_node("Cast", product.output, node.output, f"{node.name}.rounded", to=type_),
    ]
