"""How files are written: whole or not at all, over nothing that is read, and by one writer after the other.

Rows of a run that may take days are the exception: their file grows, and what is there is kept.

What is not finished has a name of its own, ``.vimdeploy-*.part``, and is locked. One that nobody locks was left by a
process that was killed; the next writer in its folder removes it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import IO

from vimdeploy.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows, where nothing is locked, so that nothing is swept either
    fcntl = None  # type: ignore[assignment]

_PATIENCE = 5.0
"""Seconds that a writer waits for another one."""
_PREFIX, _SUFFIX = ".vimdeploy-", ".part"


def write_whole(path: str | Path, data: bytes) -> None:
    """Write a file whole or not at all: aside in the same folder, then renamed.

    A link stays one: what it points to is written. A file that was there keeps its permissions.

    Raises:
        OutputError: if it cannot be written; nothing is left behind.
    """
    write_together({Path(path): data})


def write_together(files: Mapping[Path, bytes]) -> None:
    """Write files of one folder that belong together: all of them aside first, so that a full disk changes none.

    Of two writers at once, the later one wins with all its files.

    Raises:
        OutputError: if one cannot be written; nothing is left behind.
    """
    with contextlib.ExitStack() as cleanup:
        renames = []
        for path, data in files.items():
            check_writable(path)
            place = Path(os.path.realpath(path))
            _sweep(place.parent)
            try:
                aside, file = _open_aside(place.parent)
                cleanup.callback(aside.unlink, missing_ok=True)
                cleanup.callback(file.close)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                if place.exists():
                    shutil.copymode(place, aside)
                if fcntl is None:
                    file.close()  # Windows renames no open file
            except OSError as error:
                raise OutputError(f"{path} cannot be written: {error.strerror}; nothing was left behind.") from error
            renames.append((path, aside, place))
        with _locked(renames[0][2].parent, _PATIENCE) if len(renames) > 1 else contextlib.nullcontext():
            for path, aside, place in renames:
                try:
                    aside.replace(place)
                except OSError as error:
                    raise OutputError(f"{path} cannot be written: {error.strerror}.") from error


def open_to_grow(path: str | Path, go_on: bool) -> IO[bytes]:
    """Open a file that grows bit by bit, and is kept as far as it came; nobody else may while it is open.

    Args:
        path: of the file.
        go_on: with a file that is there already; else it must be new.

    Raises:
        OutputError: if it cannot be written, is there and should be new, or if another process is writing it.
    """
    check_writable(path)
    try:
        file = Path(path).open("r+b" if go_on and Path(path).exists() else "x+b")  # noqa: SIM115  # is handed on
    except FileExistsError as error:
        raise OutputError(f"{path} is there already: go on with it by --resume, or choose another name.") from error
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.") from error
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise OutputError(f"{path} is being written by another process; wait for its end.") from error
        except OSError:  # some network file systems lock nothing
            pass
    return file


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a new folder whole or not at all: aside in the same parent, then renamed.

    Args:
        folder: which does not exist yet.
        files: contents by their paths in the folder.

    Raises:
        OutputError: if it cannot be written, or is there by now; nothing is left behind.
    """
    place = Path(os.path.realpath(folder))
    _sweep(place.parent)
    with contextlib.ExitStack() as cleanup:
        try:
            aside = _folder_aside(place.parent, 0o777, cleanup)
            for name, data in files.items():
                (aside / name).parent.mkdir(parents=True, exist_ok=True)
                with (aside / name).open("xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            aside.rename(place)
        except OSError as error:
            raise OutputError(f"{folder} cannot be written: {error.strerror}; nothing was left behind.") from error


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for files that nobody keeps; gone at the end, or swept by a later one if the process is killed.

    Raises:
        OutputError: if there is no place for it.
    """
    _sweep(Path(tempfile.gettempdir()))
    with contextlib.ExitStack() as cleanup:
        with temporary_files():
            folder = _folder_aside(Path(tempfile.gettempdir()), 0o700, cleanup)
        yield folder


@contextlib.contextmanager
def temporary_files() -> Iterator[None]:
    """Translate what goes wrong with temporary files inside, those of other libraries too.

    Raises:
        OutputError: if they cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"The folder for temporary files, {tempfile.gettempdir()}, cannot be used: {error.strerror}; set TMPDIR to "
            "another one."
        ) from error


