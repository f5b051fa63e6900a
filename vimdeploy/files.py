"""How files are written: whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from vimdeploy.errors import OutputError


def write_whole(path: str | Path, data: bytes) -> None:
    """Write a file whole or not at all: aside in the same folder, then renamed.

    Raises:
        OutputError: if it cannot be written; nothing is left behind.
    """
    write_together({Path(path): data})


def write_together(files: Mapping[Path, bytes]) -> None:
    """Write files that belong together: all of them aside first, so that a full disk changes none.

    Raises:
        OutputError: if one cannot be written; nothing is left behind.
    """
    with contextlib.ExitStack() as cleanup:
        renames = []
        for path, data in files.items():
            check_writable(path)
            try:
                with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
                    aside = Path(file.name)
                    cleanup.callback(aside.unlink, missing_ok=True)
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                aside.chmod(0o666 & ~_umask())
            except OSError as error:
                raise OutputError(f"{path} cannot be written: {error.strerror}; nothing was left behind.") from error
            renames.append((aside, path))
        for aside, path in renames:
            try:
                aside.replace(path)
            except OSError as error:
                raise OutputError(f"{path} cannot be written: {error.strerror}.") from error


def check_writable(path: str | Path) -> None:
    """Ask before long work whether its result can be written.

    Raises:
        OutputError: if the folder does not exist or is not one, or ``path`` is a folder itself.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise OutputError(f"The folder {path.parent} for {path.name} does not exist; create it first.")
    if path.is_dir():
        raise OutputError(f"Wanted a file to write, found the folder {path}.")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"The folder {path.parent} cannot be written to; choose another one.")


def check_outputs(outputs: Iterable[str | Path], inputs: Iterable[str | Path]) -> None:
    """Ask before long work whether its results can be written, and that none of them is read or written twice.

    Raises:
        OutputError: if one cannot be written, or is the same file as another or as an input.
    """
    taken = {Path(path).resolve(): path for path in inputs}
    for output in outputs:
        check_writable(output)
        place = Path(output).resolve()
        if place in taken:
            raise OutputError(f"{output} would be written over {taken[place]}; give every file a name of its own.")
        taken[place] = output


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
