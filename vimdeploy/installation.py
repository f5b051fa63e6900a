"""What to type to install more of vimdeploy, or to build it again: pip's command, for the way it was installed here."""

from __future__ import annotations

import json
import os
import shlex
from importlib import metadata
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

_NAME = "vimdeploy"


class _Source(NamedTuple):
    """What pip takes: ``name[extra]suffix``."""

    name: str
    suffix: str = ""
    compiles: bool = True
    """Whether pip builds from it: a wheel is taken as it is."""


def install_command(extra: str) -> str:
    """The command that installs an extra: from a package index only if vimdeploy itself came from one.

    Args:
        extra: such as ``export``.
    """
    source = _source()
    return f"pip install {shlex.quote(f'{source.name}[{extra}]{source.suffix}')}"


def rebuild_command(*options: str) -> str:
    """The command that compiles the operators again with what is installed now, and changes no other package.

    Args:
        options: of pip, such as ``-C cmake.define.VIMDEPLOY_TENSORRT=ON``.
    """
    source = _source()
    if source.name == _NAME and not source.suffix:
        options = ("--no-binary", _NAME, *options)
    what = shlex.quote(source.name + source.suffix) if source.compiles else "."
    place = "" if source.compiles else " in a clone of vimdeploy"
    return " ".join(["pip install --force-reinstall --no-deps", *options, what]) + place


def _source() -> _Source:
    """Where pip got the installed vimdeploy from, as it noted (direct_url.json); the sources, if none is installed."""
    try:
        text = metadata.distribution(_NAME).read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return _Source(_shown(Path(__file__).parents[1]))
    try:
        found = json.loads(text or "{}")
        url = str(found["url"])
    except (ValueError, KeyError, TypeError):  # not noted: it came from an index
        return _Source(_NAME)
    compiles = not urlsplit(url).path.endswith(".whl")
    if url.startswith("file:") and "vcs_info" not in found:
        return _Source(_shown(Path(url2pathname(urlsplit(url).path))), compiles=compiles)
    if "vcs_info" in found:
        url = f"{found['vcs_info'].get('vcs', 'git')}+{url}@{found['vcs_info'].get('commit_id', '')}"
    return _Source(_NAME, f" @ {url}", compiles)


def _shown(path: Path) -> str:
    """A folder as one types it in a shell that is there, where pip takes only what looks like a path."""
    return "." if path.exists() and path.samefile(os.curdir) else str(path)
