"""Graphs of foreign code, as torch's exporter and onnxscript's optimizer give them, before and after ``simplified``."""

import logging
import warnings
from collections import Counter

import numpy as np
import onnx_ir
import onnxruntime
import onnxscript.optimizer
import torch

from vimdeploy.graphs.simplify import simplified
from vimdeploy.ops.function_body import function_protos

OPSET = 20


def exported(module, inputs, dynamic=None):
    """The graph of a module.

    Args:
        module: takes the inputs, in order.
        inputs: tensors to trace with.
        dynamic: per input, the words of its free axes: ``[{0: "batch"}]``; None leaves all fixed.
    """
    known = {}
    shapes = dynamic and tuple(
        {axis: known.setdefault(word, torch.export.Dim(word)) for axis, word in axes.items()} for axes in dynamic
    )
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module.eval(), inputs, dynamo=True, dynamic_shapes=shapes, opset_version=OPSET, verbose=False
            )
    finally:
        logger.setLevel(level)
    onnxscript.optimizer.optimize(program.model, input_size_limit=1 << 30, output_size_limit=1 << 30)
    return program.model


def answers(model, inputs):
    """What a graph answers in ONNX Runtime, by function bodies."""
    proto = onnx_ir.to_proto(model)
    proto.ir_version = 10
    used = {node.op_type for node in proto.graph.node if node.domain}
    proto.functions.extend(function for function in function_protos(OPSET) if function.name in used)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {i.name: t.numpy() for i, t in zip(session.get_inputs(), inputs, strict=True)})


def simplified_graph(module, inputs, dynamic=None, *more):
    """A module's graph, simplified; it must answer as before, for the inputs and for ``more`` of other free sizes."""
    model = exported(module, inputs, dynamic)
    before = [answers(model, given) for given in (inputs, *more)]
    simplified(model)
    for given, wanted in zip((inputs, *more), before, strict=True):
        for found, value in zip(answers(model, given), wanted, strict=True):
            np.testing.assert_allclose(found, value, rtol=1e-4, atol=1e-5)
    return model.graph


def operators(graph):
    """How often each operator is in a graph."""
    return Counter(node.op_type for node in graph)


def flips(graph):
    """How many Slices read an axis last to first."""
    steps = [node.inputs[4] for node in graph if node.op_type == "Slice" and len(node.inputs) == 5]
    return sum(step.const_value is not None and step.const_value.numpy().item() == -1 for step in steps)


def reverses(graph):
    """The directions of each of our nodes."""
    return [list(node.attributes["reverse"].value) for node in graph if node.domain]
