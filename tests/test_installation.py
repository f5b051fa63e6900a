"""Cures say what to type for the way in which vimdeploy was installed, and pip would understand it."""

import json
import re
import shlex
from importlib import metadata
from pathlib import Path

import pytest
from helpers.loading import ROOT

from vimdeploy import installation
from vimdeploy.installation import install_command, rebuild_command

GIT = {"url": "https://host.example/vimdeploy.git", "vcs_info": {"vcs": "git", "commit_id": "0123abc"}}


@pytest.fixture
def installed(monkeypatch):
    """As if pip had noted this where it installed vimdeploy; None: nothing, as it does for an index."""

    class Noted:
        def __init__(self, text):
            self.text = text

        def read_text(self, name):
            assert name == "direct_url.json"
            return self.text

    def install(note):
        text = note if note is None or isinstance(note, str) else json.dumps(note)
        monkeypatch.setattr(installation.metadata, "distribution", lambda name: Noted(text))

    return install


@pytest.mark.parametrize(
    ("note", "install", "rebuild"),
    [
        (None, "'vimdeploy[hub]'", "--no-binary vimdeploy -C x=1 vimdeploy"),
        ("no JSON", "'vimdeploy[hub]'", "--no-binary vimdeploy -C x=1 vimdeploy"),
        ("[]", "'vimdeploy[hub]'", "--no-binary vimdeploy -C x=1 vimdeploy"),
        ({"url": "file:///src/my%20clone", "dir_info": {}}, "'/src/my clone[hub]'", "-C x=1 '/src/my clone'"),
        (
            {"url": "file:///tmp/vimdeploy-0.1.0.tar.gz", "archive_info": {}},
            "'/tmp/vimdeploy-0.1.0.tar.gz[hub]'",
            "-C x=1 /tmp/vimdeploy-0.1.0.tar.gz",
        ),
        (
            {"url": "file:///tmp/vimdeploy-0.1.0-py3-none-any.whl", "archive_info": {}},
            "'/tmp/vimdeploy-0.1.0-py3-none-any.whl[hub]'",
            "-C x=1 . in a clone of vimdeploy",
        ),
        (
            {"url": "https://host.example/v.whl", "archive_info": {}},
            "'vimdeploy[hub] @ https://host.example/v.whl'",
            "-C x=1 . in a clone of vimdeploy",
        ),
        (
            GIT,
            "'vimdeploy[hub] @ git+https://host.example/vimdeploy.git@0123abc'",
            "-C x=1 'vimdeploy @ git+https://host.example/vimdeploy.git@0123abc'",
        ),
    ],
    ids=["index", "no-json", "no-object", "clone", "sdist", "wheel", "wheel-url", "git"],
)
def test_commands(installed, note, install, rebuild):
    installed(note)
    assert install_command("hub") == f"pip install {install}"
    assert rebuild_command("-C x=1") == f"pip install --force-reinstall --no-deps {rebuild}"


def test_in_the_clone_itself_a_dot_will_do(installed, monkeypatch):
    installed({"url": ROOT.as_uri(), "dir_info": {}})
    monkeypatch.chdir(ROOT)
    assert install_command("export") == "pip install '.[export]'"
    assert rebuild_command().endswith("--no-deps .")


def test_sources_that_nobody_installed(monkeypatch, tmp_path):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(installation.metadata, "distribution", missing)
    monkeypatch.chdir(tmp_path)
    *command, target = shlex.split(install_command("export"))
    assert command == ["pip", "install"]
    assert Path(target.removesuffix("[export]")) == Path(installation.__file__).parents[1]


def test_nobody_is_told_to_ask_an_index_that_does_not_know_the_name():
    told = [
        f"{path.relative_to(ROOT)}:{number}"
        for folder in ("vimdeploy", "docs", "samples", "benchmarks", "README.md", ".github")
        for path in ([ROOT / folder] if (ROOT / folder).is_file() else (ROOT / folder).rglob("*"))
        if path.suffix in (".py", ".md", ".html", ".json")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(r"pip install (-\S+ )*'?vimdeploy\b", line)
    ]
    assert told == []
