import json
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from helpers.dense import MINE
from PIL import Image

import vimdeploy
from vimdeploy.cli.run import _names
from vimdeploy.errors import ConfigError, ExecutionError
from vimdeploy.exporters.onnx_graph import onnx_from_model
from vimdeploy.networks import network_of_variant
from vimdeploy.runtimes.onnxruntime import OnnxRuntimeSession


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


class TestFolder:
    def test_all_its_pictures_are_run(self, invoke, tiny_onnx, picture):
        (picture.parent / "notes.txt").write_text("of no interest")
        Image.new("RGB", (30, 30)).save(picture.with_name("another.jpg"))
        result = invoke("run", tiny_onnx, picture.parent, "--top", 1)
        _, *rows = result.stdout.splitlines()
        found = [row.split()[0] for row in rows]
        assert (result.exit_code, found) == (0, [str(picture.with_name("another.jpg")), str(picture)])

    def test_its_sub_folders_are_looked_into_if_it_holds_none(self, invoke, tiny_onnx, picture, tmp_path):
        for name in ("cat", "dog"):
            (tmp_path / "all" / name).mkdir(parents=True)
            Image.new("RGB", (30, 30)).save(tmp_path / "all" / name / "1.png")
        result = invoke("run", tiny_onnx, tmp_path / "all", picture, "--json")
        names = [image["image"] for image in json.loads(result.stdout)["images"]]
        assert names == [str(tmp_path / "all/cat/1.png"), str(tmp_path / "all/dog/1.png"), str(picture)]

    def test_without_pictures(self, invoke, tiny_onnx, tmp_path):
        (tmp_path / "none").mkdir()
        result = invoke("run", tiny_onnx, tmp_path / "none")
        assert (result.exit_code, result.stdout) == (2, "")
        assert f"The folder {tmp_path / 'none'} holds no pictures (.png," in result.stderr


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_pictures_that_run_together_change_nothing(invoke, tiny_onnx, picture, batch):
    pictures = [picture, picture, picture]
    assert invoke("run", tiny_onnx, *pictures, "--batch", batch).stdout == invoke("run", tiny_onnx, *pictures).stdout


def test_threads_change_nothing(invoke, tiny_onnx, picture):
    one, two = (invoke("run", tiny_onnx, picture, "--threads", n).stdout for n in (1, 2))
    assert one == two != ""


class TestEngine:
    @pytest.fixture
    def without_gpu(self, monkeypatch):
        def none():
            raise ConfigError("no NVIDIA driver (libcuda.so.1)")

        monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__="10.3.0"))
        monkeypatch.setattr("vimdeploy.gpu.gpus", none)

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

    def test_no_picture(self, invoke, tiny_onnx):
        assert "Missing argument 'IMAGES...'" in self.refused(invoke, tiny_onnx)

    @pytest.mark.parametrize("option", [("--top", 0), ("--threads", 0), ("--device", "tpu"), ("--operators", "magic")])
    def test_an_option_that_is_none(self, invoke, tiny_onnx, picture, option):
        assert option[0] in self.refused(invoke, tiny_onnx, picture, *option)

    def test_an_installation_without_the_library(self, invoke, tiny_onnx, picture, monkeypatch):
        monkeypatch.setattr("vimdeploy.libraries.library_path", lambda: None)
        error = self.refused(invoke, tiny_onnx, picture, "--operators", "library")
        assert "The compiled operators are not in this installation" in error


