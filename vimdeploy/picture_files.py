"""Which pictures somebody means: those of a folder, of its sub-folders, or of a table; they are not opened."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Sequence
from pathlib import Path

from vimdeploy.errors import ImageError, VimdeployWarning
from vimdeploy.model_info import ModelInfo
from vimdeploy.preprocess import ARRAY_SUFFIX, IMAGE_SUFFIXES
from vimdeploy.reading import read_text, shown, why
from vimdeploy.text import shortened


def pictures_in(folder: str | Path, info: ModelInfo) -> list[Path]:
    """The pictures in a folder that a model may take, or in its sub-folders if it holds none itself.

    Raises:
        ImageError: if there are none.
    """
    suffixes = _suffixes(info)
    here, children = _listed(Path(folder), suffixes)
    found = here or [picture for child in children for picture in _listed(child, suffixes)[0]]
    if not found:
        raise _no_pictures(folder, suffixes)
    return found


def _suffixes(info: ModelInfo) -> tuple[str, ...]:
    """What the pictures of a model are called."""
    holds_arrays = info.picture is not None and info.channels not in (1, 3)
    return (*IMAGE_SUFFIXES, ARRAY_SUFFIX) if holds_arrays else IMAGE_SUFFIXES


def in_folder(folder: Path, info: ModelInfo) -> tuple[list[Path], list[str]]:
    """The pictures of a folder or of its sub-folders in sorted order, and the sub-folder of each.

    Raises:
        ImageError: if there is no such folder, no picture in it, or pictures at different depths.
    """
    suffixes = _suffixes(info)
    here, children = _listed(folder, suffixes)
    inside = {child: _listed(child, suffixes) for child in children}
    paths = [path for pictures, _ in inside.values() for path in pictures]
    deeper = [path for _, folders in inside.values() for child in folders for path in _listed(child, suffixes)[0]]
    found = [pictures[0] for pictures in (here, paths, deeper) if pictures]
    if not found:
        raise _no_pictures(folder, suffixes)
    if len(found) > 1:
        raise ImageError(
            f"Wanted pictures in {folder} or in its sub-folders, one per class; found some at different depths: "
            f"{' and '.join(str(path.relative_to(folder)) for path in found)}. Move the strays elsewhere."
        )
    if here:
        return here, []
    if deeper:
        raise ImageError(
            f"Wanted pictures in {folder} or in its sub-folders, one per class; found them deeper, as "
            f"{deeper[0].relative_to(folder)}. Give {deeper[0].parent.parent} instead."
        )
    empty = [child.name for child, (pictures, _) in inside.items() if not pictures]
    if empty:
        warnings.warn(
            f"{len(empty)} sub-folder{'s' if len(empty) > 1 else ''} of {folder} without pictures, passed over: "
            f"{_first(empty)}.",
            VimdeployWarning,
            stacklevel=3,
        )
    return paths, [path.parent.name for path in paths]


def _no_pictures(folder: str | Path, suffixes: Sequence[str]) -> ImageError:
    return ImageError(f"The folder {folder} holds no pictures ({', '.join(suffixes)}), nor do its sub-folders.")


def _listed(folder: Path, suffixes: Sequence[str]) -> tuple[list[Path], list[Path]]:
    """The pictures and the folders in a folder, sorted; hidden ones are passed over, as are notes beside pictures."""
    try:
        children = [child for child in sorted(folder.iterdir()) if not child.name.startswith(".")]
        folders = {child for child in children if child.is_dir()}
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageError(f"Wanted a folder of pictures, found no folder {shown(folder)}.") from error
    except (OSError, ValueError) as error:
        raise ImageError(f"The folder {shown(folder)} cannot be read: {why(error)}.") from error
    pictures = [child for child in children if child.suffix.lower() in suffixes and child not in folders]
    return pictures, [child for child in children if child in folders]


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (" ..." if len(names) > 4 else "")


def in_table(table: Path, folder: Path) -> tuple[list[Path], list[str]]:
    """The pictures that a table lists, and the class of each.

    Args:
        table: a CSV file with the columns ``file``, a path in the folder, and ``class``.
        folder: that holds all of them.

    Raises:
        ImageError: if the table cannot be read, lacks a column, or names a picture that is not there.
    """
    try:
        reader = csv.DictReader(io.StringIO(read_text(table)), restval="")
        reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
        rows = [(reader.line_num, row) for row in reader if any(row.values())]  # spreadsheets leave empty ones
    except (OSError, ValueError, csv.Error) as error:
        raise ImageError(f"The table {shown(table)} cannot be read: {why(error)}.") from error
    columns = reader.fieldnames
    if not rows or any(columns.count(name) != 1 for name in ("file", "class")):
        found = shortened(", ".join(columns), 200) if rows else "no row"
        raise ImageError(f"Wanted a CSV file with the columns file and class in {table}, found {found}.")
    paths, classes = [], []
    for line, row in rows:
        if any(row.get(None, ())):  # cells behind the last column
            raise ImageError(
                f"Line {line} of {table} has more cells than there are columns; put a name with a comma in quotes."
            )
        name, class_ = row["file"].strip(), row["class"].strip()
        if not name or not class_:
            raise ImageError(f"Wanted a file and a class in each row of {table}, found an empty cell in line {line}.")
        paths.append(_in(folder, name, table, line))
        classes.append(class_)
    return paths, classes


def _in(folder: Path, name: str, table: Path, line: int) -> Path:
    """The path of a picture that a table names."""
    try:
        if "\\" in name and not (folder / name).exists():  # written on Windows
            name = name.replace("\\", "/")
        path = folder / name
        if ".." in Path(name).parts or not path.absolute().is_relative_to(folder.absolute()):
            raise ImageError(
                f"Line {line} of {table} lists {shown(name)}, which is not in the folder {folder}; "
                "give the folder that holds all pictures."
            )
        if not path.is_file():
            raise ImageError(f"Line {line} of {table} lists {shown(name)}, and there is no file {shown(path)}.")
    except OSError as error:
        raise ImageError(f"Line {line} of {table} lists {shown(name)}, which cannot be read: {why(error)}.") from error
    return path
