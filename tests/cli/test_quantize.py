import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from vimdeploy.artifact import open_artifact
from vimdeploy.cli import main

ANYTHING = ("--budget", "100")
"""Answers of untrained weights hang by a hair."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two pictures a class."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for label in ("ant", "bee", "cat", "dog", "eel"):
        (folder / label).mkdir()
        for i in range(2):
            pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{i}.png")
    return folder


@pytest.fixture
def output(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder / "tiny.int8.onnx"


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_onnx, folder):
    """An int8 file, and the command's result."""
    path = tmp_path_factory.mktemp("made") / "tiny.int8.onnx"
    arguments = ["quantize", tiny_onnx, "-o", path, "--images", folder, *ANYTHING]
    return path, CliRunner().invoke(main, [str(argument) for argument in arguments])


class TestAFile:
    def test_says_what_it_is(self, made):
        info = open_artifact(made[0]).info
        assert (info.name, info.precision) == ("tiny", "int8")
        assert list(info.kept_in_float32) == ["layers.0.mixer.MatMul", "layers.1.mixer.MatMul", "head.Gemm"]

    def test_is_alone_in_its_folder(self, made):
        assert list(made[0].parent.iterdir()) == [made[0]]

    def test_is_described_on_standard_output(self, made, tiny_onnx):
        path, result = made
        assert result.exit_code == 0
        header, *rows, file, answers = result.stdout.splitlines()
        assert header.startswith("layer, alone in int8")
        assert {row.split()[0] for row in rows} == {
            f"layers.{i}.mixer.{name}.MatMul" for i in range(2) for name in ("in_proj", "out_proj")
        }
        assert file.startswith(f"{path}: tiny, 32x32, int8, ")
        assert file.endswith("; 4 of 4 Linear layers in int8")
        assert answers.startswith("On 10 pictures: same top-1 ")
        assert "points of accuracy lost" in answers

    def test_progress_is_on_standard_error(self, made):
        line, following = made[1].stderr.splitlines()
        assert line.startswith("Quantizing: ")
        assert following.startswith(f"Next: vimdeploy verify {made[0]} --against ")

    @pytest.mark.parametrize("arguments", [("inspect",), ("verify", "--count", "2")], ids=lambda a: a[0])
    def test_is_taken_by(self, made, invoke, arguments):
        name, *options = arguments
        result = invoke(name, made[0], *options, "--json")
        assert result.exit_code == 0
        json.loads(result.stdout)

    def test_is_run(self, made, invoke, picture):
        [image] = json.loads(invoke("run", made[0], picture, "--json").stdout)["images"]
        assert len(image["top"]) == 5

    def test_is_measured(self, made, invoke):
        result = invoke("bench", made[0], "--seconds", "0.01", "--threads", "1", "--json")
        assert result.exit_code == 0, result.stderr
        assert '"int8"' in result.stdout


def test_json(tiny_onnx, folder, output, invoke):
    result = invoke("quantize", tiny_onnx, "-o", output, "--images", folder, *ANYTHING, "--json")
    document = json.loads(result.stdout)
    assert document["bytes"] == output.stat().st_size
    assert document["images"] == 10
    errors = [layer["output_error"] for layer in document["layers"]]
    assert errors == sorted(errors)
    assert min(errors) > 0


class TestKeep:
    def test_stays_in_float32(self, tiny_onnx, folder, output, invoke):
        options = ("--images", folder, *ANYTHING, "--keep", "*.out_proj.*", "--keep", "layers.1.mixer.in_proj.MatMul")
        result = invoke("quantize", tiny_onnx, "-o", output, *options)
        assert "; 1 of 1 Linear layers in int8" in result.stdout
        made = open_artifact(output)
        asked = [name for name, reason in made.info.kept_in_float32.items() if reason == "asked for"]
        assert asked == [f"layers.{n}.MatMul" for n in ("0.mixer.out_proj", "1.mixer.in_proj", "1.mixer.out_proj")]
        assert sum(node.op_type == "QuantizeLinear" for node in made.model.graph.node) == 1

    @pytest.mark.parametrize(
        ("pattern", "message"),
        [
            ("head", "Wanted the name of a Linear layer to keep, such as layers.0.mixer.in_proj.MatMul; found 'head'."),
            ("*", "No Linear layer is left to bring to int8; keep fewer in float32."),
        ],
    )
    def test_what_cannot_be(self, tiny_onnx, folder, output, invoke, pattern, message):
        result = invoke("quantize", tiny_onnx, "-o", output, "--images", folder, "--keep", pattern)
        assert result.exit_code == 2
        assert message in result.stderr
        assert not output.exists()


class TestRefuses:
    def refused(self, invoke, output, *arguments):
        result = invoke("quantize", *arguments, "-o", output)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert not output.exists()
        [line] = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
        return line

    def test_a_file_that_is_quantized_already(self, invoke, output, made, folder):
        assert "found int8" in self.refused(invoke, output, made[0], "--images", folder)

    def test_a_float16_file(self, invoke, output, tmp_path, tiny_json, folder):
        half = tmp_path / "half.onnx"
        assert invoke("export", tiny_json, "--random-weights", 0, "--precision", "fp16", "-o", half).exit_code == 0
        assert "found fp16" in self.refused(invoke, output, half, "--images", folder)

    def test_a_foreign_file(self, invoke, output, foreign_onnx, folder):
        assert "vimdeploy did not make it" in self.refused(invoke, output, foreign_onnx, "--images", folder)

    def test_a_folder_without_pictures(self, invoke, output, tiny_onnx, tmp_path):
        assert "holds no pictures" in self.refused(invoke, output, tiny_onnx, "--images", tmp_path)

    def test_its_own_file_as_output(self, invoke, tiny_onnx, folder):
        before = tiny_onnx.read_bytes()
        result = invoke("quantize", tiny_onnx, "-o", tiny_onnx, "--images", folder)
        assert (result.exit_code, tiny_onnx.read_bytes()) == (2, before)
        assert "would be written over" in result.stderr

    def test_an_engine(self, invoke, output, engine_file, folder):
        assert "is an engine; wanted the ONNX file" in self.refused(invoke, output, engine_file(), "--images", folder)
