"""The doors of vimdeploy: for each, the files that come in, and what a user does with them.

Both run in different processes: the files of a trial are drawn by Hypothesis in the campaign's own; ``enter`` is called
by a worker that may die of it.
"""

from __future__ import annotations

import contextlib
import io
import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from campaign import mutations, operators, seeds
from campaign.seeds import Files
from vimdeploy.errors import VimdeployError


@dataclass(frozen=True)
class Door:
    """A place that files of others come in at."""

    files: Callable[[], SearchStrategy[Files]]
    """Draws the files of a trial."""
    enter: Callable[[Path], None]
    """Does with a folder of them what a user would."""
    missing: Callable[[], str] = str
    """Makes ready what it takes; returns why that cannot be, empty if it can."""


def in_turn(*steps: Callable[[], object]) -> None:
    """Take every step, so that what one refuses still comes to the next; then refuse as the first did."""
    refusals = []
    for step in steps:
        try:
            step()
        except VimdeployError as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]


def named(**files: SearchStrategy[bytes] | bytes) -> SearchStrategy[Files]:
    """Files by their names, in which ``__`` stands for the dot."""
    fixed = {name: value if isinstance(value, SearchStrategy) else st.just(value) for name, value in files.items()}
    return st.fixed_dictionaries({name.replace("__", "."): value for name, value in fixed.items()})


# checkpoint


def checkpoint_files() -> SearchStrategy[Files]:
    zipped, legacy, safetensors = seeds.checkpoints()
    return named(
        weights=st.one_of(
            tensors_of_all_kinds([seeds.state()]),
            mutations.broken_zip(zipped),
            broken_safetensors(safetensors),
            mutations.broken_bytes(seeds.checkpoints()),
            mutations.broken_bytes([legacy]),
        )
    )


@st.composite
def tensors_of_all_kinds(draw: DrawFn, states: Sequence[dict[str, Any]]) -> bytes:
    """A sound .pth, in which one or two tensors, or what is around them, are of another kind."""
    import torch

    state: dict[Any, Any] = dict(draw(st.sampled_from(states)))
    one = torch.ones(2)
    odd = {
        "scalar": torch.tensor(1.0),
        "empty": torch.empty(0),
        "number": 1,
        "none": None,
        "text": "x",
        "list": [1.0],
        "sparse": one.to_sparse(),
        "csr": torch.eye(2).to_sparse_csr(),
        "complex": one.to(torch.complex64),
        "quantized": torch.quantize_per_tensor(one, 0.1, 0, torch.qint8),
        "meta": torch.empty(2, device="meta"),
        "bool": one.bool(),
        "int64": one.long(),
        "float64": one.double(),
        "float8": one.to(torch.float8_e4m3fn),
        "nan": one * float("nan"),
        "enormous": torch.zeros(1).expand(2**40),
        "many axes": torch.zeros((1,) * 60),
        "nested": torch.nested.nested_tensor([one, torch.ones(3)]),
        "parameter": torch.nn.Parameter(one),
    }
    names = list(state)
    for _ in range(draw(st.integers(0, 2))):
        name, kind = draw(st.sampled_from(names)), draw(st.sampled_from(sorted(odd)))
        value = odd[kind]
        tensor = state.get(name)
        same_size = kind in ("sparse", "complex", "bool", "int64", "float64", "float8", "nan", "meta", "quantized")
        if same_size and draw(st.booleans()) and isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float32:
            value = _like(tensor, kind)
        match draw(st.sampled_from(("value", "drop", "key"))):
            case "value":
                state[name] = value
            case "drop":
                state.pop(name, None)
            case "key":
                state[draw(mutations.leaves.filter(lambda key: not isinstance(key, (list, dict))))] = value
    content: Any = state
    wrapper = draw(st.sampled_from(("", "", "", "model", "state_dict", "model_ema", "net", "params", 0)))
    if wrapper != "":
        content = {wrapper: content}
    if wrapper == "state_dict":
        said = st.fixed_dictionaries({}, optional={"CLASSES": mutations.values, "dataset_meta": mutations.values})
        content["meta"] = draw(said | mutations.values)
    if draw(st.integers(0, 9)) == 9:
        content = draw(st.sampled_from((one, [state], None, (), "text", {"model": one}, {"model": {}}, odd)))
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=draw(st.booleans()) or "sparse" in str(content))
    return file.getvalue()


