"""Put the page together: python samples/browser/build.py digits.onnx build/browser

The folder then holds all that the page needs; any web server that gives out files will do:
python -m http.server --directory build/browser
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import click

import vimdeploy

PAGE = Path(__file__).with_name("page")
RUNTIME = "onnxruntime-web@1.30.0"
RUNTIME_FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
RECIPE = {"fit": "crop", "crop": 1.0, "interpolation": "bicubic"}
"""What page/reader.js does; the model normalises."""


def facts_of(model: Path) -> dict[str, Any]:
    """What the page has to know of a model.

    Raises:
        VimdeployError: if the file cannot be read, or the page cannot prepare pictures as its recipe has it.
    """
    info = vimdeploy.inspect(model)["model"]
    recipe, inputs = info["recipe"], info["inputs"]
    sizes = [size for spec in inputs.values() if spec["type"] == "uint8" for size in spec["dims"][1:]]
    fits = len(sizes) == 3 and sizes[0] == sizes[1] and isinstance(sizes[0], int) and sizes[2] == 1
    if info["task"] != "classification" or not fits or any(recipe[key] != RECIPE[key] for key in RECIPE):
        raise vimdeploy.ConfigError(
            "Wanted a classifier of square grey pictures that are resized bicubically and not cropped, as the one of "
            f"samples/digits, exported with --uint8-input; found {info['name']}, task {info['task'] or 'none'}, inputs "
            f"{inputs}, recipe {recipe}."
        )
    [[output, scores]] = info["outputs"].items()
    return {
        "input": next(iter(inputs)),
        "output": output,
        "side": sizes[0],
        "labels": [str(label) for label in info["labels"] or range(scores["dims"][1])],
    }


def fetch_runtime(folder: Path) -> None:
    """Put onnxruntime-web's files into an empty folder; they come from npm's registry.

    Raises:
        ClickException: if npm is not here, or cannot bring them.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise click.ClickException("npm is wanted, which brings onnxruntime-web; install Node.js.")
    done = subprocess.run([npm, "pack", RUNTIME, "--silent"], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"npm could not bring {RUNTIME}: {done.stderr.strip() or done.stdout.strip()}")
    [package] = folder.glob("*.tgz")
    with tarfile.open(package) as members:
        for name in RUNTIME_FILES:
            member = members.extractfile(f"package/dist/{name}")
            assert member is not None
            with member, (folder / name).open("wb") as file:
                shutil.copyfileobj(member, file)
    package.unlink()


@click.command()
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def main(model: Path, folder: Path) -> None:
    """Put the page, MODEL and onnxruntime-web into FOLDER."""
    try:
        facts = facts_of(model)
        with tempfile.TemporaryDirectory() as work:
            if not all((folder / name).is_file() for name in RUNTIME_FILES):
                fetch_runtime(Path(work))
            shutil.copytree(work, folder, dirs_exist_ok=True)
        shutil.copytree(PAGE, folder, dirs_exist_ok=True)
        shutil.copyfile(model, folder / "model.onnx")
        (folder / "model.json").write_text(json.dumps(facts), encoding="utf-8")
    except vimdeploy.VimdeployError as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{folder} cannot be written: {error}") from error
    click.echo(f"{folder}: the page is ready; python -m http.server --directory {folder}")


if __name__ == "__main__":
    main()
