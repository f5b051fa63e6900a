"""Other weights for an engine of TensorRT that was built to take them."""

from __future__ import annotations

import dataclasses
from types import ModuleType
from typing import TYPE_CHECKING, Any

from vimdeploy.artifact import Artifact
from vimdeploy.engine_file import EngineInfo, sha256_of
from vimdeploy.errors import ConfigError, ExecutionError, ModelFileError
from vimdeploy.exporters.tensorrt_network import network_sha256, weights_of
from vimdeploy.flavors import collecting_logger, deserialized
from vimdeploy.gpu import FIRST_GPU
from vimdeploy.runtimes.tensorrt import tensorrt_for
from vimdeploy.text import shortened

if TYPE_CHECKING:
    import onnx

_TYPES = {"FLOAT": "FLOAT", "FLOAT16": "HALF", "BFLOAT16": "BF16"}
"""TensorRT's names of ONNX's types."""


def refitted(engine_file: Artifact, artifact: Artifact, allow_engine_code: bool) -> tuple[bytes, EngineInfo]:
    """An engine with the weights of another file, and what is to be known of it.

    Args:
        engine_file: the engine; it is not changed.
        artifact: the ONNX file with the weights.
        allow_engine_code: run the code that a version-compatible engine carries.

    Raises:
        ConfigError: if the engine does not take other weights, or cannot run here.
        ModelFileError: if the file is not of the engine's network, or TensorRT refuses the engine.
        ExecutionError: if TensorRT gives up.
    """
    engine = engine_file.engine
    assert engine is not None
    if engine.network_sha256 is None:
        raise ConfigError(f"{engine_file} was not built to take other weights; build it with --refittable.")
    if engine.network_sha256 != network_sha256(artifact.model):
        raise ModelFileError(
            f"{artifact} is not of the network that {engine_file} was built from: only the values of weights may "
            "differ, not their shapes, the precision or the version of vimdeploy that exported them. Build an engine "
            "of it."
        )
    trt, prepare = tensorrt_for(engine, FIRST_GPU, allow_engine_code)
    logger = collecting_logger(trt)
    _runtime, loaded = deserialized(trt, engine_file.data, logger, allow_engine_code, prepare)
    if not loaded.refittable:
        raise ModelFileError(f"TensorRT says that {engine_file} does not take other weights any more; build it again.")
    _give(trt, trt.Refitter(loaded, logger), weights_of(artifact.model), logger)
    plan = _plan(trt, loaded)
    info = dataclasses.replace(
        engine,
        model=artifact.info,
        onnx_sha256=artifact.sha256,
        engine_sha256=sha256_of(plan),
        engine_bytes=len(plan),
    )
    return plan, info


def _give(trt: ModuleType, refitter: Any, weights: dict[str, onnx.TensorProto], logger: Any) -> None:
    """Put every weight into the engine of a refitter, and nothing if it does not take one."""
    from onnx import TensorProto, numpy_helper

    lacking = weights.keys() - set(refitter.get_all_weights())
    if lacking:
        raise ModelFileError(f"The engine does not take {shortened(', '.join(sorted(lacking)))}; build it again.")
    arrays = {name: numpy_helper.to_array(tensor) for name, tensor in weights.items()}  # TensorRT reads them at the end
    for name, array in arrays.items():
        dtype = getattr(trt.DataType, _TYPES[TensorProto.DataType.Name(weights[name].data_type)])
        if not refitter.set_named_weights(name, trt.Weights(dtype, array.ctypes.data, array.size)):
            raise ModelFileError(f"The engine does not take {name} {array.shape}: {logger.reason()}; build it again.")
    if not refitter.refit_cuda_engine():
        missing = shortened(", ".join(refitter.get_missing_weights()))
        reason = f"it misses {missing}" if missing else logger.reason()
        raise ExecutionError(f"TensorRT gave up: {reason}; build the engine again.")


def _plan(trt: ModuleType, engine: Any) -> bytes:
    """An engine as bytes that take other weights again."""
    config = engine.create_serialization_config()
    if hasattr(trt.SerializationFlag, "INCLUDE_REFIT"):  # TensorRT 10.14; before, it stays so unasked
        config.set_flag(trt.SerializationFlag.INCLUDE_REFIT)
    return bytes(engine.serialize_with_config(config))