class TestBadPictures:
    """A picture without an answer is named, and does not cost the others theirs."""

    @pytest.fixture
    def cut(self, picture):
        path = picture.with_name("cut.png")
        path.write_bytes(picture.read_bytes()[:700])
        return path

    def test_the_others_have_their_answers(self, invoke, tiny_onnx, picture, cut):
        result = invoke("run", tiny_onnx, cut, picture, "none.png", picture, "--top", 1)
        _, *rows = result.stdout.splitlines()
        assert (result.exit_code, [row.split()[0] for row in rows]) == (2, [str(picture)] * 2)
        error = result.stderr.splitlines()[-1]
        assert error.startswith(f"Error: 2 of 4 pictures have no answer: The picture {cut} cannot be read: ")
        assert error.endswith(" The picture none.png cannot be read: No such file or directory.")

    def test_one_of_two_is_told(self, invoke, tiny_onnx, picture):
        result = invoke("run", tiny_onnx, picture, "none.png")
        assert (result.exit_code, str(picture) in result.stdout) == (2, True)
        assert result.stderr.splitlines()[-1] == (
            "Error: 1 of 2 pictures has no answer: The picture none.png cannot be read: No such file or directory."
        )

    def test_as_json(self, invoke, tiny_onnx, picture):
        result = invoke("run", tiny_onnx, "none.png", picture, "--json")
        bad, good = json.loads(result.stdout)["images"]
        assert result.exit_code == 2
        assert bad == {"image": "none.png", "error": "The picture none.png cannot be read: No such file or directory."}
        assert (good["image"], len(good["top"])) == (str(picture), 5)

    def test_many_are_counted(self, invoke, tiny_onnx):
        error = invoke("run", tiny_onnx, *(f"{number}.png" for number in range(9))).stderr
        assert "9 of 9 pictures have no answer: " in error
        assert error.count("cannot be read") == 5
        assert error.endswith(" ... and 4 more.\n")

    def test_a_pipe_does_not_hang(self, invoke, tiny_onnx, tmp_path):
        os.mkfifo(tmp_path / "pipe.png")
        result = invoke("run", tiny_onnx, tmp_path / "pipe.png")
        assert (result.exit_code, "pipe.png cannot be read: it is a device, a pipe" in result.stderr) == (2, True)

    def test_a_run_that_gives_up_on_one(self, invoke, tiny_onnx, picture, monkeypatch):
        """Because it is too large for the memory, for example; those that ran with it are run again."""
        run = OnnxRuntimeSession._run

        def give_up(session, inputs):
            if np.ptp(inputs["images"], axis=(2, 3)).min() == 0:  # one that is all white
                raise ExecutionError("The runtime gave up.")
            return run(session, inputs)

        monkeypatch.setattr(OnnxRuntimeSession, "_run", give_up)
        large = picture.with_name("large.png")
        Image.new("RGB", (40, 40), "white").save(large)
        result = invoke("run", tiny_onnx, picture, large, picture, picture, "--top", 1, "--batch", 3)
        _, *rows = result.stdout.splitlines()
        assert (result.exit_code, [row.split()[0] for row in rows]) == (1, [str(picture)] * 3)
        assert result.stderr.splitlines()[-1] == (
            f"Error: 1 of 4 pictures has no answer: {large}: The runtime gave up."
        )

    def test_of_a_folder_are_skipped_named_and_counted(self, invoke, tiny_onnx, picture, cut):
        result = invoke("run", tiny_onnx, picture.parent, "--top", 1)
        _, *rows = result.stdout.splitlines()
        assert (result.exit_code, [row.split()[0] for row in rows]) == (1, [str(picture)])
        error = result.stderr.splitlines()[-1]
        assert error.startswith(f"Error: 1 of 2 pictures has no answer: The picture {cut} cannot be read: ")

    def test_one_that_is_named_is_wrong_input_in_a_folder_too(self, invoke, tiny_onnx, picture, cut):
        assert invoke("run", tiny_onnx, picture.parent, cut).exit_code == 2

    def test_a_turned_picture_is_told_once(self, invoke, tiny_onnx, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 8
        names = [tmp_path / f"{number}.jpg" for number in range(3)]
        for name in names:
            Image.new("RGB", (40, 30)).save(name, exif=exif)
        result = invoke("run", tiny_onnx, *names)
        assert (result.exit_code, result.stderr.count("Warning: A picture's EXIF orientation says")) == (0, 1)


class TestNotFinite:
    """NaN is no answer: exit code 1, whatever the task."""

    @pytest.fixture
    def broken(self, tmp_path):
        def write(proto):
            proto = onnx.ModelProto.FromString(proto.SerializeToString())
            for tensor in proto.graph.initializer:
                if tensor.name == "patch_embed.proj.weight":
                    values = np.full(tensor.dims, np.nan, np.float32)
                    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
            (tmp_path / "broken.onnx").write_bytes(proto.SerializeToString())
            return tmp_path / "broken.onnx"

        return write

    @pytest.mark.parametrize("as_json", [(), ("--json",)])
    def test_logits(self, invoke, broken, tiny_proto, picture, as_json):
        result = invoke("run", broken(tiny_proto), picture, *as_json)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.splitlines()[-1] == (
            f"Error: {picture} has no answer: 5 of 5 values of logits are NaN or infinite. vimdeploy verify finds the "
            "first stage of the model that is wrong."
        )

    @pytest.mark.slow
    def test_features_are_not_saved(self, invoke, broken, any_size_proto, picture, tmp_path):
        result = invoke("run", broken(any_size_proto), picture, "--save", tmp_path / "out")
        assert (result.exit_code, result.stdout, (tmp_path / "out").exists()) == (1, "", False)
        assert "values of map are NaN or infinite" in result.stderr

    def test_wrong_input_goes_first(self, invoke, broken, tiny_proto, picture):
        result = invoke("run", broken(tiny_proto), picture, "none.png")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "2 of 2 pictures have no answer: " in result.stderr


@pytest.mark.parametrize("mode", ["CMYK", "I;16"])
def test_unusual_pictures_are_classified(invoke, tiny_onnx, tmp_path, mode):
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

    def test_only_answers_are_saved(self, invoke, features, picture, tmp_path):
        result = invoke("run", features, "none.png", picture, "--save", tmp_path / "out")
        assert result.exit_code == 2
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["picture.npz", "picture.png"]

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


class TestOptionsOfDetection:
    """Other tasks refuse them, and write nothing."""

    @pytest.mark.parametrize("asked", [("--score-threshold", 0.5), ("--max-detections", 3)])
    def test_limits(self, invoke, tiny_onnx, picture, asked):
        result = invoke("run", tiny_onnx, picture, *asked)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "are for the task detect; classification finds no objects" in result.stderr

    def test_results(self, invoke, tiny_onnx, picture, tmp_path):
        result = invoke("run", tiny_onnx, picture, "-o", tmp_path / "results.json")
        assert (result.exit_code, result.stdout, (tmp_path / "results.json").exists()) == (2, "", False)
        assert "COCO's results are for the task detect" in result.stderr


@pytest.fixture(scope="module")
def segment(tmp_path_factory):
    path = tmp_path_factory.mktemp("segment") / "segment.onnx"
    network = network_of_variant(MINE, 0, "segment")
    path.write_bytes(onnx_from_model(network.module, network.info).SerializeToString())
    return path


@pytest.mark.slow
class TestSegment:
    """Windows of 64 x 64 over a picture of 40 x 60."""

    @pytest.mark.parametrize("options", [(), ("--image-size", "100x150", "--batch", 5)], ids=["recipe", "size"])
    def test_the_mask_is_as_large_as_the_picture(self, invoke, segment, picture, tmp_path, options):
        result = invoke("run", segment, picture, "--save", tmp_path / "out", *options)
        assert (result.exit_code, result.stdout.split()[:3]) == (0, ["image", "share", "class"])
        assert np.load(tmp_path / "out/picture.npz")["classes"].shape == (40, 60)
        with Image.open(tmp_path / "out/picture.png") as drawn:
            assert (drawn.width > 60, drawn.height >= 40) == (True, True)  # a legend beside it

    def test_rows_have_the_largest_classes(self, invoke, segment, picture, tmp_path):
        assert invoke("run", segment, picture, "-o", tmp_path / "a.csv", "--top", 2).exit_code == 0
        header, *lines = (tmp_path / "a.csv").read_text().splitlines()
        assert header == "image,index,label,share,error"
        assert [line.startswith(f"{picture},") for line in lines] == [True] * min(len(lines), 2)

    def test_how_many_windows_run_together_changes_nothing(self, invoke, segment, picture):
        outputs = {
            invoke("run", segment, picture, "--image-size", "150x200", "--batch", n, "--json").stdout for n in (1, 4, 8)
        }
        assert len(outputs) == 1

    def test_a_size_below_a_window(self, invoke, segment, picture):
        result = invoke("run", segment, picture, "--image-size", "63x150")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "Wanted an image height of 63, the file looks at pictures through windows of 64" in result.stderr

    def test_an_absurd_size(self, invoke, segment, picture):
        result = invoke("run", segment, picture, "--image-size", "999999x999999")
        assert (result.exit_code, "at most 268435456 pixels are looked at" in result.stderr) == (2, True)

    @pytest.mark.parametrize("size", [(1, 1), (3, 2), (1000, 7), (7, 1000)], ids=str)
    def test_pictures_of_any_size_and_proportions(self, invoke, segment, tmp_path, size):
        Image.new("RGB", size, (200, 100, 0)).save(tmp_path / "odd.png")
        [image] = json.loads(invoke("run", segment, tmp_path / "odd.png", "--json").stdout)["images"]
        assert image["shape"] == [size[1], size[0]]
