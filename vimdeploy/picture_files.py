"""Which pictures somebody means: those of a folder, a pattern, a list, the web, a table; they are not opened."""

from __future__ import annotations

import csv
import glob
import io
import itertools
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vimdeploy.errors import ImageError, VimdeployWarning
from vimdeploy.files import is_folder
from vimdeploy.model_info import ModelInfo
from vimdeploy.preprocess import ARRAY_SUFFIX, IMAGE_SUFFIXES, Picture
from vimdeploy.reading import check_regular, downloaded, lines_of, read_text, shown, why
from vimdeploy.text import reason_of, shortened

LIST_SUFFIX = ".txt"
"""What a list of pictures is called."""
_SORTED = 10_000
"""Names of one folder that are held to be sorted: a megabyte."""


@dataclass(frozen=True)
class Found:
    """A picture that somebody means."""

    name: str
    """Its path or its address as it was found; ``picture 3`` for one that has none."""
    picture: Picture | ImageError
    """Its path, its address on the web, the picture itself, or why there is none."""
    is_named: bool = False
    """Whether it was named itself, not found in a folder, by a pattern or in a list."""

    def read(self) -> Picture:
        """The picture for ``preprocess``: what is on the web is downloaded.

        Raises:
            ImageError: if there is none.
        """
        if isinstance(self.picture, ImageError):
            raise self.picture
        if not isinstance(self.picture, str):
            return self.picture
        try:
            return downloaded(self.name)
        except (OSError, ValueError) as error:
            raise ImageError(
                f"The picture {shown(self.name)} cannot be downloaded: {reason_of(error).rstrip('.')}."
            ) from error


def pictures_of(sources: str | os.PathLike[str] | Iterable[Any], info: ModelInfo) -> Iterator[Found]:
    """The pictures that sources stand for, one after the other; they are not opened, and never listed as a whole.

    Args:
        sources: one or several: a picture file; a folder, whose sub-folders are looked into as well; a pattern such as
            ``*/cat*.jpg``; a list file ``.txt`` of paths and addresses, one a line; an address of http or https; ``-``
            for a list on standard input. Whatever is no text and no path is a picture itself.
        info: of the model, which decides what pictures are called.

    Raises:
        ImageError: if a folder or a pattern has no pictures, or a list cannot be read.
    """
    for number, source in enumerate([sources] if isinstance(sources, (str, os.PathLike)) else sources):
        if isinstance(source, (str, os.PathLike)):
            yield from _of_source(os.fspath(source), info)
        else:
            yield Found(f"picture {number}", source, is_named=True)


def _of_source(source: str, info: ModelInfo) -> Iterator[Found]:
    suffixes = _suffixes(info)
    if is_address(source):
        yield _from_name(source, is_named=True)
    elif source == "-" or (source.lower().endswith(LIST_SUFFIX) and not is_folder(source)):
        yield from _of_list(source)
    elif is_folder(source):
        yield from _at_least_one(_below(Path(source), suffixes), _no_pictures(source, suffixes))
    elif glob.has_magic(source) and not os.path.lexists(source):
        names = glob.iglob(source, recursive=True)  # noqa: PTH207  # Path.glob takes no absolute pattern
        found = (_from_name(name) for name in _in_order(names) if not is_folder(name))
        yield from _at_least_one(found, ImageError(f"Nothing fits the pattern {shown(source)}."))
    else:
        yield _from_name(source, is_named=True)


def is_address(source: str) -> bool:
    """Whether that is on the web."""
    return source.lower().startswith(("http://", "https://"))


def _from_name(name: str, is_named: bool = False) -> Found:
    return Found(name, name if is_address(name) else Path(name), is_named)


def _at_least_one(found: Iterator[Found], none: ImageError) -> Iterator[Found]:
    first = next(found, None)
    if first is None:
        raise none
    yield first
    yield from found


def _of_list(source: str) -> Iterator[Found]:
    """The pictures that a list file names, or standard input."""
    try:
        if source == "-":
            yield from map(_from_name, lines_of(sys.stdin.buffer))
            return
        check_regular(source)
        with Path(source).open("rb") as file:
            yield from map(_from_name, lines_of(file))
    except (OSError, ValueError) as error:
        what = "on standard input" if source == "-" else shown(source)
        raise ImageError(f"The list {what} cannot be read: {why(error)}.") from error


def _below(folder: Path, suffixes: Sequence[str]) -> Iterator[Found]:
    """The pictures in a folder and all its sub-folders: first its own, then those of one sub-folder after the other.

    Hidden ones are passed over, and so are notes beside pictures, and links that lead back up.
    """
    folders = [(folder, frozenset[str]())]
    while folders:
        here, followed = folders.pop()
        inside: list[str] = []
        try:
            with os.scandir(here) as entries:
                visible = (entry for entry in entries if not entry.name.startswith("."))
                for name in _in_order(_no_folders(visible, inside)):
                    if name.lower().endswith(tuple(suffixes)):
                        yield Found(str(here / name), here / name)
        except OSError as error:
            reason = ImageError(f"The folder {shown(here)} cannot be read: {why(error)}.")
            if here == folder:
                raise reason from error
            yield Found(str(here), reason)
        for name in sorted(inside, reverse=True):  # the first of them is taken next
            if not (here / name).is_symlink():
                folders.append((here / name, followed))
                continue
            place = os.path.realpath(here / name)
            if place not in followed and not Path(os.path.realpath(here)).is_relative_to(place):
                folders.append((here / name, followed | {place}))


def _no_folders(entries: Iterable[os.DirEntry[str]], folders: list[str]) -> Iterator[str]:
    """The names of all that are no folders; those of folders are put aside."""
    for entry in entries:
        if entry.is_dir():
            folders.append(entry.name)
        else:
            yield entry.name


def _in_order(names: Iterator[str]) -> Iterator[str]:
    """Sorted if they are few enough to be held, else as the system gives them."""
    few = list(itertools.islice(names, _SORTED + 1))
    return iter(sorted(few)) if len(few) <= _SORTED else itertools.chain(few, names)


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
