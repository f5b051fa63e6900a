"""An environment of its own for each runtime, made once: a virtual environment, or a folder of node's packages."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vimdeploy.text import shortened

_LONGEST = 300
"""Characters of a reason."""


class TrialError(Exception):
    """A step that did not work, in one line."""


@dataclass(frozen=True)
class Runtime:
    """A runtime, and how to get it."""

    name: str
    """In the table."""
    adapter: str
    """The function of ``adapters.py``; ``node`` or ``browser`` for those of ``web.mjs``."""
    packages: tuple[str, ...]
    """For pip, or for npm."""
    alone: tuple[str, ...] = ()
    """Packages for pip that are installed without what they require."""
    forms: tuple[str, ...] = ("exported", "portable", "unrolled")
    """The forms of the file that are tried."""


def environment_of(runtime: Runtime, folder: Path, seconds: float) -> Path:
    """The folder of a runtime's environment, ready to use.

    Args:
        runtime: what it is for.
        folder: of all environments.
        seconds: that an installation may take.

    Raises:
        TrialError: if it cannot be installed.
    """
    wanted = "\n".join((*runtime.packages, *runtime.alone))
    place = folder / runtime.name.lower().replace(" ", "-").replace(",", "")
    ready = place / "installed.txt"
    if ready.is_file() and ready.read_text() == wanted:
        return place
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    if runtime.adapter in ("node", "browser"):
        if not shutil.which("npm"):
            raise TrialError("npm is not installed")
        run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", place, *runtime.packages], seconds)
    else:
        run([sys.executable, "-m", "venv", place], seconds)
        install: list[str | Path] = [python_of(place), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run([*install, "numpy", *runtime.packages], seconds)
        if runtime.alone:
            run([*install, "--no-deps", *runtime.alone], seconds)
    ready.write_text(wanted)
    return place


def python_of(place: Path) -> Path:
    """The interpreter of a virtual environment."""
    return place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def run(
    command: Sequence[str | Path], seconds: float, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> str:
    """Run a command; it and all that it started end with it.

    Returns:
        What it wrote on standard output.

    Raises:
        TrialError: if it fails, crashes or takes too long.
    """
    with subprocess.Popen(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as error:
            raise TrialError(f"not done after {seconds:.0f} s") from error
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode < 0:
        raise TrialError(f"crashed ({signal.Signals(-process.returncode).name})")
    if process.returncode:
        raise TrialError(told(errors or output))
    return output


def told(text: str) -> str:
    """The line of an error message that says most: the last of Python's, else the first that speaks of an error."""
    lines = [line.strip() for line in text.partition("Stack backtrace")[0].splitlines() if line.strip()]
    errors = [number for number, line in enumerate(lines) if "rror" in line.partition(":")[0]]
    chosen = lines[errors[-1] :] if errors and not lines[-1].startswith("File ") else lines[-1:]
    return shortened(" ".join(chosen), _LONGEST) or "it failed and said nothing"
