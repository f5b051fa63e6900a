"""OpenVINO as a runtime on the CPU: our operators by their function bodies, unfolded into the graph."""

from __future__ import annotations

import dataclasses
import sys
from collections import deque
from typing import TYPE_CHECKING, Any

from vimdeploy.artifact import Artifact, operator_counts
from vimdeploy.errors import ConfigError, ExecutionError, ModelFileError, require
from vimdeploy.ops.contract import DOMAIN
from vimdeploy.runtimes.base import Arrays, Session, check_threads
from vimdeploy.text import reason_of

if TYPE_CHECKING:
    from types import ModuleType

    import onnx

DEVICES = ("auto", "cpu")
PRECISIONS = ("fp32", "bf16")
"""What it can compute in."""
_TYPES = {"fp32": "f32", "bf16": "bf16"}
"""OpenVINO's names of them."""


class OpenVinoSession(Session):
    """An ONNX file in OpenVINO, which takes it with the sizes that it leaves free."""

    runtime = "OpenVINO"

    def __init__(
        self,
        artifact: Artifact,
        device: str = "auto",
        threads: int | None = None,
        operators: str = "auto",
        precision: str | None = None,
    ) -> None:
        """Compile a model.

        Args:
            artifact: the model.
            device: ``cpu``, or ``auto``, which is the same.
            threads: that a run may use; None leaves the choice to OpenVINO (all cores).
            operators: ``function-body``, or ``auto``, which is the same.
            precision: ``fp32``, as None; or ``bf16``, which rounds every value to 8 bits, the recurrence's too, and is
                faster on processors that have instructions for it.

        Raises:
            ConfigError: for an option that is none of these, or a processor without bf16.
            MissingPackageError: without openvino.
            ModelFileError: if OpenVINO refuses the model.
        """
        if device not in DEVICES:
            raise ConfigError(f"OpenVINO runs on the CPU here: device must be auto or cpu, found {device!r}.")
        if operators.replace(" ", "-") not in ("auto", "function-body"):
            raise ConfigError(
                f"OpenVINO computes by the function bodies: operators must be auto or function-body, found "
                f"{operators!r}."
            )
        if precision not in (None, *PRECISIONS):
            raise ConfigError(f"precision must be one of {', '.join(PRECISIONS)}, found {precision!r}.")
        check_threads(threads)
        self.artifact, self.info, self.device = artifact, artifact.info, "cpu"
        self.operators = "function body" if artifact.has_operators else ""
        self._options = (device, threads, operators, precision)
        self._precision = precision or "fp32"
        if self._precision == "bf16":
            self.info = dataclasses.replace(artifact.info, precision="bf16")
        self._compiled = _compiled(artifact, threads, self._precision)
        self._idle: deque[Any] = deque()
        """Requests that compute nothing at the moment: one computes a single call at a time."""
        artifact.forget_contents()

    def __reduce__(self) -> tuple[Any, ...]:
        """As its file and its options: the process that unpickles it compiles it again."""
        return OpenVinoSession, (self.artifact, *self._options)

    @property
    def description(self) -> str:
        """As of every session; says so if it computes in less than float32."""
        how = [self.operators, self.device, self._precision if self._precision != "fp32" else ""]
        return f"{self.runtime} ({', '.join(filter(None, how))})"

    def _run(self, inputs: Arrays) -> Arrays:
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        try:
            found = request.infer(inputs, share_inputs=True)
        except Exception as error:  # OpenVINO's exceptions have no common base
            shapes = ", ".join(f"{name} {array.shape}" for name, array in inputs.items())
            raise ExecutionError(f"OpenVINO failed on {shapes}: {reason_of(error)}") from error
        outputs = {spec.name: found[spec.name] for spec in self.info.outputs}
        self._idle.append(request)
        return outputs

    def on_one_thread(self) -> OpenVinoSession:
        """The same session on one thread."""
        return OpenVinoSession(self.artifact, "cpu", 1, "auto", self._precision)


def _compiled(artifact: Artifact, threads: int | None, precision: str) -> Any:
    """OpenVINO's own model, ready to run.

    Raises:
        ConfigError: if the processor cannot compute in the precision.
        ModelFileError: if OpenVINO refuses the model.
    """
    core = import_openvino().Core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise ConfigError("This processor has no instructions for bf16; leave precision at fp32.")
    options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": _TYPES[precision]}  # else it takes bf16 wherever it can
    if threads is not None:
        # Sessions of few threads stand side by side: pinned, all of them would sit on the first cores.
        options |= {"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
    model: Any = artifact.path or artifact.data
    try:
        if artifact.model.functions or artifact.has_operators:
            model = _unfolded(artifact.model).SerializeToString()
        return core.compile_model(core.read_model(model), "CPU", options)
    except Exception as error:  # the exceptions of OpenVINO and of onnx have no common base
        raise ModelFileError(f"OpenVINO refuses {artifact}: {reason_of(error)}") from error


def _unfolded(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model without functions; ours are today's, whose loops OpenVINO takes, also in files of earlier releases.

    OpenVINO wants to be told the types of the values that a loop's body begins with, which a function cannot know.
    """
    import onnx
    from onnx import inliner, shape_inference

    from vimdeploy.ops.function_body import function_protos

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    used = operator_counts(model)
    if used:
        opset = next(entry.version for entry in model.opset_import if not entry.domain)
        others = [function for function in model.functions if function.domain != DOMAIN]
        del copy.functions[:]
        copy.functions.extend([*others, *(function for function in function_protos(opset) if function.name in used)])
    # Without convert_version a function of another opset would stay.
    return shape_inference.infer_shapes(inliner.inline_local_functions(copy, convert_version=True))


def import_openvino() -> ModuleType:
    """OpenVINO, imported without the package by which it tells its maker that it was imported.

    Raises:
        MissingPackageError: without openvino.
    """
    if "openvino" in sys.modules or "openvino_telemetry" in sys.modules:
        return require("openvino", "openvino")
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # its import fails, which OpenVINO allows for
    try:
        return require("openvino", "openvino")
    finally:
        del sys.modules["openvino_telemetry"]
