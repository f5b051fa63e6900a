"""Files in other precisions without a new export."""

import onnx
import onnx_ir

from vimdeploy.graphs.precision import lower_precision


def lowered(proto, precision, kept=()):
    """A float32 file of ours in another precision, but for the nodes that are kept."""
    graph = onnx_ir.from_proto(proto)
    lower_precision(graph, precision, kept)
    model = onnx_ir.to_proto(graph)
    onnx.helper.set_model_props(
        model, {e.key: precision if e.key == "vimdeploy.precision" else e.value for e in proto.metadata_props}
    )
    return model
