"""Runs a model in one runtime: ``python adapters.py NAME REQUEST.json``, in an environment that has that runtime.

The request names the model, the inputs (rows of float32), where the outputs go, and for how long to measure. Every
adapter turns a model's path into its version and a function from one input to one output. Nothing of vimdeploy is
imported here, and numpy alone is in every environment.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Call = Callable[[Array], Array]

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def onnxruntime(
    model: Path, package: str = "onnxruntime", provider: str = "CPU", library: str = ""
) -> tuple[str, Call]:
    """ONNX Runtime, also as other packages bring it, and with our operators' library."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    if library:
        options.register_custom_ops_library(library)
    session = ort.InferenceSession(str(model), options, providers=[f"{provider}ExecutionProvider"])
    name = session.get_inputs()[0].name
    return version(package), lambda x: session.run(None, {name: x})[0]


def onnxruntime_openvino(model: Path) -> tuple[str, Call]:
    """ONNX Runtime's provider that hands the graph to OpenVINO."""
    return onnxruntime(model, "onnxruntime-openvino", "OpenVINO")


def onnx_reference(model: Path) -> tuple[str, Call]:
    """The reference implementation of the standard, node by node in numpy."""
    from onnx.reference import ReferenceEvaluator

    session = ReferenceEvaluator(str(model))
    return version("onnx"), lambda x: np.asarray(next(iter(session.run(None, {session.input_names[0]: x}))))


def openvino(model: Path) -> tuple[str, Call]:
    """OpenVINO on the CPU in float32."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # by which it tells its maker of each import
    import openvino as package

    core = package.Core()
    compiled = core.compile_model(core.read_model(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    request = compiled.create_infer_request()
    return version("openvino"), lambda x: request.infer([x])[compiled.output(0)]


def iree(model: Path) -> tuple[str, Call]:
    """IREE's compiler for this processor, and its runtime."""
    from iree import runtime
    from iree.compiler import tools

    imported = model.with_suffix(".mlir")
    _run(sys.executable, "-m", "iree.compiler.tools.import_onnx", model, "-o", imported)
    made = tools.compile_file(
        str(imported),
        target_backends=["llvm-cpu"],
        extra_args=["--iree-llvmcpu-target-cpu=host"],
    )
    context = runtime.SystemContext(config=runtime.Config("local-task"))
    module = runtime.VmModule.copy_buffer(context.instance, made)
    context.add_vm_module(module)
    name = next(name for name in module.function_names if not name.startswith("__") and "$" not in name)
    function = context.modules[module.name][name]
    return version("iree-base-compiler"), lambda x: np.asarray(function(x).to_host())


def tvm(model: Path) -> tuple[str, Call]:
    """TVM's Relax, compiled for this processor without tuning."""
    import onnx
    import tvm as package
    from tvm import relax
    from tvm.relax.frontend.onnx import from_onnx

    module = relax.transform.DecomposeOpsForInference()(from_onnx(onnx.load(model), keep_params_in_input=False))
    machine = relax.VirtualMachine(package.compile(module, target="llvm"), package.cpu())

    def call(x: Array) -> Array:
        found = machine["main"](package.runtime.tensor(x))
        return np.asarray((found if hasattr(found, "numpy") else found[0]).numpy())

    return version("apache-tvm"), call


def mnn(model: Path) -> tuple[str, Call]:
    """MNN's converter and its runtime; the command ``mnnconvert`` would report to its maker."""
    import MNN.expr as expr
    import MNN.nn as nn
    import onnx

    made = model.with_suffix(".mnn")
    code = "import _tools, sys; _tools.mnnconvert(sys.argv)"
    said = _run(sys.executable, "-c", code, "-f", "ONNX", "--modelFile", model, "--MNNModel", made, "--bizCode", "none")
    if not made.exists():
        raise RuntimeError(f"the converter made no file: {said[-200:].strip()}")
    graph = onnx.load(model).graph
    network = nn.load_module_from_file(str(made), [graph.input[0].name], [graph.output[0].name])

    def call(x: Array) -> Array:
        given = expr.const(x, list(x.shape), expr.NCHW, expr.float)
        found = network.forward([given])
        return np.array(expr.convert(found[0] if isinstance(found, list) else found, expr.NCHW).read())

    return version("MNN"), call


def ncnn(model: Path) -> tuple[str, Call]:
    """pnnx, the converter of ncnn, and its runtime."""
    import ncnn as package
    import onnx

    dims = [dim.dim_value or 1 for dim in onnx.load(model).graph.input[0].type.tensor_type.shape.dim]
    spec = importlib.util.find_spec("pnnx")
    assert spec is not None
    assert spec.origin is not None
    pnnx = Path(spec.origin).with_name("pnnx")  # the package itself wants torch, its program does not
    _run(pnnx, model, f"inputshape={dims}".replace(" ", ""))
    network = package.Net()
    stem = str(model.with_suffix(""))
    if network.load_param(f"{stem}.ncnn.param") or network.load_model(f"{stem}.ncnn.bin"):
        raise RuntimeError("the converted file cannot be loaded")

    def call(x: Array) -> Array:
        extractor = network.create_extractor()
        extractor.input("in0", package.Mat(x[0]))
        failed, found = extractor.extract("out0")
        if failed:
            raise RuntimeError("the converted file gives no output")
        return np.array(found)[None]

    return version("ncnn"), call


def tract(model: Path) -> tuple[str, Call]:
    """tract, by its Python package."""
    import tract as package

    loaded = package.onnx().load(str(model)).into_model().into_runnable()
    return version("tract"), lambda x: np.asarray(loaded.run([x])[0].to_numpy())


def tensorrt_rtx(model: Path) -> tuple[str, None]:
    """TensorRT-RTX's builder, which needs no GPU; running what it builds does."""
    import tensorrt_rtx as trt

    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(model)):
        raise RuntimeError(parser.get_error(0).desc())
    config = builder.create_builder_config()
    given = network.get_input(0)
    if -1 in given.shape:
        profile = builder.create_optimization_profile()
        profile.set_shape(given.name, *[[1, *given.shape[1:]]] * 3)
        config.add_optimization_profile(profile)
    if builder.build_serialized_network(network, config) is None:
        raise RuntimeError("the builder made no engine")
    return version("tensorrt-rtx"), None


def _run(*command: str | Path) -> str:
    """What a program of a runtime says, on both streams."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, errors="replace")
    said = done.stdout + done.stderr
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name} ended with {done.returncode}: {said[-200:].strip()}")
    return said


def main(name: str, request: dict[str, Any]) -> None:
    """Load, run every input, measure, and tell in the last line of standard output."""
    start = time.perf_counter()
    adapter = globals()[name.replace("-", "_")]
    found, call = adapter(Path(request["model"]), **request.get("options", {}))
    answer: dict[str, Any] = {"version": found, "load_seconds": time.perf_counter() - start}
    if call is not None:
        inputs = np.fromfile(request["inputs"], np.float32).reshape(request["shape"])
        outputs = np.concatenate([call(x[None]) for x in inputs])
        outputs.astype(np.float32).tofile(request["outputs"])
        milliseconds: list[float] = []
        end = time.perf_counter() + request["seconds"]
        while not milliseconds or time.perf_counter() < end:
            start = time.perf_counter()
            call(inputs[:1])
            milliseconds.append((time.perf_counter() - start) * 1e3)
        answer["milliseconds"] = statistics.median(milliseconds)
    print("\n" + json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(Path(sys.argv[2]).read_text()))
