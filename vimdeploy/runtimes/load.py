"""The way in: any artifact to a session."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vimdeploy.artifact import Artifact, open_artifact
from vimdeploy.errors import ConfigError
from vimdeploy.runtimes.base import Session


def load(
    artifact: str | Path | Artifact,
    device: str = "auto",
    threads: int | None = None,
    operators: str = "auto",
    providers: Sequence[str] | None = None,
    gpu: int = 0,
    allow_engine_code: bool = False,
) -> Session:
    """Open an ONNX file or an engine, ready to run.

    Args:
        artifact: an ONNX file, or an engine of ``vimdeploy build``: its path, or opened already. ONNX files that
            vimdeploy did not make are taken too.
        device: ``cpu``; ``cuda``, which never falls back to the CPU; ``auto``: a GPU if one is usable. Engines run on
            ``cuda`` alone.
        threads: that one operator may use on a CPU; None takes all cores.
        operators: of ONNX files: ``library``, ``function-body``, or ``auto``: the compiled library if it is installed.
        providers: of ONNX files: ONNX Runtime's names of execution providers, instead of the device's.
        gpu: of engines: CUDA's number of the GPU.
        allow_engine_code: of engines: run the code that a version-compatible engine carries, if you trust its builder.

    Returns:
        A session: ``run(arrays)``, ``predict(pictures)``.

    Raises:
        ModelFileError: if the file is not there, damaged, or of a version unknown here.
        ConfigError: for an option that this machine, this file or this vimdeploy does not have.
        MissingPackageError: for an engine without TensorRT or pycuda.
    """
    artifact = open_artifact(artifact, foreign=True)
    if artifact.engine is not None:
        if providers is not None:
            raise ConfigError(f"providers are of ONNX Runtime; {artifact} is an engine.")
        from vimdeploy.runtimes.tensorrt import session_from_engine

        return session_from_engine(artifact, device, threads, operators, gpu, allow_engine_code)
    if allow_engine_code or gpu:
        option = "allow_engine_code" if allow_engine_code else "gpu"
        raise ConfigError(f"{option} is for engines; {artifact} is none.")
    from vimdeploy.runtimes.onnxruntime import OnnxRuntimeSession

    return OnnxRuntimeSession(artifact, device, threads, operators, providers)
