"""Makes README the first page, and leads links out of ``docs/`` to the repository.

Pages are written to be read in the repository too, so their links are paths there. A picture outside ``docs/`` comes
into the site; any other file is linked as the repository shows it. What is not there stays as it is, and mkdocs
refuses it.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
PICTURES = (".svg", ".png", ".jpg")
_LINK = re.compile(r"(?<=\]\()[^)\s#:]+")
"""The path in a Markdown link, without its fragment; addresses have a colon."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the first page, and the pictures that pages show from elsewhere in the repository."""
    files.append(File.generated(config, "index.md", content=(ROOT / "README.md").read_text(encoding="utf-8")))
    shown = {
        target
        for page in files.documentation_pages()
        for target in (_target(page, link) for link in _LINK.findall(page.content_string))
        if target is not None and target.suffix in PICTURES and not target.is_relative_to(ROOT / "docs")
    }
    for picture in shown:
        uri = picture.relative_to(ROOT).as_posix()
        files.append(File.generated(config, uri, abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The text of a page with its links as the site has them."""

    def led(link: re.Match[str]) -> str:
        target = _target(page.file, link[0])
        if target is None:
            return link[0]
        uri = target.relative_to(ROOT).as_posix()
        own = uri.removeprefix("docs/")
        if files.get_file_from_path(own) is not None:
            return posixpath.relpath(own, posixpath.dirname(page.file.src_uri))
        return f"{config.extra['repository']}/{'tree' if target.is_dir() else 'blob'}/HEAD/{uri}"

    return _LINK.sub(led, markdown)


def _target(page: File, link: str) -> Path | None:
    """The file of the repository that a page links; None if there is none."""
    folder = ROOT if page.src_uri == "index.md" else (ROOT / "docs" / page.src_uri).parent
    target = Path(os.path.normpath(folder / link))
    return target if target.exists() and target.is_relative_to(ROOT) else None
