"""A file of answers that grows as they come, and that a later run goes on with: CSV or JSON Lines.

What a killed process left is read up to its last whole line; of a CSV file, in which a picture may have several lines,
up to the last picture, because nobody knows whether its lines are all there. Names are kept as eight bytes each.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from vimdeploy.errors import OutputError
from vimdeploy.files import open_to_grow
from vimdeploy.text import reason_of, shortened

if TYPE_CHECKING:
    from typing_extensions import Self

SUFFIXES = (".csv", ".jsonl")
UTF8 = "utf-8", "surrogateescape"
"""Names of files may be no UTF-8; they come back as they were."""
_LONGEST_LINE = 256 << 20
"""Bytes of a line: the masks of a thousand objects in a large picture have fewer."""


class Names:
    """Names that are done; eight bytes of memory each."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        """Take them in."""
        self._digests = np.unique(np.fromiter(map(_digest, names), np.uint64))

    def __len__(self) -> int:
        return len(self._digests)

    def __contains__(self, name: str) -> bool:
        digest = np.uint64(_digest(name))
        place = self._digests.searchsorted(digest)
        return bool(place < len(self._digests) and self._digests[place] == digest)


def _digest(name: str) -> int:
    """Two of a hundred million names have the same with a probability of one in four thousand."""
    return int.from_bytes(blake2b(name.encode(*UTF8), digest_size=8).digest(), "little")


class RowFile:
    """A file of answers that grows; a context manager."""

    def __init__(self, path: Path, fields: Sequence[str], items: str = "", resume: bool = False) -> None:
        """Open it; a new one is removed at the end if nothing came.

        Args:
            path: ends in one of ``SUFFIXES``.
            fields: of an answer's document, or of the items of its list: the columns of CSV beside image and error.
            items: the list of an answer's document that has a line of CSV for each item; empty if it has none.
            resume: go on with what is there.

        Raises:
            OutputError: if it cannot be written, is there and is not to be gone on with, or is another file.
        """
        self._path, self._items = path, items
        self._columns = ("image", *fields, "error")
        self._csv = path.suffix.lower() == ".csv"
        self._begin = csv_line(self._columns).encode() if self._csv else b'{"image": '
        self._file = open_to_grow(path, resume)
        try:
            self._end = 0
            self.done = Names(self._whole_rows())
            self._is_empty = not self._end
            self._file.seek(self._end)
            self._file.truncate()
            if self._csv and not self._end:
                self._write(self._begin)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if self._is_empty:
            self._path.unlink(missing_ok=True)

    def add(self, image: str, document: Mapping[str, Any] | None, error: str = "") -> None:
        """Write what was found for a picture; it is with the system when this returns.

        Args:
            image: the picture's name.
            document: the answer; None if there is none.
            error: why there is none.

        Raises:
            OutputError: if the disk is full, for example.
        """
        self._is_empty = False
        row: dict[str, Any] = {"error": error} if document is None else dict(document)
        if not self._csv:
            self._write(_json_line({"image": image} | row))
            return
        items = row.get(self._items, [row]) or [{}]  # a picture with nothing in it has a line too
        self._write(
            "".join(map(csv_line, ([image, *map(item.get, self._columns[1:])] for item in items))).encode(*UTF8)
        )

    def _write(self, line: bytes) -> None:
        try:
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            raise OutputError(f"{self._path} cannot be written: {error.strerror}; --resume goes on with it.") from error

    def _whole_rows(self) -> Iterator[str]:
        """The names of the pictures whose rows are there; ``_end`` is behind the last of them."""
        try:
            yield from self._rows_of_csv() if self._csv else self._rows_of_json()
            if not self._end:
                self._file.seek(0)
                if not self._begin.startswith(self._file.read(len(self._begin))):
                    raise ValueError("it begins with something else")
        except (ValueError, csv.Error) as error:
            raise OutputError(
                f"{self._path} is no file of answers that this run can go on with: {reason_of(error)}. Choose another "
                "name."
            ) from error

    def _rows_of_json(self) -> Iterator[str]:
        for line in _whole_lines(self._file):
            row = json.loads(line)
            if not isinstance(row, dict) or not isinstance(row.get("image"), str):
                raise ValueError(f"{shortened(line.decode(*UTF8), 80)} is no answer")
            self._end += len(line)
            yield row["image"]

    def _rows_of_csv(self) -> Iterator[str]:
        read, is_over = 0, False

        def lines() -> Iterator[str]:
            nonlocal read, is_over
            for line in _whole_lines(self._file):
                read += len(line)
                yield line.decode(*UTF8)
            is_over = True

        rows = csv.reader(lines(), strict=True)
        header = next(rows, None)
        if header is not None and tuple(header) != self._columns:
            raise ValueError(f"its columns are {', '.join(header)}; wanted {', '.join(self._columns)}")
        self._end = end = read
        image = None
        try:
            for row in rows:
                if len(row) != len(self._columns):
                    raise ValueError(f"a row has {len(row)} cells of {len(self._columns)}")
                if image is not None and row[0] != image:
                    self._end = end
                    yield image
                image, end = row[0], read
        except csv.Error:
            if not is_over:  # else the last line ended within a name
                raise


def _whole_lines(file: IO[bytes]) -> Iterator[bytes]:
    """The lines of a file but a last one that is not ended."""
    while (line := file.readline(_LONGEST_LINE)).endswith(b"\n"):
        yield line


def _json_line(row: Mapping[str, Any]) -> bytes:
    try:
        return f"{json.dumps(row, ensure_ascii=False)}\n".encode()
    except UnicodeEncodeError:  # a name that is no UTF-8
        return f"{json.dumps(row)}\n".encode()


def csv_line(cells: Iterable[Any]) -> str:
    """A line; lists become JSON."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(
        [json.dumps(cell) if isinstance(cell, (list, dict)) else cell for cell in cells]
    )
    return text.getvalue()