def check_writable(path: str | Path) -> None:
    """Ask before long work whether its result can be written.

    Raises:
        OutputError: if the folder does not exist or is not one, or ``path`` is anything but a file that may be written.
    """
    try:
        place = Path(os.path.realpath(path))
        if not place.parent.is_dir():
            raise OutputError(f"The folder {place.parent} for {place.name} does not exist; create it first.")
        mode = _mode(place)
    except (OSError, ValueError) as error:  # a name that is too long, or has a zero byte
        raise OutputError(f"{path} cannot be written: {getattr(error, 'strerror', None) or error}.") from error
    if mode is not None and stat.S_ISDIR(mode):
        raise OutputError(f"Wanted a file to write, found the folder {path}.")
    if mode is not None and not stat.S_ISREG(mode):
        raise OutputError(f"Wanted a file to write, found {path}, which is a device, a pipe or a socket.")
    if not os.access(place.parent, os.W_OK):
        raise OutputError(f"The folder {place.parent} cannot be written to; choose another one.")
    if mode is not None and not os.access(place, os.W_OK):
        raise OutputError(f"{path} is write-protected; choose another name, or remove the protection.")


def _mode(path: Path) -> int | None:
    """The kind and the permissions of a file; None if there is none."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None


def check_outputs(outputs: Iterable[str | Path], inputs: Iterable[str | Path]) -> None:
    """Ask before long work whether its results can be written, and that none of them is read or written twice.

    Args:
        outputs: files to write.
        inputs: files that are read, and folders whose files are; names of other things are passed over.

    Raises:
        OutputError: if one cannot be written, or is the same file as another or as an input.
    """
    inputs = list(inputs)
    taken = {identity: path for path in inputs for identity in _identities(path)}
    folders = {os.path.realpath(path): path for path in inputs if is_folder(path)}
    for output in outputs:
        check_writable(output)
        place = Path(os.path.realpath(output))
        inside = [folders[str(parent)] for parent in place.parents if str(parent) in folders]
        if inside and place.exists():
            raise OutputError(f"{output} would be written over a file of {inside[0]}; give it a name of its own.")
        for identity in _identities(output):
            if identity in taken:
                raise OutputError(
                    f"{output} would be written over {taken[identity]}; give every file a name of its own."
                )
        taken |= dict.fromkeys(_identities(output), output)


def is_folder(path: str | Path) -> bool:
    """Whether there is such a folder, whatever the name."""
    with contextlib.suppress(OSError):  # a name that no file can have is no folder's
        return Path(path).is_dir()
    return False


def _identities(path: str | Path) -> list[object]:
    """What two paths of one file have in common: where they lead, and what the system calls the file."""
    identities: list[object] = [os.path.realpath(path)]
    with contextlib.suppress(OSError, ValueError):
        status = Path(path).stat()
        identities.append((status.st_dev, status.st_ino))
    return identities


def _open_aside(folder: Path) -> tuple[Path, IO[bytes]]:
    """A new file for what is not finished, locked."""
    while True:
        path = folder / f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"
        file = path.open("xb")
        if fcntl is not None:
            with contextlib.suppress(OSError):  # some network file systems lock nothing
                fcntl.flock(file, fcntl.LOCK_EX)
        if path.exists():  # and was not swept before it was locked
            return path, file
        file.close()


def _folder_aside(parent: Path, mode: int, cleanup: contextlib.ExitStack) -> Path:
    """A new folder for what is not finished, locked, and gone at the end unless it was renamed."""
    while True:
        folder = parent / f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"
        folder.mkdir(mode)
        cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
        cleanup.enter_context(_locked(folder))
        if folder.exists():  # and was not swept before it was locked
            return folder


@contextlib.contextmanager
def _locked(path: Path, patience: float = 0.0) -> Iterator[bool]:
    """Lock a file or a folder, if the system can and nobody else holds it for longer; whether it did."""
    if fcntl is None:
        yield False
        return
    with contextlib.ExitStack() as cleanup:
        locked = False
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            cleanup.callback(os.close, descriptor)
            end = time.monotonic() + patience
            while not locked:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    locked = True
                except BlockingIOError:
                    if time.monotonic() > end:
                        break
                    time.sleep(0.01)
        yield locked


@cache
def _sweep(folder: Path) -> None:
    """Remove what killed processes have left unfinished in a folder; once in a process."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not (entry.name.startswith(_PREFIX) and entry.name.endswith(_SUFFIX)):
                continue
            with _locked(Path(entry.path)) as unused:
                if unused and entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                elif unused:
                    with contextlib.suppress(OSError):
                        Path(entry.path).unlink()
