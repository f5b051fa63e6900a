"""The stages of a network in an ONNX file of ours: each one's value, and each one alone.

Only the ends of stages are looked at, so that ONNX Runtime fuses within a stage as it does without onlookers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto, helper

from vimdeploy.errors import ConfigError
from vimdeploy.graphs.outputs import with_outputs
from vimdeploy.models.stages import StageSpec
from vimdeploy.preprocess import FloatArray
from vimdeploy.runtimes.base import Array, Stages
from vimdeploy.runtimes.runs import run_session

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnxruntime import InferenceSession


def values_by_stage(model: onnx.ModelProto, stages: Sequence[StageSpec]) -> dict[str, str]:
    """Which value of a graph each stage gives.

    Raises:
        ConfigError: if the graph has other names than our exports.
    """
    names = {stage.name: stage.value for stage in stages}
    given = {name for node in model.graph.node for name in node.output}
    missing = [name for name in names.values() if name not in given]
    if missing:
        raise ConfigError(
            f"the file's values are not named as vimdeploy names them ({len(missing)} are missing, the first is "
            f"{missing[0]})"
        )
    return names


def with_stages(model: onnx.ModelProto, names: Sequence[str], fed: Collection[str]) -> onnx.ModelProto:
    """A copy of a model that gives some inner values as float32, ``NAME`` as ``NAME.seen``, and nothing else.

    Args:
        model: a file of ours: the types of its values are in it.
        names: of values that nodes give.
        fed: those of them for which every node that reads one is to read the new input ``NAME.fed`` (float32) instead.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _feed(copy, fed)
    for name in names:
        cast = helper.make_node("Cast", [name], [f"{name}.seen"], f"{name}.seen", to=TensorProto.FLOAT)
        copy.graph.node.append(cast)
    del copy.graph.output[:]
    seen = with_outputs(copy, [f"{name}.seen" for name in names])
    _drop_unused(seen)
    return seen


def _feed(model: onnx.ModelProto, names: Collection[str]) -> None:
    """Let nodes read ``NAME.fed``, rounded to the value's type, in place of ``NAME``.

    What is fed may be of another size than what is computed in its place, such as the detections of another model. So
    the sizes that the inputs do not tell lose their words: values of the same word share memory in ONNX Runtime.
    """
    known = {value.name: value for value in (*model.graph.value_info, *model.graph.output)}
    words = {dim.dim_param for value in model.graph.input for dim in value.type.tensor_type.shape.dim}
    for dim in (dim for value in known.values() for dim in value.type.tensor_type.shape.dim):
        if names and dim.dim_param not in words:
            dim.ClearField("dim_param")
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


def _drop_unused(model: onnx.ModelProto) -> None:
    """Drop the nodes that no output needs: what follows the last stage may not fit what was fed, and would run."""
    needed = {value.name for value in model.graph.output}
    kept = []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            needed |= set(node.input)
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(kept))


class OnnxStages(Stages):
    """What the nodes of an ONNX file give in ONNX Runtime."""

    def __init__(
        self,
        model: onnx.ModelProto,
        stages: Sequence[StageSpec],
        open_session: Callable[[onnx.ModelProto], InferenceSession],
    ) -> None:
        """Open sessions: with all stages in a row, with each apart, and with those alone fed that are handed on.

        Args:
            model: a file of ours.
            stages: of the model.
            open_session: ONNX Runtime's session of a model.

        Raises:
            ConfigError: if the graph has other names than our exports.
        """
        self._values = values_by_stage(model, stages)
        typed = {value.name for value in (*model.graph.value_info, *model.graph.output)}
        if not typed.issuperset(self._values.values()):
            raise ConfigError("the file does not tell the types of inner values, which another tool has dropped")
        self.names = frozenset(self._values)
        seen = list(self._values.values())
        handed_on = [stage.value for stage in stages if stage.is_handed_on]
        self._in_a_row, self._apart = (open_session(with_stages(model, seen, fed)) for fed in ([], seen))
        self._of_chosen = open_session(with_stages(model, seen, handed_on)) if handed_on else self._in_a_row

    def values(
        self, inputs: Mapping[str, Array], chosen: Mapping[str, FloatArray] | None = None
    ) -> dict[str, FloatArray]:
        """The value of every stage, with the errors of all stages before it."""
        return self._run(self._of_chosen if chosen else self._in_a_row, inputs, chosen or {})

    def values_apart(self, inputs: Mapping[str, Array], fed: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """The value of every stage, each fed with another model's values."""
        return self._run(self._apart, inputs, fed)

    def _run(
        self, session: InferenceSession, inputs: Mapping[str, Array], fed: Mapping[str, FloatArray]
    ) -> dict[str, FloatArray]:
        seen = [f"{value}.seen" for value in self._values.values()]
        given = {f"{self._values[stage]}.fed": value for stage, value in fed.items()}
        found = run_session(session, seen, {**inputs, **given}, what="the stages of the model")
        return {stage: found[f"{value}.seen"] for stage, value in self._values.items()}