def _like(tensor: Any, kind: str) -> Any:
    import torch

    if kind == "sparse":
        return tensor.to_sparse()
    if kind == "meta":
        return tensor.to("meta")
    if kind == "nan":
        return tensor * float("nan")
    if kind == "quantized":
        return torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)
    types = {"complex": torch.complex64, "bool": torch.bool, "int64": torch.int64, "float64": torch.float64}
    return tensor.to(types.get(kind, torch.float8_e4m3fn))


@st.composite
def broken_safetensors(draw: DrawFn, seed: bytes) -> bytes:
    """A safetensors file whose header is broken, in a header of the right length, or almost."""
    (length,) = struct.unpack("<Q", seed[:8])
    header = draw(mutations.broken_json(seed[8 : 8 + length])).encode("utf-8", "replace")
    off = draw(st.sampled_from((0, 0, 0, 1, -1, 2**62)))
    return struct.pack("<Q", max(len(header) + off, 0)) + header + seed[8 + length :]


def enter_checkpoint(folder: Path) -> None:
    from vimdeploy.checkpoint import load_checkpoint
    from vimdeploy.networks import network_of_variant

    weights = folder / "weights"
    in_turn(
        lambda: network_of_variant(seeds.VARIANT, load_checkpoint(weights)),
        lambda: network_of_variant(seeds.VARIANT, load_checkpoint(weights, ema=True), task="features"),
    )


# dense


def dense_files() -> SearchStrategy[Files]:
    sound, described = seeds.dense_checkpoints(), seeds.DENSE_DESCRIPTION
    broken = st.one_of(
        tensors_of_all_kinds(seeds.dense_states()),
        *(mutations.broken_zip(checkpoint) for checkpoint in sound),
        mutations.broken_bytes(sound),
    )
    text = mutations.broken_json(described).map(lambda json_text: json_text.encode("utf-8", "surrogatepass"))
    return named(dense__json=described, weights=broken) | named(dense__json=text, weights=st.sampled_from(sound))


def enter_dense(folder: Path) -> None:
    from vimdeploy.checkpoint import load_checkpoint
    from vimdeploy.models import variant_by_name
    from vimdeploy.networks import network_of_variant

    variant = variant_by_name(str(folder / "dense.json"))
    if variant.config.parameters >= 10**6:
        return
    checkpoint = load_checkpoint(folder / "weights")
    for task in DENSE_HEADS:  # a checkpoint has the head of one of them at most
        with contextlib.suppress(VimdeployError):
            network_of_variant(variant, checkpoint, task)
    network_of_variant(variant, checkpoint, "pyramid")


DENSE_HEADS = ("segment", "detect")


# description, labels, table


def description_files() -> SearchStrategy[Files]:
    text = mutations.broken_json(seeds.DESCRIPTION).map(lambda json_text: json_text.encode("utf-8", "surrogatepass"))
    return named(tiny__json=text | mutations.broken_bytes([seeds.DESCRIPTION]))


def enter_description(folder: Path) -> None:
    from vimdeploy.models import variant_by_name
    from vimdeploy.networks import network_of_variant

    variant = variant_by_name(str(folder / "tiny.json"))
    if variant.config.parameters < 10**6:
        in_turn(*(lambda task=task: network_of_variant(variant, 0, task) for task in ("classification", "features")))


def labels_files() -> SearchStrategy[Files]:
    return named(labels__txt=mutations.broken_text(seeds.LABELS) | mutations.broken_bytes([seeds.LABELS]))


def enter_labels(folder: Path) -> None:
    import dataclasses

    from vimdeploy.models import labels_from_file
    from vimdeploy.networks import network_of_variant

    labels = labels_from_file(folder / "labels.txt")
    network_of_variant(dataclasses.replace(seeds.VARIANT, labels=labels), 0)


def table_files() -> SearchStrategy[Files]:
    table = mutations.broken_text(seeds.TABLE) | mutations.broken_bytes([seeds.TABLE])
    return named(table__csv=table, one__png=seeds.pictures()[0], two__png=seeds.pictures()[1])


def enter_table(folder: Path) -> None:
    from vimdeploy.inputs import folder_inputs

    inputs = folder_inputs(folder, seeds.network().info, folder / "table.csv")
    list(inputs.batches(2))


