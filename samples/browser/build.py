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


def facts_of(model: Path) -> dict[str, Any]:
    """What the page has to know of a model.

    Raises:
        VimdeployError: if the file cannot be read, or the page cannot prepare pictures as its recipe has it.
    """
    info = vimdeploy.inspect(model)["model"]
    [(name, images)], [(logits, scores)] = info["inputs"].items(), info["outputs"].items()
    recipe, (_, channels, height, width) = info["recipe"], images["dims"]
    plain = {"crop": 1.0, "fit": "crop", "interpolation": "bicubic"}
    if info["task"] != "classification" or channels != 1 or height != width or plain != plain | subset(recipe, plain):
        raise vimdeploy.ConfigError(
            f"Wanted a classifier of square grey pictures that are resized bicubically and not cropped, as "
            f"samples/digits is; found {info['name']}, {info['task'] or 'no task'}, {images['dims']}, {recipe}."
        )
    return {
        "name": info["name"],
        "input": name,
        "output": logits,
        "side": height,
        "mean": recipe["mean"][0],
        "std": recipe["std"][0],
        "labels": [str(label) for label in info["labels"]] or [str(number) for number in range(scores["dims"][1])],
    }


def subset(values: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    """Some of the values."""
    return {name: values[name] for name in names}


def fetch_runtime(folder: Path) -> None:
    """Put onnxruntime-web's files into a folder; they come from npm's registry.

    Raises:
        ClickException: if npm is not here, or cannot bring them.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise click.ClickException("npm is wanted, which brings onnxruntime-web; install Node.js.")
    with tempfile.TemporaryDirectory() as work:
        done = subprocess.run([npm, "pack", RUNTIME, "--silent"], cwd=work, capture_output=True, text=True, check=False)
        if done.returncode:
            raise click.ClickException(f"npm could not bring {RUNTIME}: {done.stderr.strip() or done.stdout.strip()}")
        [package] = Path(work).glob("*.tgz")
        with tarfile.open(package) as members:
            for name in RUNTIME_FILES:
                member = members.extractfile(f"package/dist/{name}")
                assert member is not None
                with member, (folder / name).open("wb") as file:
                    shutil.copyfileobj(member, file)


@click.command()
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def main(model: Path, folder: Path) -> None:
    """Put the page, MODEL and onnxruntime-web into FOLDER."""
    try:
        facts = facts_of(model)
    except vimdeploy.VimdeployError as error:
        raise click.UsageError(str(error)) from error
    shutil.copytree(PAGE, folder, dirs_exist_ok=True)
    shutil.copyfile(model, folder / "model.onnx")
    (folder / "model.json").write_text(json.dumps(facts), encoding="utf-8")
    if not all((folder / name).is_file() for name in RUNTIME_FILES):
        fetch_runtime(folder)
    click.echo(f"{folder}: the page is ready; python -m http.server --directory {folder}")


if __name__ == "__main__":
    main()
