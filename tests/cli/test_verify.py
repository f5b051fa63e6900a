import dataclasses
import hashlib
import json

import onnx
import pytest
import torch
from PIL import Image
from released import training_state

from vimdeploy.artifact import read_onnx
from vimdeploy.models.vim import vim_with_random_weights
from vimdeploy.runtimes.onnxruntime import OnnxRuntimeSession, session_from_onnx
from vimdeploy.runtimes.operator_library import library_path


@pytest.fixture(params=["checkpoint"])
def exported(request, tmp_path, tiny_onnx, tiny_pth):
    """The tiny model as if it had been exported from its checkpoint."""
    model, info = read_onnx(tiny_onnx)
    digest = hashlib.sha256(tiny_pth.read_bytes()).hexdigest()
    info = dataclasses.replace(info, weights=request.param, checkpoint_sha256=digest)
    onnx.helper.set_model_props(model, info.to_metadata())
    onnx.save(model, tmp_path / "exported.onnx")
    return tmp_path / "exported.onnx"


@pytest.fixture
def wrong_answers(monkeypatch):
    """ONNX Runtime whose first logit is always off by one."""
    right = OnnxRuntimeSession._run

    def run(self, array):
        logits = right(self, array)
        logits[:, 0] += 1
        return logits

    monkeypatch.setattr(OnnxRuntimeSession, "_run", run)


@pytest.fixture
def by_class(tmp_path):
    """A folder of six pictures in three sub-folders, all of one class of the tiny model."""
    for name in ("ant", "bee", "dog"):
        for i in range(2):
            path = tmp_path / "pictures" / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 40), (80 * i, len(name) * 30, 200)).save(path)
    return tmp_path / "pictures"


class TestAgainstPyTorch:
    def test_a_right_file_passes(self, invoke, exported, tiny_pth):
        result = invoke("verify", exported, "-c", tiny_pth)
        assert result.exit_code == 0
        assert "Reference: Eager (eager, cpu); 8 images" in result.stdout
        assert "FAIL" not in result.stdout

    def test_each_way_of_computing_has_its_row(self, invoke, exported, tiny_pth):
        results = json.loads(invoke("verify", exported, "-c", tiny_pth, "--json").stdout)
        wanted = ["library"] if library_path() else []
        assert [r["candidate"] for r in results] == [f"OnnxRuntime ({o}, cpu)" for o in (*wanted, "function body")]

    def test_errors_are_within_the_bounds(self, invoke, exported, tiny_pth):
        for result in json.loads(invoke("verify", exported, "-c", tiny_pth, "--json").stdout):
            assert result["relative_error"] <= (1e-4 if "library" in result["candidate"] else 1e-3)

    def test_random_weights_need_no_checkpoint(self, invoke, tiny_onnx):
        (*_, result) = json.loads(invoke("verify", tiny_onnx, "--json").stdout)
        assert (result["reference"], result["passed"]) == ("Eager (eager, cpu)", True)

    def test_count(self, invoke, tiny_onnx):
        (*_, result) = json.loads(invoke("verify", tiny_onnx, "--count", 3, "--json").stdout)
        assert result["images"] == 3

    def test_a_wrong_file_fails_with_1(self, invoke, exported, tiny_pth, wrong_answers):
        result = invoke("verify", exported, "-c", tiny_pth)
        assert (result.exit_code, "FAIL" in result.stdout) == (1, True)

    def test_the_worst_place_is_told(self, invoke, tiny_onnx, wrong_answers):
        (*_, result) = json.loads(invoke("verify", tiny_onnx, "--json").stdout)
        assert (result["worst_image"] in {f"input {i}" for i in range(8)}, result["worst_logit"]) == (True, 0)
        assert result["worst_pair"][1] - result["worst_pair"][0] == pytest.approx(1, abs=1e-4)

    def test_other_weights_fail(self, invoke, exported, tiny, tmp_path):
        torch.save(vim_with_random_weights(tiny.config, seed=9).state_dict(), tmp_path / "other.pth")
        result = invoke("verify", exported, "-c", tmp_path / "other.pth")
        assert result.exit_code == 1
        assert "is not the file that the artifact was exported from" in result.stderr

    @pytest.mark.parametrize("exported", ["checkpoint model_ema"], indirect=True)
    def test_averaged_weights_are_compared_with_averaged_weights(self, invoke, exported, tiny_model, tmp_path):
        other = vim_with_random_weights(tiny_model.config, seed=9)
        torch.save(training_state(other, ema=tiny_model), tmp_path / "state.pth")
        assert invoke("verify", exported, "-c", tmp_path / "state.pth").exit_code == 0

    def test_answers_that_are_no_numbers_are_json_too(self, invoke, tiny_onnx, monkeypatch):
        right = OnnxRuntimeSession._run
        monkeypatch.setattr(OnnxRuntimeSession, "_run", lambda self, array: right(self, array) * float("nan"))
        result = invoke("verify", tiny_onnx, "--json")
        assert result.exit_code == 1
        json.loads(result.stdout, parse_constant=pytest.fail)


