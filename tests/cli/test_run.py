import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import vimdeploy
from vimdeploy.cli.run import _names
from vimdeploy.errors import ConfigError


class TestTable:
    def test_top_answers_of_each_picture(self, invoke, tiny_onnx, picture):
        result = invoke("run", tiny_onnx, picture, picture, "--top", 2)
        header, *rows = result.stdout.splitlines()
        assert (result.exit_code, header.split()) == (0, ["image", "probability", "class"])
        assert [row.startswith(str(picture)) for row in rows] == [True, False, True, False]

    def test_classes_have_their_labels(self, invoke, tiny_onnx, picture):
        _, *rows = invoke("run", tiny_onnx, picture).stdout.splitlines()
        assert {row.split()[-1] for row in rows} == {"ant", "bee", "cat", "dog", "eel"}

    def test_what_computes_is_told_on_standard_error(self, invoke, tiny_onnx, picture):
        result = invoke("run", tiny_onnx, picture, "--operators", "function body")
        assert "ONNX Runtime (function body, cpu)" in result.stderr.splitlines()


class TestJson:
    def test_is_one_document(self, invoke, tiny_onnx, picture, operators):
        document = json.loads(invoke("run", tiny_onnx, picture, "--json", "--operators", operators).stdout)
        assert document["session"] == f"ONNX Runtime ({operators.replace('-', ' ')}, cpu)"
        assert [image["image"] for image in document["images"]] == [str(picture)]

    def test_answers_are_sorted(self, invoke, tiny_onnx, picture):
        (image,) = json.loads(invoke("run", tiny_onnx, picture, "--json", "--top", 3).stdout)["images"]
        assert [sorted(answer) for answer in image["top"]] == [["index", "label", "probability"]] * 3
        probabilities = [answer["probability"] for answer in image["top"]]
        assert probabilities == sorted(probabilities, reverse=True)


def test_threads_change_nothing(invoke, tiny_onnx, picture):
    one, two = (invoke("run", tiny_onnx, picture, "--threads", n).stdout for n in (1, 2))
    assert one == two != ""


class TestEngine:
    @pytest.fixture
    def without_gpu(self, monkeypatch):
        def none():
            raise ConfigError("no NVIDIA driver (libcuda.so.1)")

        monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__="10.3.0"))
        monkeypatch.setattr("vimdeploy.runtimes.tensorrt.gpus", none)

    @pytest.mark.parametrize("command", ["run", "verify"])
    def test_needs_a_gpu(self, invoke, engine_file, picture, without_gpu, command):
        result = invoke(command, engine_file(), *([picture] if command == "run" else []))
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith("Error: An engine needs an NVIDIA GPU; found no NVIDIA driver (libcuda.so.1).")

    @pytest.mark.parametrize("command", ["run", "verify"])
    def test_runs_its_code_where_it_is_allowed(self, invoke, engine_file, picture, without_gpu, command):
        arguments = [command, engine_file(plugin_in_engine=True), *([picture] if command == "run" else [])]
        assert "if you trust who built it, allow it with --allow-engine-code" in invoke(*arguments).stderr
        assert "needs an NVIDIA GPU" in invoke(*arguments, "--allow-engine-code").stderr

    def test_takes_no_threads(self, invoke, engine_file, picture):
        result = invoke("run", engine_file(), picture, "--threads", 2)
        assert (result.exit_code, result.stderr) == (2, "Error: An engine runs on a GPU: it takes no threads.\n")


