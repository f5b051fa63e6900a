"""Stands in for Triton's ONNX Runtime backend, in a server that has the Python backend alone.

The server is a real one: it reads the configuration, forms batches, warms up and adds labels; this runs the file as the
configuration tells.
"""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    """As the Python backend calls it."""

    def initialize(self, args):
        config = json.loads(args["model_config"])
        options = onnxruntime.SessionOptions()
        for library in config.get("model_operations", {}).get("op_library_filename", ()):
            options.register_custom_ops_library(library)
        file = Path(args["model_repository"], args["model_version"], config["default_model_filename"])
        self.session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self.inputs, self.outputs = ([tensor["name"] for tensor in config[kind]] for kind in ("input", "output"))
        self.has_batch = config["max_batch_size"] > 0

    def execute(self, requests):
        asked = [
            {name: triton.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs}
            for request in requests
        ]
        together = [asked] if self.has_batch else [[one] for one in asked]
        responses = []
        for several in together:
            arrays = {name: np.concatenate([one[name] for one in several]) for name in self.inputs}
            print(f"BATCH {len(next(iter(arrays.values())))}", flush=True)
            rows = np.cumsum([len(one[self.inputs[0]]) for one in several])[:-1]
            found = [np.split(array, rows) for array in self.session.run(self.outputs, arrays)]
            for parts in zip(*found, strict=True):
                tensors = [
                    triton.Tensor(name, np.ascontiguousarray(part))
                    for name, part in zip(self.outputs, parts, strict=True)
                ]
                responses.append(triton.InferenceResponse(tensors))
        return responses
