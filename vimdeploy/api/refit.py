"""``vimdeploy.refit``."""

from __future__ import annotations

from pathlib import Path

from vimdeploy.api.build import Built
from vimdeploy.artifact import Artifact, open_artifact, require_onnx
from vimdeploy.engine_file import check_name, sidecar_path, write_engine
from vimdeploy.errors import ModelFileError
from vimdeploy.files import check_outputs


def refit(
    engine: str | Path | Artifact, model: str | Path | Artifact, output: str | Path, *, allow_engine_code: bool = False
) -> Built:
    """Give an engine of ``build(..., refittable=True)`` the weights of another ONNX file of the same network.

    It takes the first GPU, which must be such as the engine is for; no kernel is chosen anew.

    Args:
        engine: the engine; it stays as it is.
        model: the ONNX file. Its labels and its recipe are the new engine's too.
        output: the engine to write, with OUTPUT.json beside it.
        allow_engine_code: run the code that a version-compatible engine carries, if you trust its builder.

    Raises:
        ModelFileError: if one is not what it should be, or the two are not of the same network.
        ConfigError: if the engine does not take other weights, or cannot run here.
        OutputError: if a file cannot be written.
        MissingPackageError: without TensorRT.
        ExecutionError: if TensorRT gives up.
    """
    opened, artifact = open_artifact(engine), require_onnx(model)
    if opened.engine is None:
        raise ModelFileError(f"{opened} is an ONNX file; wanted an engine of vimdeploy build --refittable.")
    output = Path(output)
    check_outputs([output, sidecar_path(output)], [path for path in (opened.path, artifact.path) if path])
    check_name(output, engine=True)

    from vimdeploy.runtimes.tensorrt_refit import refitted

    write_engine(output, *refitted(opened, artifact, allow_engine_code))
    return Built(open_artifact(output))