class TestWrongInput:
    """One sentence, exit code 2, nothing on standard output."""

    def refused(self, invoke, *arguments):
        result = invoke("run", *arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.splitlines()[-1].startswith("Error: ")
        return result.stderr

    @pytest.mark.parametrize("as_json", [(), ("--json",)])
    def test_a_missing_model(self, invoke, picture, as_json):
        error = self.refused(invoke, "none.onnx", picture, *as_json)
        assert error == "Error: The model file none.onnx cannot be read: No such file or directory.\n"

    def test_a_truncated_model(self, invoke, tmp_path, tiny_onnx, picture):
        (tmp_path / "cut.onnx").write_bytes(tiny_onnx.read_bytes()[:-200])
        assert "cut.onnx" in self.refused(invoke, tmp_path / "cut.onnx", picture)

    def test_a_model_that_does_not_say_its_task(self, invoke, foreign_onnx, picture):
        assert "does not say what its outputs mean" in self.refused(invoke, foreign_onnx, picture)

    def test_a_picture_that_is_none(self, invoke, tiny_onnx, tmp_path):
        (tmp_path / "text.jpg").write_text("hello")
        assert "text.jpg is not a picture" in self.refused(invoke, tiny_onnx, tmp_path / "text.jpg")

    def test_a_missing_picture(self, invoke, tiny_onnx):
        assert "The picture none.png cannot be read" in self.refused(invoke, tiny_onnx, "none.png")

    def test_no_picture(self, invoke, tiny_onnx):
        assert "Missing argument 'IMAGES...'" in self.refused(invoke, tiny_onnx)

    @pytest.mark.parametrize("option", [("--top", 0), ("--threads", 0), ("--device", "tpu"), ("--operators", "magic")])
    def test_an_option_that_is_none(self, invoke, tiny_onnx, picture, option):
        assert option[0] in self.refused(invoke, tiny_onnx, picture, *option)

    def test_an_installation_without_the_library(self, invoke, tiny_onnx, picture, monkeypatch):
        monkeypatch.setattr("vimdeploy.libraries.library_path", lambda: None)
        error = self.refused(invoke, tiny_onnx, picture, "--operators", "library")
        assert "The compiled operators are not in this installation" in error


@pytest.mark.parametrize("mode", ["CMYK", "I;16"])
def test_unusual_pictures_are_classified(invoke, tiny_onnx, tmp_path, mode):
    from PIL import Image

    path = tmp_path / ("picture.jpg" if mode == "CMYK" else "picture.png")
    Image.new(mode, (40, 40)).save(path)
    assert invoke("run", tiny_onnx, path).exit_code == 0


@pytest.fixture(scope="module")
def features(tiny_json, tmp_path_factory):
    path = tmp_path_factory.mktemp("features") / "features.onnx"
    vimdeploy.export(str(tiny_json), path, random_weights=0, task="features", image_size="dynamic")
    return path


@pytest.mark.slow
class TestFeatures:
    def test_each_picture_has_its_own_size(self, invoke, features, picture):
        shown = invoke("run", features, picture).stdout
        assert re.search(r"map +16x5x8 ", shown)  # 60 x 40 pixels, rounded to 64 x 40

    def test_one_size_for_all(self, invoke, features, picture):
        assert re.search(r"map +16x3x4 ", invoke("run", features, picture, "--image-size", "24x32").stdout)

    def test_are_saved(self, invoke, features, picture, tmp_path):
        assert invoke("run", features, picture, picture, "--save", tmp_path / "out").exit_code == 0
        names = sorted(path.name for path in (tmp_path / "out").iterdir())
        assert names == ["picture.npz", "picture.png", "picture_2.npz", "picture_2.png"]
        saved = np.load(tmp_path / "out/picture.npz")
        assert (saved["map"].shape, saved["pooled"].shape) == ((16, 5, 8), (16,))

    def test_as_json(self, invoke, features, picture):
        [image] = json.loads(invoke("run", features, picture, "--json").stdout)["images"]
        assert (len(image["pooled"]), image["shapes"]) == (16, {"map": [16, 5, 8], "pooled": [16]})

    def test_a_number_is_added_until_the_name_is_new(self):
        images = [Path(name) for name in ("a.png", "b/a.jpg", "a_2.png", "c/a.png")]
        assert _names(images) == ["a", "a_2", "a_2_2", "a_3"]

    def test_a_place_that_is_a_file(self, invoke, features, picture):
        result = invoke("run", features, picture, "--save", features)
        assert (result.exit_code, result.stdout) == (2, "")
        assert f"Wanted a folder to save to, found the file {features}." in result.stderr

    def test_a_table_is_not_saved(self, invoke, tiny_onnx, picture, tmp_path):
        result = invoke("run", tiny_onnx, picture, "--save", tmp_path / "out")
        assert (result.exit_code, "There is nothing to save" in result.stderr) == (2, True)
        assert not (tmp_path / "out").exists()