# rows


def rows_files() -> SearchStrategy[Files]:
    from safetensors.numpy import save

    shard = save({"logits": np.zeros((1, 5), np.float32)}, {"model": "tiny", "sha256": "abc"})
    files = {"answers.csv": seeds.ROWS, "answers.jsonl": seeds.JSON_ROWS, "list.txt": seeds.PATHS}
    files |= {"00000.csv": seeds.INDEX, "00000.safetensors": shard}
    return st.fixed_dictionaries({name: st.just(data) | mutations.broken_bytes([data]) for name, data in files.items()})


def enter_rows(folder: Path) -> None:
    from vimdeploy.api.extract import _Shards
    from vimdeploy.picture_files import pictures_of
    from vimdeploy.row_file import RowFile

    def go_on(name: str) -> None:
        with RowFile(folder / name, ("index", "label"), "top", resume=True) as file:
            file.add("new.png", {"top": []})

    in_turn(
        lambda: go_on("answers.csv"),
        lambda: go_on("answers.jsonl"),
        lambda: list(pictures_of(folder / "list.txt", seeds.network().info)),
        lambda: _Shards(folder, "safetensors", "logits", {"sha256": "abc"}, resume=True),
    )


# picture


def picture_files() -> SearchStrategy[Files]:
    sound = {f"{model}__onnx": seeds.onnx_model(model) for model in LOOKING}
    words = [b"IDAT", b"\0\0\0\0", b"RIFF", b"II*\0"]
    return named(picture__png=mutations.broken_bytes(seeds.pictures(), words), **sound)


def enter_picture(folder: Path) -> None:
    in_turn(*(lambda model=model: _session(model, folder).predict(folder / "picture.png") for model in LOOKING))


LOOKING = ("classifier", "features", "pyramid", *DENSE_HEADS)
"""Sound models that look at broken pictures, one of each task."""
_SESSIONS: dict[str, Any] = {}


def _session(model: str, folder: Path) -> Any:
    """A session on one of ``LOOKING``, opened once in each process."""
    from vimdeploy import load

    if model not in _SESSIONS:
        _SESSIONS[model] = load(folder / f"{model}.onnx", "cpu", threads=1)
    return _SESSIONS[model]


# onnx, operator, sidecar


def onnx_files() -> SearchStrategy[Files]:
    models = seeds.onnx_models()
    broken = st.one_of(mutations.broken_onnx(models), mutations.broken_onnx(models), mutations.broken_bytes(models))
    return named(model__onnx=broken, picture__png=seeds.pictures()[0])


def enter_onnx(folder: Path) -> None:
    import vimdeploy
    from vimdeploy.inputs import random_inputs

    path = folder / "model.onnx"

    def run(operators: str) -> None:
        with vimdeploy.load(path, "cpu", threads=1, operators=operators) as session:
            in_turn(
                lambda: session.run(next(random_inputs(session.info, 1, 0).batches(1))),
                lambda: session.predict(folder / "picture.png"),
            )

    in_turn(lambda: vimdeploy.inspect(path), lambda: run("auto"), lambda: run("function-body"))


def enter_portable(folder: Path) -> None:
    from vimdeploy.artifact import require_onnx
    from vimdeploy.graphs.portable import portable

    model = require_onnx(folder / "model.onnx").model
    in_turn(lambda: portable(model), lambda: portable(model, 2, loops=False))


def sidecar_files() -> SearchStrategy[Files]:
    sidecar = seeds.engine()["model.engine.json"]
    text = mutations.broken_json(sidecar).map(lambda json_text: json_text.encode("utf-8", "surrogatepass"))
    broken = text | broken_metadata(sidecar) | mutations.broken_bytes([sidecar])
    return named(model__engine__json=broken, model__engine=seeds.PLAN)


@st.composite
def broken_metadata(draw: DrawFn, sidecar: bytes) -> bytes:
    """A file beside an engine one of whose entries about the model is broken, JSON in JSON."""
    document = json.loads(sidecar)
    name = draw(st.sampled_from([name for name, text in document["model"].items() if text[:1] in ("{", "[")]))
    document["model"][name] = draw(mutations.broken_json(document["model"][name]))
    return json.dumps(document).encode()


