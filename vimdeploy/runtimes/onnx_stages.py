"""The stages of a Vim in an ONNX file of ours: each one's value, and each one alone.

Only the ends of stages are looked at, so that ONNX Runtime fuses within a stage as it does without onlookers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto, helper

from vimdeploy.errors import ConfigError, ExecutionError, first_line
from vimdeploy.exporters.onnx_values import with_outputs
from vimdeploy.models.config import VimConfig
from vimdeploy.models.stages import StageName, stages_of
from vimdeploy.preprocess import FloatArray
from vimdeploy.runtimes.base import Stages

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnxruntime import InferenceSession

_LAST_NODE = {
    "patch_embed": "patch_embed.Transpose",
    "pos_embed": "Add",
    "norm": "norm.Mul",
    "in_proj": "mixer.in_proj.MatMul",
    "conv1d": "mixer.BidirectionalConv1d",
    "x_proj": "mixer.MatMul",
    "scan": "mixer.BidirectionalSelectiveScan",
    "out_proj": "mixer.out_proj.MatMul",
    "residual": "Add",
    "norm_f": "norm_f.Mul",
    "head": "logits",
}
"""The node that gives a stage's value in our exports, and the name of that value."""


def value_name(stage: StageName) -> str:
    """The value of a stage in a file of ``onnx_from_model``."""
    return ("" if stage.block is None else f"layers.{stage.block}.") + _LAST_NODE[stage.kind]


def values_by_stage(model: onnx.ModelProto, config: VimConfig) -> dict[str, str]:
    """Which value of a graph each stage gives.

    Raises:
        ConfigError: where the graph has other names than our exports.
    """
    names = {stage.name: value_name(stage) for stage in stages_of(config)}
    given = {name for node in model.graph.node for name in node.output}
    missing = [name for name in names.values() if name not in given]
    if missing:
        raise ConfigError(
            f"the file's values are not named as vimdeploy names them ({len(missing)} are missing, the first is "
            f"{missing[0]})"
        )
    return names


def with_stages(model: onnx.ModelProto, names: Iterable[str], apart: bool) -> onnx.ModelProto:
    """A copy of a model that gives some inner values as float32, ``NAME`` as ``NAME.seen``.

    Args:
        model: a file of ours: the types of its values are in it.
        names: of values that nodes give.
        apart: whether every node that reads one of the values is to read the new input ``NAME.fed`` (float32) instead.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    names = list(names)
    if apart:
        _feed(copy, names)
    for name in names:
        seen = helper.make_node("Cast", [name], [f"{name}.seen"], f"{name}.seen", to=TensorProto.FLOAT)
        copy.graph.node.append(seen)
    return with_outputs(copy, [f"{name}.seen" for name in names])


def _feed(model: onnx.ModelProto, names: list[str]) -> None:
    """Let nodes read ``NAME.fed``, rounded to the value's type, in place of ``NAME``."""
    known = {value.name: value for value in (*model.graph.value_info, *model.graph.output)}
    for node in model.graph.node:
        node.input[:] = [f"{name}.given" if name in names else name for name in node.input]
    casts = []
    for name in names:
        fed = onnx.ValueInfoProto()
        fed.CopyFrom(known[name])  # the function bodies need to know the number of dimensions
        fed.name, fed.type.tensor_type.elem_type = f"{name}.fed", TensorProto.FLOAT
        model.graph.input.append(fed)
        type_ = known[name].type.tensor_type.elem_type
        casts.append(helper.make_node("Cast", [fed.name], [f"{name}.given"], f"{name}.given", to=type_))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


class OnnxStages(Stages):
    """What the nodes of an ONNX file give in ONNX Runtime."""

    def __init__(
        self, model: onnx.ModelProto, config: VimConfig, open_session: Callable[[bytes], InferenceSession]
    ) -> None:
        """Open two sessions: with all stages in a row, and with each apart.

        Args:
            model: a file of ours.
            config: of its model.
            open_session: ONNX Runtime's session of a model.

        Raises:
            ConfigError: where the graph has other names than our exports.
        """
        self._values = values_by_stage(model, config)
        self.names = frozenset(self._values)
        self._in_a_row, self._apart = (
            open_session(with_stages(model, self._values.values(), apart).SerializeToString())
            for apart in (False, True)
        )

    def values(self, array: FloatArray) -> dict[str, FloatArray]:
        """Every stage's value, with the errors of all stages before it."""
        return self._run(self._in_a_row, array, {})

    def values_apart(self, array: FloatArray, fed: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Every stage's value, each fed with another model's values."""
        return self._run(self._apart, array, {f"{value}.fed": fed[stage] for stage, value in self._values.items()})

    def _run(self, session: InferenceSession, array: FloatArray, fed: dict[str, FloatArray]) -> dict[str, FloatArray]:
        images = session.get_inputs()[0].name
        try:
            found = session.run([f"{value}.seen" for value in self._values.values()], {images: array, **fed})
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise ExecutionError(f"ONNX Runtime failed on the stages of the model: {first_line(error)}") from error
        return dict(zip(self._values, found, strict=True))
