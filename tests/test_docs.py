"""The documentation: it builds without a warning, asks nobody for anything, and says what the code says."""

import re
from pathlib import Path

import pytest
from helpers.browser import CHROMIUM, look
from helpers.loading import ROOT, script

SITE = ROOT / "docs" / "site"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site."""
    pytest.importorskip("material", reason="mkdocs-material is not installed")
    pytest.importorskip("mkdocstrings_handlers.python", reason="mkdocstrings[python] is not installed")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    build(load_config(str(SITE / "mkdocs.yml"), site_dir=str(folder)))  # strict: a warning ends it
    return folder


def generate():
    pytest.importorskip("griffe", reason="mkdocstrings[python] is not installed")
    return script("docs/site/generate.py")


@pytest.mark.parametrize("page", ["commands.md", "file-format.md", "operators.md"])
def test_what_pages_repeat_from_the_code_is_what_it_says(page):
    text = (ROOT / "docs" / page).read_text()
    assert "<!-- begin " in text
    assert generate().written(text) == text, "it is old: run python docs/site/generate.py"


def test_links_lead_to_the_repository_of_the_package():
    [repository] = re.findall(r'^Repository = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert f"repository: {repository} " in (SITE / "mkdocs.yml").read_text()


@pytest.mark.slow
def test_the_site_has_every_page_and_asks_nobody_for_anything(site):
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    built = {path.relative_to(site) for path in site.rglob("*.html")}
    assert built == pages | {Path("index.html"), Path("404.html")}
    for path in built:
        text = (site / path).read_text()
        assert not re.findall(r'<(?:script|img|iframe)[^>]* src="http|<link[^>]* href="http', text), path


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: tools/fetch_chromium build/chromium")
@pytest.mark.parametrize("page", ["commands.html", "operators.html", "runtimes.html"])
def test_a_page_fits_a_phone(site, page, tmp_path):
    text = (site / page).read_text().replace("<head>", f'<head><base href="{site.as_uri()}/">', 1)
    found = look(text, tmp_path, width=360).found
    assert found["scroll_width"] <= 360
