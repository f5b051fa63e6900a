"""``vimdeploy.package``."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path

from vimdeploy.artifact import Artifact, open_artifact
from vimdeploy.errors import ConfigError, OutputError, VimdeployWarning
from vimdeploy.files import check_writable, write_folder, write_whole
from vimdeploy.reading import read_text, why
from vimdeploy.serving import SERVERS
from vimdeploy.serving.triton import CONFIG, LABELS, TritonModel, TritonOptions, triton_model

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")


@dataclass(frozen=True)
class Packaged:
    """A model in a server's repository."""

    folder: Path
    """The model's, with a folder for each version."""
    version: int
    kept: bool
    """Whether ``config.pbtxt`` was there and stays as it is, so that it has the last word on what follows."""
    device: str
    """Where the server is to run it: ``cpu``, ``cuda``, or ``auto``: on what it has."""
    operators: str
    """What computes our operators; empty if the model has none."""
    max_batch: int
    """The most requests that run together; 0 if the file takes one batch alone."""
    command: tuple[str, ...]
    """What starts the server."""
    files: tuple[Path, ...]
    """What was written."""


def package(
    model: str | Path | Artifact,
    repository: str | Path,
    *,
    server: str = "triton",
    name: str | None = None,
    version: int | None = None,
    served_from: str | None = None,
    device: str = "auto",
    operators: str = "auto",
    max_batch: int | None = None,
    instances: int = 1,
    threads: int | None = None,
) -> Packaged:
    """Put a file into the model repository of a server, with all that it needs there.

    A model that is there already gets a further version beside the others. Its ``config.pbtxt``, which all of them
    share, stays as it is then.

    Args:
        model: an ONNX file or an engine of ours.
        repository: the folder; it is made if there is none.
        server: ``triton``: NVIDIA's Triton Inference Server.
        name: of the model in the server; None: the file's name.
        version: its number; None: the one after the newest.
        served_from: the repository's path where the server runs, if it is another one there, such as ``/models`` in a
            container; the configuration names our library by its whole path.
        device: ``cpu``; ``cuda``; or ``auto``: what the server has, if the file and the library run on both.
        operators: of ONNX files: ``library``, ``function-body``, or ``auto``: the compiled library if it is installed.
        max_batch: how many requests the server may run together; None: 8, or as many as an engine was built for.
        instances: sessions side by side, on each GPU or on the CPU.
        threads: of ONNX files: that one operator may use on a CPU; None: all cores.

    Raises:
        ModelFileError: if the file is not ours, or has lost what it needs.
        ConfigError: for an option that the file, this installation or the server does not have.
        OutputError: if the version is there already, does not fit to the others, or cannot be written.
    """
    if server not in SERVERS:
        raise ConfigError(f"server must be one of {', '.join(SERVERS)}, found {server!r}.")
    artifact = open_artifact(model)
    if name is None:
        name = artifact.info.name if artifact.path is None else artifact.path.stem
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"A model's name has letters, digits, _, . and - alone, found {name!r}; give it another name."
        )
    if version is not None and not 1 <= version < 1 << 31:
        raise ConfigError(f"version must be a number from 1 on, found {version}.")
    repository = Path(repository)
    folder = repository / name
    check_writable(folder / "new" if folder.is_dir() else folder if repository.is_dir() else repository)

    served = (served_from or str(repository.absolute())).rstrip("/")
    options = TritonOptions(device, operators, max_batch, instances, threads)
    made = triton_model(artifact, f"{served}/{name}", options)
    kept = (folder / CONFIG).exists()
    number, files = _write(folder, made, version)
    return Packaged(
        folder,
        number,
        kept,
        made.device,
        made.operators,
        made.max_batch,
        ("tritonserver", f"--model-repository={served or '/'}", *made.server_options),
        files,
    )


def _write(folder: Path, made: TritonModel, version: int | None) -> tuple[int, tuple[Path, ...]]:
    """Write a model or a further version of it; its number, and the files.

    Raises:
        OutputError: if that is not possible; the versions that are there stay as they are.
    """
    versions = _versions(folder)
    number = version or max(versions, default=0) + 1
    if number in versions:
        raise OutputError(
            f"{folder} has a version {number} already, which a server may be running; choose another --model-version."
        )
    in_folder = {**made.libraries, **made.beside, CONFIG: made.config.encode()}
    own = {f"{number}/{name}": data for name, data in made.version.items()}
    if not folder.exists():
        files = in_folder | own
        if folder.parent.exists():
            write_folder(folder, files)
        else:
            write_folder(folder.parent, {f"{folder.name}/{name}": data for name, data in files.items()})
        return number, tuple(folder / name for name in files)
    if (folder / CONFIG).exists():
        _check_fits(folder, made)
        in_folder = {name: data for name, data in made.libraries.items() if (folder / name).exists()}
    for name, data in in_folder.items():
        _make(folder / name)
        write_whole(folder / name, data)
    write_folder(folder / str(number), made.version)
    return number, tuple(folder / name for name in in_folder | own)


def _versions(folder: Path) -> list[int]:
    """The versions of a model; none if it is not there."""
    try:
        names = [path.name for path in folder.iterdir() if path.is_dir()] if folder.exists() else []
    except OSError as error:
        raise OutputError(f"The model's folder {folder} cannot be read: {error.strerror}.") from error
    return [int(name) for name in names if name.isascii() and name.isdecimal()]


def _check_fits(folder: Path, made: TritonModel) -> None:
    """Whether a further version fits to what its model's folder says of all of them.

    Raises:
        OutputError: if it takes or gives other things, or has other labels.
    """
    try:
        config = read_text(folder / CONFIG)
        labels = read_text(folder / LABELS).encode() if LABELS in made.beside else None
    except (OSError, ValueError) as error:
        raise OutputError(f"What {folder} says of its model cannot be read: {why(error)}.") from error
    if made.interface not in config or labels != made.beside.get(LABELS):
        what = LABELS if made.interface in config else CONFIG
        raise OutputError(
            f"All versions of a model have its inputs, outputs and labels in common; {folder / what} has others. Give "
            "this model a --name of its own, or remove the folder."
        )
    if config != made.config:
        warnings.warn(
            f"{folder / CONFIG} stays as it is, and differs from what was asked for; remove it first for a new one.",
            VimdeployWarning,
            stacklevel=4,
        )


def _make(path: Path) -> None:
    """Make the folder of a file."""
    try:
        path.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {path.parent} cannot be made: {error.strerror}.") from error
