"""``vimdeploy run -o answers.csv``: rows as they come, gone on with after whatever ended it."""

import csv
import json
import signal
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
from PIL import Image

COUNT = 300


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tiny pictures in sub-folders."""
    folder = tmp_path_factory.mktemp("many") / "pictures"
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8, 3), dtype=np.uint8)
    for number, values in enumerate(pixels):
        place = folder / str(number % 3) / f"{number:03}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(place)
    return folder


@pytest.fixture
def cut(picture):
    path = picture.with_name("cut.png")
    path.write_bytes(picture.read_bytes()[:700])
    return path


def rows(path):
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_folder(invoke, tiny_onnx, folder, tmp_path, suffix):
    output = tmp_path / f"answers.{suffix}"
    result = invoke("run", tiny_onnx, folder, "-o", output, "--top", 1)
    assert (result.exit_code, result.stdout) == (0, "")
    assert [row["image"] for row in rows(output)] == sorted(str(path) for path in folder.glob("*/*.png"))
    assert result.stderr.splitlines()[-1] == f"{output}: 300 pictures"
    assert "300 pictures in " in result.stderr


def test_csv_has_a_line_for_each_class(invoke, tiny_onnx, picture, tmp_path):
    invoke("run", tiny_onnx, picture, "-o", tmp_path / "a.csv", "--top", 3)
    document = json.loads(invoke("run", tiny_onnx, picture, "--json", "--top", 3).stdout)
    assert rows(tmp_path / "a.csv") == [
        {"image": str(picture), "error": ""} | {key: str(value) for key, value in found.items()}
        for found in document["images"][0]["top"]
    ]


def test_json_lines_have_what_json_has(invoke, tiny_onnx, picture, tmp_path):
    invoke("run", tiny_onnx, picture, "-o", tmp_path / "a.jsonl")
    assert rows(tmp_path / "a.jsonl") == json.loads(invoke("run", tiny_onnx, picture, "--json").stdout)["images"]


@pytest.mark.parametrize("options", [("--workers", 3), ("--workers", 1), ("--batch", 1), ("--threads", 1)], ids=str)
def test_how_it_runs_changes_nothing(invoke, tiny_onnx, folder, tmp_path, options):
    for name, more in (("usual.csv", ()), ("other.csv", options)):
        assert invoke("run", tiny_onnx, folder, "-o", tmp_path / name, *more).exit_code == 0
    assert (tmp_path / "usual.csv").read_bytes() == (tmp_path / "other.csv").read_bytes()


class TestBadPictures:
    @pytest.mark.parametrize("suffix", ["csv", "jsonl"])
    def test_are_rows_and_1_at_the_end(self, invoke, tiny_onnx, picture, cut, tmp_path, suffix):
        output = tmp_path / f"answers.{suffix}"
        result = invoke("run", tiny_onnx, cut, picture, "none.png", "-o", output, "--top", 1)
        assert result.exit_code == 1
        first, second, third = rows(output)
        assert first["error"].startswith(f"The picture {cut} cannot be read: ")
        assert (second["image"], second.get("error", "")) == (str(picture), "")
        assert third["error"] == "The picture none.png cannot be read: No such file or directory."
        assert result.stderr.splitlines()[-1].startswith("Error: 2 of 3 pictures have no answer: The picture ")

    def test_are_not_tried_again(self, invoke, tiny_onnx, picture, cut, tmp_path):
        output = tmp_path / "answers.jsonl"
        assert invoke("run", tiny_onnx, cut, "-o", output).exit_code == 1
        result = invoke("run", tiny_onnx, cut, picture, "-o", output, "--resume")
        assert (result.exit_code, [row["image"] for row in rows(output)]) == (0, [str(cut), str(picture)])
        assert result.stderr.splitlines()[-1] == f"{output}: 1 picture, beside 1 that were there"


def test_a_file_beside_the_pictures(invoke, tiny_onnx, picture):
    output = picture.with_name("answers.csv")
    for more in ([], ["--resume"]):
        assert invoke("run", tiny_onnx, picture.parent, "-o", output, "--top", 1, *more).exit_code == 0
    assert [row["image"] for row in rows(output)] == [str(picture)]


SLOWLY = """
import time
from vimdeploy.runtimes.onnxruntime import OnnxRuntimeSession
run = OnnxRuntimeSession._run
OnnxRuntimeSession._run = lambda *arguments: time.sleep(0.05) or run(*arguments)
from vimdeploy.cli import main
main()
"""


@pytest.mark.slow  # tests/test_row_file.py has every place at which a file can be cut
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize(
    ("ending", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=str
)
def test_ended_in_the_middle_and_gone_on_with(invoke, tiny_onnx, folder, tmp_path, ending, code):
    """Each picture is there once; the paths come through a pipe."""
    names = [str(path) for path in sorted(folder.glob("*/*.png"))]
    output = tmp_path / "answers.csv"
    command = [sys.executable, "-c", SLOWLY, "run", tiny_onnx, "-", "-o", output, "--top", "2"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdin.write("\n".join(names).encode())
        process.stdin.close()
        while process.poll() is None and (not output.exists() or output.read_bytes().count(b"\n") < 60):
            time.sleep(0.01)
        process.send_signal(ending)
        said = process.stderr.read().decode()
        assert process.wait() == code
    begun = {row["image"] for row in rows(output)}
    assert 20 < len(begun) < COUNT
    assert "Traceback" not in said
    (tmp_path / "list.txt").write_text("\n".join(names))
    assert invoke("run", tiny_onnx, tmp_path / "list.txt", "-o", output, "--top", 2, "--resume").exit_code == 0
    assert Counter(row["image"] for row in rows(output)) == dict.fromkeys(names, 2)
    assert not any(row["error"] for row in rows(output))


class TestWrongInput:
    """One sentence, exit code 2, and no file."""

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            (["-o", "a.csv", "--save", "out"], "--save does not go with a.csv: run once for each."),
            (["-o", "a.jsonl", "--json"], "--json does not go with a.jsonl: run once for each."),
            (["--resume"], "--resume goes on with the .csv or .jsonl that -o names; name one."),
            (["-o", "a.json", "--resume"], "--resume goes on with the .csv or .jsonl that -o names; name one."),
            (["-o", "a.txt"], "Wanted a file to write that ends in .csv or .jsonl, found a.txt; COCO's results are"),
            (["-o", "none/a.csv"], "The folder "),
            (["-o", "a.csv", "--workers", "2", "--threads", "2"], "Several workers run on one thread of a CPU each"),
            (["-o", "a.csv", "nothing*.png"], "Nothing fits the pattern nothing*.png."),
            (["-o", "a.csv", "none.txt"], "The list none.txt cannot be read: No such file or directory."),
        ],
        ids=" ".join,
    )
    def test_of_options(self, invoke, tiny_onnx, picture, tmp_path, monkeypatch, arguments, error):
        monkeypatch.chdir(tmp_path)
        source = [] if any(argument.startswith(("nothing", "none.")) for argument in arguments) else [picture]
        result = invoke("run", tiny_onnx, *source, *arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.splitlines()[-1].startswith(f"Error: {error}")
        assert [path.name for path in tmp_path.iterdir()] == [picture.name]

    def test_a_model_that_does_not_say_its_task(self, invoke, foreign_onnx, picture, tmp_path):
        result = invoke("run", foreign_onnx, picture, "-o", tmp_path / "a.csv")
        assert (result.exit_code, (tmp_path / "a.csv").exists()) == (2, False)
        assert "does not say what its outputs mean" in result.stderr

    def test_a_file_that_is_there(self, invoke, tiny_onnx, picture, tmp_path):
        (tmp_path / "a.csv").write_text("mine")
        for more in ([], ["--resume"]):
            assert invoke("run", tiny_onnx, picture, "-o", tmp_path / "a.csv", *more).exit_code == 2
        assert (tmp_path / "a.csv").read_text() == "mine"

    def test_the_model_as_the_file(self, invoke, tiny_onnx, picture, tmp_path):
        model = tmp_path / "model.csv"
        model.write_bytes(tiny_onnx.read_bytes())
        result = invoke("run", model, picture, "-o", model, "--resume")
        assert (result.exit_code, "would be written over" in result.stderr) == (2, True)
        assert model.read_bytes() == tiny_onnx.read_bytes()
