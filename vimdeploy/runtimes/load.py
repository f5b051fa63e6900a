"""The way in: any artifact to a session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vimdeploy.artifact import Artifact, open_artifact
from vimdeploy.errors import ConfigError
from vimdeploy.runtimes.base import Session

RUNTIMES = ("auto", "onnxruntime", "openvino", "tensorrt")


def load(
    artifact: str | Path | Artifact,
    device: str = "auto",
    threads: int | None = None,
    operators: str = "auto",
    providers: Sequence[str | tuple[str, Mapping[str, Any]]] | None = None,
    allow_engine_code: bool = False,
    runtime: str = "auto",
    precision: str | None = None,
    contexts: int | None = None,
    cuda_graphs: bool = False,
) -> Session:
    """Open an ONNX file or an engine, ready to run.

    Args:
        artifact: an ONNX file, or an engine of ``vimdeploy build``: its path, or opened already. ONNX files that
            vimdeploy did not make are taken too.
        device: ``cpu``; ``cuda``, or ``cuda:1`` for the second GPU, which never fall back to the CPU; ``auto``: a GPU
            if one is usable. Engines run on GPUs alone.
        threads: that one operator may use on a CPU; None takes all cores.
        operators: of ONNX files: ``library``, ``function-body``, or ``auto``: the compiled library if it is installed.
        providers: of ONNX files: ONNX Runtime's names of execution providers, instead of the device's; plugins of
            packages such as onnxruntime-ep-openvino are found by theirs. A pair is a name and ONNX Runtime's options
            for it, ``("CUDAExecutionProvider", {"user_compute_stream": stream})`` for example.
        allow_engine_code: of engines: run the code that a version-compatible engine carries, if you trust its builder.
        runtime: ``onnxruntime`` or ``openvino``, which run ONNX files; ``tensorrt``, which runs engines; ``auto``: ONNX
            Runtime or TensorRT, as the file wants.
        precision: of OpenVINO: ``fp32``, as None, or ``bf16``, which rounds every value to 8 bits and is faster on
            processors that have instructions for it; ``verify`` tells what that costs.
        contexts: of engines: so many threads run it at the same time at most; each takes memory of its own when it
            first does (``TensorRTSession.bytes_per_context``). None: 2.
        cuda_graphs: of ONNX files on CUDA: give the GPU all of a run in one call, as it was captured in the second run
            of the same shapes, which pays for small batches; engines always do. It wants the compiled library. Threads
            run one after the other then, and none may ask for GPU memory while another shape is captured.

    Returns:
        A session: ``run(arrays)``, ``predict(pictures)``.

    Raises:
        ModelFileError: if the file is not there, damaged, or of a version unknown here.
        ConfigError: for an option that this machine, this file or this vimdeploy does not have.
        MissingPackageError: for an engine without TensorRT or pycuda; without openvino, if it is wanted.
    """
    if runtime not in RUNTIMES:
        raise ConfigError(f"runtime must be one of {', '.join(RUNTIMES)}, found {runtime!r}.")
    artifact = open_artifact(artifact, foreign=True)
    is_engine = artifact.engine is not None
    if runtime != "auto" and (runtime == "tensorrt") != is_engine:
        what = "an engine, which TensorRT alone runs" if is_engine else "an ONNX file, and TensorRT runs engines"
        raise ConfigError(f"Wanted {runtime} as the runtime; {artifact} is {what}.")
    if precision is not None and runtime != "openvino":
        raise ConfigError("precision is for OpenVINO; elsewhere a file runs in its own. Give runtime openvino with it.")
    if providers is not None and (is_engine or runtime == "openvino"):
        raise ConfigError(
            f"providers are of ONNX Runtime; {f'{artifact} is an engine' if is_engine else 'OpenVINO is wanted'}."
        )
    if cuda_graphs and (is_engine or runtime == "openvino"):
        raise ConfigError(
            "cuda_graphs are of ONNX Runtime; "
            f"{f'{artifact} is an engine, which has them anyway' if is_engine else 'OpenVINO is wanted'}."
        )
    if is_engine:
        from vimdeploy.runtimes.tensorrt import session_from_engine

        return session_from_engine(artifact, device, threads, operators, allow_engine_code, contexts)
    if allow_engine_code or contexts is not None:
        option = "allow_engine_code" if allow_engine_code else "contexts"
        raise ConfigError(f"{option} is for engines; {artifact} is none.")
    if runtime == "openvino":
        from vimdeploy.runtimes.openvino import OpenVinoSession

        return OpenVinoSession(artifact, device, threads, operators, precision)
    from vimdeploy.runtimes.onnxruntime import OnnxRuntimeSession

    return OnnxRuntimeSession(artifact, device, threads, operators, providers, cuda_graphs)
