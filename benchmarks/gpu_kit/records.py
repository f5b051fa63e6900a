"""What the steps found: one record a check or a measurement; a JSON file and Markdown tables of all."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

STATUSES = ("passed", "measured", "skipped", "failed")


@dataclass(frozen=True)
class Record:
    """One line of a table."""

    step: str
    subject: str
    status: str
    """One of STATUSES."""
    values: dict[str, float | str] = field(default_factory=dict)
    reason: str = ""
    """Why it was skipped, how it failed, or where a bound comes from."""


class Log:
    """The records of one step, written line by line, so that what was found before a crash is kept."""

    def __init__(self, path: Path, step: str) -> None:
        self._path, self._step = path, step

    def passed(self, subject: str, **values: float | str) -> None:
        """A check that passed."""
        self._add(Record(self._step, subject, "passed", values))

    def failed(self, subject: str, reason: str, **values: float | str) -> None:
        """A check that failed; the kit goes on, and ends with 1."""
        self._add(Record(self._step, subject, "failed", values, reason))

    def skipped(self, subject: str, reason: str) -> None:
        """What this machine does not have."""
        self._add(Record(self._step, subject, "skipped", {}, reason))

    def measured(self, subject: str, **values: float | str) -> None:
        """A time or a rate."""
        self._add(Record(self._step, subject, "measured", values))

    def within(self, subject: str, name: str, found: float, bound: float, **values: float | str) -> None:
        """Passed if the value found is at most the bound; NaN is not."""
        values = {name: found, "bound": bound, **values}
        if found <= bound:
            self.passed(subject, **values)
        else:
            self.failed(subject, f"{name} {found:.3g} is above {bound:.3g}", **values)

    def _add(self, record: Record) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(record)) + "\n")
        print(f"{record.status}: {record.subject} {_cells(record)}", flush=True)


def read_log(path: Path) -> list[Record]:
    """The records of a step; a last line cut short by a crash is left out."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(Record(**json.loads(line)))
        except ValueError:
            break
    return records


def write_results(path: Path, machine: dict[str, str], records: Sequence[Record]) -> None:
    """The JSON file, whole or not at all; NaN and infinity become text, because JSON has no such numbers."""
    document = {"machine": machine, "records": [_jsonable(asdict(record)) for record in records]}
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as file:
        json.dump(document, file, indent=1, allow_nan=False)
        file.write("\n")
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)


def read_results(path: Path) -> tuple[dict[str, str], list[Record]]:
    """The machine and the records of a JSON file; nothing of both if there is none."""
    if not path.exists():
        return {}, []
    document = json.loads(path.read_text(encoding="utf-8"))
    return document["machine"], [Record(**record) for record in document["records"]]


def markdown(machine: dict[str, str], records: Sequence[Record]) -> str:
    """All as tables, step by step, and the counts at the end."""
    lines = ["| machine | |", "|---|---|", *(f"| {name} | {value} |" for name, value in machine.items())]
    for step in dict.fromkeys(record.step for record in records):
        lines += ["", f"### {step}"]
        for table in _tables([record for record in records if record.step == step]):
            lines += ["", *table]
    counts = {status: sum(record.status == status for record in records) for status in STATUSES}
    return "\n".join([*lines, "", ", ".join(f"{count} {status}" for status, count in counts.items())])


def _tables(records: Sequence[Record]) -> Iterable[list[str]]:
    """One for all records that have the same values."""
    alike: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        alike.setdefault(tuple(record.values), []).append(record)
    for columns, rows in alike.items():
        head = [_row(["what", "result", *columns, "note"]), "|" + "---|" * (len(columns) + 3)]
        yield head + [
            _row([row.subject, row.status, *(_number(value) for value in row.values.values()), row.reason])
            for row in rows
        ]


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def _cells(record: Record) -> str:
    return ", ".join([*(f"{name} {_number(value)}" for name, value in record.values.items()), record.reason]).strip(
        ", "
    )


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _jsonable(item) for name, item in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
