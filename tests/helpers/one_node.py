"""Models of one node with its function body, for the tests of this folder."""

from onnx import TensorProto, helper

from vimdeploy.ops.contract import DOMAIN, VERSION
from vimdeploy.ops.function_body import function_protos

OPSET = 20


def model_of(op, type_=TensorProto.FLOAT, *, opset=OPSET, sizes=None, with_body=True, **attributes):
    """One node of op, all its inputs the model's inputs.

    Args:
        sizes: {size as the contract writes it: number or name}; by default every letter is dynamic by its name.
        attributes: those that differ from two directions, the second one reversed, scale 0.5 and the flags 1.
    """
    values = {"reverse": [0, 1], "scale": 0.5, "silu": 1, "delta_softplus": 1} | attributes
    attributes = {a.name: values.get(a.name, a.default) for a in op.attributes}
    node = helper.make_node(op.name, [v.name for v in op.inputs], [op.output.name], domain=DOMAIN, **attributes)

    def described(value):
        shape = [sizes[size] if sizes else size if len(size) == 1 else None for size in value.dims]
        return helper.make_tensor_value_info(value.name, type_ if value.type == "T" else TensorProto.FLOAT, shape)

    graph = helper.make_graph([node], op.name, [described(v) for v in op.inputs], [described(op.output)])
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, VERSION)]
    functions = [f for f in function_protos(opset) if f.name == op.name] if with_body else []
    return helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=10)