def test_an_engine_is_compared_as_it_is(invoke, engine_file, tiny_onnx, monkeypatch):
    session = session_from_onnx(tiny_onnx)  # in place of a GPU
    session.operators, session.device = "plugin", "cuda"
    monkeypatch.setattr("vimdeploy.runtimes.tensorrt.session_from_engine", lambda path, **options: session)
    (result,) = json.loads(invoke("verify", engine_file(), "--json").stdout)
    assert (result["reference"], result["candidate"]) == ("Eager (eager, cpu)", "OnnxRuntime (plugin, cuda)")
    assert result["passed"]


class TestImages:
    def test_without_sub_folders_there_is_no_accuracy(self, invoke, tiny_onnx, by_class):
        (*_, result) = json.loads(invoke("verify", tiny_onnx, "--images", by_class / "ant", "--json").stdout)
        assert (result["images"], result["reference_accuracy"]) == (2, None)

    def test_a_sub_folder_a_class_gives_accuracy(self, invoke, tiny_onnx, by_class):
        (*_, result) = json.loads(invoke("verify", tiny_onnx, "--images", by_class, "--json").stdout)
        assert result["images"] == 6
        assert result["reference_accuracy"] == result["candidate_accuracy"] in {i / 6 for i in range(7)}

    def test_the_worst_picture_is_named(self, invoke, tiny_onnx, by_class):
        (*_, result) = json.loads(invoke("verify", tiny_onnx, "--images", by_class, "--json").stdout)
        assert result["worst_image"] in {str(path) for path in by_class.rglob("*.png")}

    def test_accuracy_is_in_the_table(self, invoke, tiny_onnx, by_class):
        assert "Accuracy of the reference: " in invoke("verify", tiny_onnx, "--images", by_class).stdout


class TestWithoutWeights:
    def test_the_library_is_compared_with_the_bodies(self, invoke, exported):
        result = invoke("verify", exported, "--json")
        (parity,) = json.loads(result.stdout)
        assert parity["reference"] == "OnnxRuntime (function body, cpu)"
        assert "the library is compared with the function bodies, not PyTorch" in result.stderr

    def test_nor_library_there_is_nothing_to_compare(self, invoke, exported, monkeypatch):
        monkeypatch.setattr("vimdeploy.runtimes.operator_library.library_path", lambda: None)
        result = invoke("verify", exported)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith("Error: Nothing to compare with: give --checkpoint FILE")


class TestWrongInput:
    """One sentence and exit code 2."""

    def refused(self, invoke, *arguments):
        result = invoke("verify", *arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.splitlines()[-1].startswith("Error: ")
        return result.stderr

    def test_a_missing_model(self, invoke):
        assert "none.onnx cannot be read" in self.refused(invoke, "none.onnx")

    def test_a_missing_checkpoint(self, invoke, tiny_onnx):
        assert "none.pth cannot be read" in self.refused(invoke, tiny_onnx, "-c", "none.pth")

    def test_a_checkpoint_of_another_model(self, invoke, tiny, tiny_onnx, tmp_path):
        deeper = vim_with_random_weights(tiny.config.replace(depth=3), seed=0)
        torch.save(deeper.state_dict(), tmp_path / "deeper.pth")
        assert "Unused (17): layers.2." in self.refused(invoke, tiny_onnx, "-c", tmp_path / "deeper.pth")

    def test_a_missing_folder(self, invoke, tiny_onnx):
        assert "found no folder none" in self.refused(invoke, tiny_onnx, "--images", "none")

    def test_a_folder_that_is_no_class(self, invoke, tiny_onnx, by_class):
        (by_class / "bee").rename(by_class / "wasp")
        assert "'wasp', which is none of them" in self.refused(invoke, tiny_onnx, "--images", by_class)
