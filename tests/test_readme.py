"""READMEs and pages of ``docs/`` keep their word: their blocks run, in order, in a folder such as a reader has.

A ``python`` block runs in the namespace of the blocks before it. Of a ``console`` block the lines after ``$`` run,
of an ``sh`` block all lines: ``vimdeploy ...``, in this process, and ``python ...``. A block after
``<!-- not run: reason -->`` is left out, and a page after ``<!-- wants PACKAGE, PACKAGE -->`` if one is not installed.
"""

import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers.loading import ROOT
from helpers.released import training_state
from PIL import Image

from vimdeploy.models import VARIANTS
from vimdeploy.networks import network_of_variant

BLOCK = re.compile(r"(?ms)(?P<skip><!-- not run: .+? -->\n+)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$")
WANTED = re.compile(r"<!-- wants (.+) -->")
PAGES = ("README.md", "docs/**/*.md", "samples/*/README.md")
READMES = sorted({str(path.relative_to(ROOT)) for page in PAGES for path in ROOT.glob(page)} - {"docs/accuracy.md"})
"""All but what benchmarks/accuracy.py writes, whose blocks it has run."""


def blocks(text):
    """(line, kind, text) of each block that runs."""
    for match in BLOCK.finditer(text):
        if not match["skip"] and match["kind"] in ("python", "console", "sh"):
            yield text.count("\n", 0, match.start("text")) + 1, match["kind"], match["text"]


def commands(kind, text):
    """The argument lists of a console or an sh block; a line that ends with a backslash goes on in the next."""
    lines = text.replace("\\\n", " ").splitlines()
    if kind == "console":
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


PROGRAMS = ("vimdeploy", "python")


@pytest.mark.parametrize("readme", READMES)
def test_every_block_can_be_run_or_says_why_not(readme):
    for line, kind, text in blocks((ROOT / readme).read_text()):
        for program, *_ in commands(kind, text) if kind != "python" else ():
            assert program in PROGRAMS, f"{readme}:{line}: {program} cannot be run here; mark the block as not run"


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A training state of Vim-Ti, with random weights."""
    path = tmp_path_factory.mktemp("checkpoint") / "vim_tiny.pth"
    torch.save(training_state(network_of_variant(VARIANTS["vim_tiny_patch16_224"], 0).module), path)
    return path


@pytest.fixture
def reader(tmp_path, monkeypatch, checkpoint):
    """The folder of a reader, who stands in the repository and has a checkpoint and a picture."""
    for path in (ROOT / "samples", ROOT / "export", checkpoint):
        (tmp_path / path.name).symlink_to(path)
    pixels = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "cat.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def exported():
    """What pages have exported from the samples, so that no page does it again: file and contents by the command."""
    return {}


@pytest.fixture
def vimdeploy(reader, invoke, exported):
    """``vimdeploy(arguments)``: the command, in this process, in the reader's folder."""

    def run(arguments):
        command = shlex.join(arguments)
        if command not in exported:
            result = invoke(*arguments)
            assert result.exit_code == 0, f"vimdeploy {command}\n{result.output}"
        if command.startswith("export samples/"):
            path = reader / arguments[arguments.index("-o") + 1]
            if command in exported:
                path.write_bytes(exported[command])
            exported[command] = path.read_bytes()

    return run


def python(arguments):
    result = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    assert result.returncode == 0, f"python {shlex.join(arguments)}\n{result.stderr}"


@pytest.mark.slow
@pytest.mark.parametrize("readme", [name for name in READMES if any(blocks((ROOT / name).read_text()))])
def test_blocks_run(readme, vimdeploy):
    page = (ROOT / readme).read_text()
    for package in ", ".join(WANTED.findall(page)).split(", "):
        if package:
            pytest.importorskip(package, reason=f"{package} is not installed")
    programs, namespace = dict(zip(PROGRAMS, (vimdeploy, python), strict=True)), {}
    for line, kind, text in blocks(page):
        if kind == "python":
            exec(compile("\n" * (line - 1) + text, readme, "exec"), namespace)
            continue
        for program, *arguments in commands(kind, text):
            programs[program](arguments)


SAMPLE = """
```console
$ vimdeploy run a.onnx \\
    b.jpg   # a comment
printed
```

<!-- not run: takes hours -->
```console
$ vimdeploy export
```
```cpp
int x;
```
```python
x = 1
```
"""


def test_blocks_that_run_are_found_with_their_lines():
    assert [(line, kind) for line, kind, _ in blocks(SAMPLE)] == [(3, "console"), (16, "python")]


def test_commands_of_a_console_block():
    (_, _, text), _ = blocks(SAMPLE)
    assert commands("console", text) == [["vimdeploy", "run", "a.onnx", "b.jpg"]]


def test_commands_of_an_sh_block():
    assert commands("sh", "# a comment\nmake \\\n  demo  # and one more\n\n") == [["make", "demo"]]