def enter_sidecar(folder: Path) -> None:
    import vimdeploy
    from vimdeploy.engine_file import read_engine

    path = folder / "model.engine"
    in_turn(
        lambda: read_engine(path),
        lambda: vimdeploy.inspect(path),
        lambda: vimdeploy.load(path),
    )


# commands

ARGUMENTS = "arguments.json"
COMMANDS = {
    "checkpoint": ("export tiny.json -c weights -o out.onnx", "verify classifier.onnx -c weights --count 2"),
    "dense": tuple(f"export dense.json -c weights --task {task} -o out.onnx" for task in ("pyramid", *DENSE_HEADS)),
    "description": (
        "export tiny.json --random-weights 0 -o out.onnx",
        "export tiny.json --random-weights 0 --task pyramid --neck simple --image-size 32 -o out.onnx",
    ),
    "labels": ("export tiny.json --random-weights 0 --labels labels.txt -o out.onnx",),
    "onnx": (
        "run model.onnx picture.png",
        "run model.onnx picture.png --json --operators function-body",
        "inspect model.onnx",
        "convert model.onnx -o out.onnx --precision fp16 --count 2",
        "quantize model.onnx -o out.onnx --images . --budget 100",
        "verify model.onnx --against classifier.onnx --count 2 --report out.html",
        "verify classifier.onnx --against model.onnx --count 2 --json",
        "build model.onnx --flavor rtx -o out.engine",
        "package model.onnx -o repository --device cpu",
    ),
    "picture": (
        "run classifier.onnx picture.png",
        *(f"run {model}.onnx picture.png --save saved" for model in LOOKING[1:]),
        "run detect.onnx picture.png --score-threshold 0 -o results.json",
        "quantize classifier.onnx -o out.onnx --images . --budget 100",
    ),
    "sidecar": (
        "inspect model.engine",
        "run model.engine good.png --device cuda",
        "package model.engine -o repository",
    ),
    "table": ("verify classifier.onnx --against classifier.onnx --images . --classes table.csv",),
}
"""What comes in at the doors above, through the command line."""


@st.composite
def commands_files(draw: DrawFn) -> Files:
    door = draw(st.sampled_from(sorted(COMMANDS)))
    command = draw(st.sampled_from(COMMANDS[door]))
    words = command.split()
    used = {f"{model}.onnx": seeds.onnx_model(model) for model in seeds.MODELS if f"{model}.onnx" in words}
    sound = {"tiny.json": seeds.DESCRIPTION, "good.png": seeds.pictures()[0]}
    used |= {name: data for name, data in sound.items() if name in words}
    return {**used, **draw(DOORS[door].files()), ARGUMENTS: json.dumps(words).encode()}


class UnsoundEndError(Exception):
    """A command that ended by itself, and not as commands should."""


def enter_commands(folder: Path) -> None:
    from click.testing import CliRunner

    from vimdeploy.cli import main

    arguments = json.loads((folder / ARGUMENTS).read_bytes())
    before = set(folder.iterdir())
    result = CliRunner().invoke(main, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    code, raw = result.exit_code, {letter for letter in result.output if not (letter.isprintable() or letter in "\n\t")}
    if code not in (0, 1, 2):
        raise UnsoundEndError(f"exit code {code}")
    if raw:
        raise UnsoundEndError(f"raw characters of a file at the terminal: {sorted(raw)}")
    if code:
        strays = {path.name for path in set(folder.iterdir()) - before} - {"out.html"}
        if not result.stderr.strip() or strays:
            raise UnsoundEndError(f"exit code {code}, left behind: {strays or 'no word'}")
        raise VimdeployError(result.stderr)


DOORS = {
    "checkpoint": Door(checkpoint_files, enter_checkpoint),
    "commands": Door(commands_files, enter_commands),
    "dense": Door(dense_files, enter_dense),
    "description": Door(description_files, enter_description),
    "labels": Door(labels_files, enter_labels),
    "onnx": Door(onnx_files, enter_onnx),
    "operators": Door(operators.operators_files, operators.enter_operators, operators.build),
    "picture": Door(picture_files, enter_picture),
    "portable": Door(onnx_files, enter_portable),
    "rows": Door(rows_files, enter_rows),
    "sidecar": Door(sidecar_files, enter_sidecar),
    "table": Door(table_files, enter_table),
}
"""By the names that ``--door`` takes."""
