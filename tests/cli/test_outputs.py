"""No command writes over what it reads: one sentence, exit code 2, and the file is as it was."""

import shutil

import pytest
from PIL import Image


@pytest.fixture
def folder(tmp_path, tiny_onnx, tiny_json, tiny_pth):
    """Copies of all kinds of inputs, which a fault may destroy."""
    folder = tmp_path / "inputs"
    (folder / "pictures").mkdir(parents=True)
    for source, name in ((tiny_onnx, "model.onnx"), (tiny_json, "tiny.json"), (tiny_pth, "tiny.pth")):
        shutil.copy(source, folder / name)
    (folder / "labels.txt").write_text("ant\nbee\ncat\ndog\neel\n")
    (folder / "classes.html").write_text("file,class\ncat.png,cat\n")
    Image.new("RGB", (40, 40)).save(folder / "pictures" / "cat.png")
    Image.new("RGB", (40, 40)).save(folder / "model.png")
    return folder


@pytest.mark.parametrize(
    ("command", "target"),
    [
        ("export tiny.json -c tiny.pth -o tiny.pth", "tiny.pth"),
        ("export tiny.json --random-weights 0 -o tiny.json", "tiny.json"),
        ("export tiny.json --random-weights 0 --labels labels.txt -o labels.txt", "labels.txt"),
        ("convert model.onnx --precision fp16 -o model.onnx", "model.onnx"),
        ("convert model.onnx --precision fp16 -o pictures/../model.onnx", "model.onnx"),
        ("quantize model.onnx --images pictures -o model.onnx", "model.onnx"),
        ("build model.onnx --flavor rtx -o model.onnx", "model.onnx"),
        ("build model.onnx --flavor rtx -o model.engine --layer-report model.onnx", "model.onnx"),
        ("run model.onnx pictures/cat.png --save pictures", "pictures/cat.png"),
        ("verify model.onnx --images pictures --classes classes.html --report classes.html", "classes.html"),
        ("bench model.onnx model.png --figure model.png", "model.png"),
    ],
)
def test_an_input_is_no_output(invoke, folder, monkeypatch, command, target):
    monkeypatch.chdir(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    result = invoke(*command.split())
    assert (result.exit_code, result.stdout) == (2, "")
    [error] = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert f" would be written over {target}; give every file a name of its own." in error
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
