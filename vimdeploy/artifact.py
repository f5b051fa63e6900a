"""A model file, opened once: read, hashed, parsed, and only then believed. What is opened travels, not its path."""

from __future__ import annotations

import builtins
import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vimdeploy.engine_file import EngineInfo, is_engine, read_engine
from vimdeploy.errors import ConfigError, ModelFileError
from vimdeploy.model_info import BATCH, PRECISIONS, PREFIX, ModelInfo, TensorSpec
from vimdeploy.models import ARCHITECTURES
from vimdeploy.onnx_file import check_model, nodes_of_graph, parse
from vimdeploy.ops.contract import DOMAIN
from vimdeploy.reading import check_regular, shown, why
from vimdeploy.tasks import TASKS, task_by_name

if TYPE_CHECKING:
    import onnx


class Artifact:
    """An ONNX file or an engine, or an ONNX model in memory."""

    info: ModelInfo
    sha256: str
    bytes: int
    """Size of the file."""
    engine: EngineInfo | None
    """What is known of an engine; None for ONNX."""
    ours: bool
    """Whether vimdeploy made it; else its inputs and outputs are all that is known."""
    operators: Mapping[str, int]
    """How many nodes of each of our operators an ONNX file has; of an engine nobody knows."""
    has_bodies: bool
    """Whether an ONNX file holds the function bodies of all our operators that it has."""
    changes: tuple[str, ...]
    """What another tool has done to a file of ours, a clause each; none to a file as vimdeploy wrote it."""

    def __init__(
        self,
        path: Path | None,
        data: builtins.bytes,
        info: ModelInfo,
        engine: EngineInfo | None = None,
        model: onnx.ModelProto | None = None,
        ours: bool = True,
    ) -> None:
        """Hold what was read and checked; ``open_artifact`` and ``artifact_from_onnx`` are the ways in."""
        self.path, self.info, self.engine, self.ours = path, info, engine, ours
        self.sha256, self.bytes = hashlib.sha256(data).hexdigest(), len(data)
        self._data: builtins.bytes | None = data
        self._model = model
        self.operators, self.has_bodies, self.changes = {}, False, ()
        if engine is None:
            self.operators = operator_counts(self.model)
            bodies = {function.name for function in self.model.functions if function.domain == DOMAIN}
            self.has_bodies = bool(self.operators) and self.operators.keys() <= bodies
            self.changes = tuple(_changes(self)) if ours else ()

    @property
    def has_operators(self) -> bool:
        """Whether the compiled library or a plugin has anything to compute in it."""
        return self.engine is not None or bool(self.operators)

    def __str__(self) -> str:
        return "the model in memory" if self.path is None else str(self.path)

    def __repr__(self) -> str:
        kind = "ONNX" if self.engine is None else f"engine of {self.engine.flavor}"
        return f"<Artifact {self}: {self.info.name}, {self.info.size_text}, {self.info.precision}, {kind}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """As its path, if it has one, else as its contents."""
        return _unpickled, (self.path, self.sha256, None if self.path else self.data)

    @property
    def data(self) -> builtins.bytes:
        """The contents of the file.

        Raises:
            ModelFileError: if they were let go, and the file is another one by now.
        """
        if self._data is None:
            assert self.path is not None  # only what can be read again is let go
            data = _read(self.path)
            if hashlib.sha256(data).hexdigest() != self.sha256:
                raise ModelFileError(f"{self.path} was changed while it was in use; start again.")
            self._data = data
        return self._data

    @property
    def model(self) -> onnx.ModelProto:
        """The ONNX model, parsed once; not to be changed.

        Raises:
            ModelFileError: for an engine, which has none.
        """
        if self.engine is not None:
            raise ModelFileError(f"{self} is an engine; wanted the ONNX file that it was built from.")
        if self._model is None:
            self._model = parse(self.data, str(self))
        return self._model

    def forget_contents(self) -> None:
        """Let go of the memory of what can be read again: the parsed model, and the contents of a file."""
        self._model = None
        if self.path is not None:
            self._data = None


def open_artifact(path: str | Path | Artifact, foreign: bool = False) -> Artifact:
    """Read and validate an ONNX file or an engine, before anything runs it.

    Args:
        path: of the file; an artifact is handed back as it is.
        foreign: also take ONNX files that vimdeploy did not make.

    Raises:
        ModelFileError: if the file is not there, damaged, not ours, or refers to other files.
    """
    if isinstance(path, Artifact):
        return path
    path = Path(path)
    if is_engine(path):
        plan, engine = read_engine(path)
        try:
            _check_task(engine.model)
        except ModelFileError as error:
            raise ModelFileError(f"{path} cannot be used: {error}.") from error
        return Artifact(path, plan, engine.model, engine)
    return _from_bytes(path, _read(path), foreign)


def _unpickled(path: Path | None, sha256: str, data: bytes | None) -> Artifact:
    """An artifact in another process, or later.

    Raises:
        ModelFileError: if its file cannot be read, or is another one by now.
    """
    if path is None:
        assert data is not None
        return _from_bytes(None, data, foreign=True)
    artifact = open_artifact(path, foreign=True)
    if artifact.sha256 != sha256:
        raise ModelFileError(f"{path} was changed while it was in use; start again.")
    return artifact


def artifact_from_onnx(model: onnx.ModelProto) -> Artifact:
    """An ONNX model of ours that is in memory, as it would be in a file.

    Raises:
        ModelFileError: if it is not ours.
    """
    return _from_bytes(None, model.SerializeToString(), foreign=False)


def require_onnx(path: str | Path | Artifact) -> Artifact:
    """An ONNX file of ours, opened.

    Raises:
        ModelFileError: for an engine, and as ``open_artifact`` does.
    """
    if not isinstance(path, Artifact) and is_engine(path):
        raise ModelFileError(f"{path} is an engine; wanted the ONNX file that it was built from.")
    artifact = open_artifact(path)
    artifact.model  # noqa: B018  # an engine that is open already has none
    return artifact


def check_unchanged(artifact: Artifact) -> None:
    """Refuse a file that another tool has changed, or a portable one, for work that goes by what vimdeploy wrote first.

    Raises:
        ModelFileError: says what was changed.
    """
    if artifact.info.form:
        raise ModelFileError(f"{artifact} is {artifact.info.form} already; wanted the file that it was made from.")
    if artifact.changes:
        raise ModelFileError(
            f"Wanted a file as vimdeploy wrote it; in {artifact}, {' and '.join(artifact.changes)}. Export it again."
        )


def _changes(artifact: Artifact) -> Iterator[str]:
    """What another tool has done to a file of ours."""
    architecture = ARCHITECTURES.get(artifact.info.architecture)
    wanted = () if architecture is None or artifact.info.form else architecture.operators
    lost = [name for name in wanted if name not in artifact.operators]
    if lost:
        yield f"the operators {' and '.join(lost)} are gone, dissolved into standard ones by another tool"
    if artifact.operators and not artifact.has_bodies:
        yield "the function bodies are gone, dropped by another tool"
    if len(artifact.model.graph.node) > 1 and not artifact.model.graph.value_info:
        yield "the types of inner values are gone, dropped by another tool"
    stored = _stored_precisions(artifact.model)
    said = artifact.info.precision if artifact.info.precision in PRECISIONS else "fp32"
    others = sorted(stored - {"fp32", said})
    if others or (said not in ("fp32", *stored) and not artifact.info.kept_in_float32):
        found = " and ".join(others or ["fp32"])
        yield f"the weights are {found}, changed by another tool, though the file says {artifact.info.precision}"
    if artifact.info.task and artifact.info.fixed_batch is not None and not artifact.info.form:
        yield f"the batch is {artifact.info.fixed_batch}, fixed by another tool"


def _stored_precisions(model: onnx.ModelProto) -> set[str]:
    """The precisions that weights of a model are stored in; some are float32 in every file."""
    from onnx import TensorProto

    types = {TensorProto.FLOAT: "fp32", TensorProto.FLOAT16: "fp16", TensorProto.BFLOAT16: "bf16"}
    return {types[tensor.data_type] for tensor in model.graph.initializer if tensor.data_type in types}


def operator_counts(model: onnx.ModelProto) -> dict[str, int]:
    """How many nodes of each of our operators a model has."""
    counts: dict[str, int] = {}
    for node in nodes_of_graph(model.graph):
        if node.domain == DOMAIN:
            counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return counts


def _read(path: Path) -> bytes:
    try:
        check_regular(path)
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise ModelFileError(f"The model file {shown(path)} cannot be read: {why(error)}.") from error


def _from_bytes(path: Path | None, data: bytes, foreign: bool) -> Artifact:
    name = "The model" if path is None else str(path)
    model = parse(data, name)
    ours = any(str(entry.key).startswith(PREFIX) for entry in model.metadata_props)
    try:
        check_model(model, ours)
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        inputs, outputs = _interface(model)
        if foreign and not ours:
            info = ModelInfo(name if path is None else path.name, inputs, outputs)
        else:
            info = ModelInfo.from_metadata(metadata)
            info = dataclasses.replace(
                info,
                inputs=_as_in_graph("inputs", info.inputs, inputs),
                outputs=_as_in_graph("outputs", info.outputs, outputs),
            )
            _check_task(info)
    except (ModelFileError, ConfigError) as error:
        raise ModelFileError(f"{name} cannot be used: {str(error).removesuffix('.')}.") from error
    return Artifact(path, data, info, model=model, ours=ours)


def _interface(model: onnx.ModelProto) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """The inputs and the outputs of a graph."""
    stored = {tensor.name for tensor in model.graph.initializer}  # which older files list among the inputs too
    return _specs([value for value in model.graph.input if value.name not in stored]), _specs(model.graph.output)


def _specs(values: Iterable[onnx.ValueInfoProto]) -> tuple[TensorSpec, ...]:
    """Inputs or outputs; one without a shape has no dimensions, one without a type no type."""
    import onnx

    specs = []
    for value in values:
        tensor = value.type.tensor_type
        dims = tuple(
            dim.dim_value if dim.dim_value > 0 else dim.dim_param or f"{value.name}_{axis}"
            for axis, dim in enumerate(tensor.shape.dim)
        )
        known = tensor.elem_type in onnx.TensorProto.DataType.values()
        type_ = onnx.TensorProto.DataType.Name(tensor.elem_type).lower() if known and tensor.elem_type else ""
        specs.append(TensorSpec(value.name, dims, {"float": "float32", "double": "float64"}.get(type_, type_)))
    return tuple(specs)


def _as_in_graph(what: str, said: tuple[TensorSpec, ...], found: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    """Inputs or outputs as metadata speaks of them, with the numbers that the graph has for words: the graph runs.

    Raises:
        ModelFileError: if they contradict each other.
    """
    if len(said) == len(found):
        merged = tuple(map(_merged, said, found))
        if None not in merged:
            return tuple(spec for spec in merged if spec is not None)
    raise ModelFileError(
        f"its metadata speaks of the {what} {', '.join(map(str, said))}, its graph has "
        f"{', '.join(map(str, found))}; export it again"
    )


def _merged(said: TensorSpec, found: TensorSpec) -> TensorSpec | None:
    """What metadata and the graph say of one tensor; None if they contradict each other."""
    if said.name != found.name or found.type not in ("", said.type):
        return None
    if not found.dims:  # some tools drop the shapes
        return said
    if len(said.dims) != len(found.dims):
        return None
    dims = []
    for one, other in zip(said.dims, found.dims, strict=True):
        if isinstance(one, int) and isinstance(other, int) and one != other:
            return None
        dims.append(other if isinstance(other, int) else one)
    return dataclasses.replace(said, dims=tuple(dims))


def _check_task(info: ModelInfo) -> None:
    """Whether what a file says of itself is a model of its task; a task of a newer vimdeploy is passed over."""
    if info.task in TASKS:
        try:
            task_by_name(info.task).check(info)
        except ConfigError as error:
            raise ModelFileError(f"its vimdeploy.* metadata is damaged ({error}); export it again") from error


def check_same_interface(first: Artifact, second: Artifact) -> None:
    """Refuse to compare files that take or give different things; pictures may be bytes for one of them alone.

    Raises:
        ConfigError: says what differs.
    """
    wanted, found = first.info.with_floats(), second.info.with_floats()
    for what, one, other in (
        ("tasks", wanted.task or "none", found.task or "none"),
        ("inputs", _of_any_batch(wanted.inputs, wanted), _of_any_batch(found.inputs, found)),
        ("outputs", _of_any_batch(wanted.outputs, wanted), _of_any_batch(found.outputs, found)),
        ("labels", wanted.labels, found.labels),
    ):
        if one != other:
            shown = "" if what == "labels" else f": {_shown(one)} and {_shown(other)}"
            raise ConfigError(f"The two files cannot be compared, because their {what} differ{shown}.")


def _of_any_batch(specs: tuple[TensorSpec, ...], info: ModelInfo) -> tuple[TensorSpec, ...]:
    """Inputs or outputs with the batch free, for a session takes any number of rows if the file takes one."""
    if not info.has_batch:
        return specs
    return tuple(dataclasses.replace(spec, dims=(BATCH, *spec.dims[1:])) for spec in specs)


def _shown(value: str | tuple[object, ...]) -> str:
    return value if isinstance(value, str) else ", ".join(map(str, value))
