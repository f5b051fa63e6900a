"""What is measured, and how."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Subject:
    """One artifact at one batch."""

    name: str
    """As the user wrote it, or what stands for it in a table."""
    path: Path
    batch: int = 1
    image_size: tuple[int, int] | None = None
    """Height and width in pixels that were asked for; None stands for the artifact's own."""


@dataclass(frozen=True)
class Settings:
    """How subjects are opened and how long they run."""

    device: str = "auto"
    operators: str = "auto"
    threads: int | None = None
    allow_engine_code: bool = False
    variant: str = ""
    """Of checkpoints, as ``variant_by_name`` takes it; empty for the released one that fits."""
    rounds: int = 10
    """Turns that each subject gets."""
    seconds: float = 0.5
    """Of a turn; a call that was begun is finished, and each turn has at least one."""
    warm_up: int = 3
    """Calls before the first turn, which are not counted."""
    profile: bool = False
    """Whether ONNX files run once more, after all turns, to see what each type of node takes."""
