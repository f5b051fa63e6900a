import dataclasses
import hashlib
import json
import re

import numpy as np
import onnx
import pytest
import torch
from helpers.released import released_names, training_state
from helpers.seeded_faults import changed_weight, dropped_d, flipped_reverse, float16_softplus
from onnx import numpy_helper
from PIL import Image

import vimdeploy
from vimdeploy.artifact import open_artifact
from vimdeploy.libraries import library_path
from vimdeploy.model_info import FromCheckpoint
from vimdeploy.networks import network_of_variant
from vimdeploy.runtimes.onnxruntime import OnnxRuntimeSession


@pytest.fixture(params=[False], ids=["plain"])
def exported(request, tmp_path, tiny_onnx, tiny_pth):
    """The tiny model as if it had been exported from its checkpoint."""
    opened = open_artifact(tiny_onnx)
    digest = hashlib.sha256(tiny_pth.read_bytes()).hexdigest()
    info = dataclasses.replace(opened.info, origin=FromCheckpoint(digest, ema=request.param))
    model = onnx.ModelProto.FromString(opened.data)
    onnx.helper.set_model_props(model, info.to_metadata())
    onnx.save(model, tmp_path / "exported.onnx")
    return tmp_path / "exported.onnx"


@pytest.fixture
def wrong_answers(monkeypatch):
    """ONNX Runtime whose first logit is always off by one."""
    right = OnnxRuntimeSession._run

    def run(self, inputs):
        outputs = right(self, inputs)
        outputs["logits"][:, 0] += 1
        return outputs

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


def _measure(result, name):
    """One of the measures of a result, as JSON has it; None if it is not there."""
    return next((measure for measure in result["answers"]["measures"] if measure["name"] == name), None)


class TestAgainstPyTorch:
    def test_a_right_file_passes(self, invoke, exported, tiny_pth):
        result = invoke("verify", exported, "-c", tiny_pth)
        assert result.exit_code == 0
        assert result.stdout.startswith("Passed: ONNX Runtime (")
        assert f"Reference: PyTorch (eager, cpu) of {tiny_pth}; 8 random inputs (seed 0)." in result.stdout
        assert "FAIL" not in result.stdout

    def test_each_way_of_computing_has_its_row(self, invoke, exported, tiny_pth):
        results = json.loads(invoke("verify", exported, "-c", tiny_pth, "--json").stdout)
        wanted = ["library"] if library_path() else []
        assert [r["candidate"]["description"] for r in results] == [
            f"ONNX Runtime ({o}, cpu)" for o in (*wanted, "function body")
        ]

    def test_errors_are_within_the_bounds(self, invoke, exported, tiny_pth):
        for result in json.loads(invoke("verify", exported, "-c", tiny_pth, "--json").stdout):
            assert result["outputs"][0]["relative"] <= 1e-5

    def test_random_weights_need_no_checkpoint(self, invoke, tiny_onnx):
        (*_, result) = json.loads(invoke("verify", tiny_onnx, "--json").stdout)
        assert (result["reference"]["description"], result["passed"]) == ("PyTorch (eager, cpu)", True)
        assert result["reference"]["source"] == "random seed 0"

    def test_count(self, invoke, tiny_onnx):
        (*_, result) = json.loads(invoke("verify", tiny_onnx, "--count", 3, "--json").stdout)
        assert result["images"] == 3

    def test_a_wrong_file_fails_with_1(self, invoke, exported, tiny_pth, wrong_answers):
        result = invoke("verify", exported, "-c", tiny_pth)
        assert (result.exit_code, "FAIL" in result.stdout) == (1, True)
        assert result.stdout.startswith("Output logits: an error of ")

    def test_the_worst_place_is_told(self, invoke, tiny_onnx, wrong_answers):
        (*_, result) = json.loads(invoke("verify", tiny_onnx, "--json").stdout)
        place = result["outputs"][0]["place"]
        assert (place["image"] in {f"input {i}" for i in range(8)}, place["index"]) == (True, [0])
        assert place["found"] - place["wanted"] == pytest.approx(1, abs=1e-4)

    def test_other_weights_fail(self, invoke, exported, tiny, tmp_path):
        torch.save(released_names(network_of_variant(tiny, 9).module), tmp_path / "other.pth")
        result = invoke("verify", exported, "-c", tmp_path / "other.pth")
        assert result.exit_code == 1
        assert "is not the file that" in result.stderr

    @pytest.mark.parametrize("exported", [True], indirect=True)
    def test_averaged_weights_are_compared_with_averaged_weights(self, invoke, exported, tiny, tiny_model, tmp_path):
        other = network_of_variant(tiny, 9).module
        torch.save(training_state(other, ema=tiny_model), tmp_path / "state.pth")
        assert invoke("verify", exported, "-c", tmp_path / "state.pth").exit_code == 0

    def test_answers_that_are_no_numbers_are_json_too(self, invoke, tiny_onnx, monkeypatch):
        right = OnnxRuntimeSession._run

        def no_numbers(self, inputs):
            return {name: values * np.float32("nan") for name, values in right(self, inputs).items()}

        monkeypatch.setattr(OnnxRuntimeSession, "_run", no_numbers)
        result = invoke("verify", tiny_onnx, "--json")
        assert result.exit_code == 1
        json.loads(result.stdout, parse_constant=pytest.fail)


def test_an_engine_is_compared_as_it_is(invoke, engine_file, tiny_onnx, monkeypatch):
    session = vimdeploy.load(tiny_onnx)  # in place of a GPU
    session.operators, session.device = "plugin", "cuda"
    monkeypatch.setattr("vimdeploy.runtimes.tensorrt.session_from_engine", lambda *arguments: session)
    (result,) = json.loads(invoke("verify", engine_file(), "--json").stdout)
    assert result["candidate"]["description"] == "ONNX Runtime (plugin, cuda)"
    assert (result["passed"], result["weights"]) == (True, None)


class TestImages:
    def test_without_sub_folders_there_is_no_accuracy(self, invoke, tiny_onnx, by_class):
        (*_, result) = json.loads(invoke("verify", tiny_onnx, "--images", by_class / "ant", "--json").stdout)
        assert (result["images"], _measure(result, "top-1 correct")) == (2, None)

    def test_a_sub_folder_a_class_gives_accuracy(self, invoke, tiny_onnx, by_class):
        (*_, result) = json.loads(invoke("verify", tiny_onnx, "--images", by_class, "--json").stdout)
        assert result["images"] == 6
        right = _measure(result, "top-1 correct")["reference"]
        assert right == _measure(result, "top-1 correct")["candidate"]
        assert (right["total"], right["part"] * 6) == (6, pytest.approx(right["count"]))

    def test_the_worst_picture_is_named(self, invoke, tiny_onnx, by_class):
        (*_, result) = json.loads(invoke("verify", tiny_onnx, "--images", by_class, "--json").stdout)
        assert result["outputs"][0]["place"]["image"] in {str(path) for path in by_class.rglob("*.png")}

    def test_accuracy_is_in_the_table(self, invoke, tiny_onnx, by_class):
        shown = invoke("verify", tiny_onnx, "--images", by_class).stdout
        assert re.search(
            r"\nmeasure +PyTorch \(eager, cpu\).*\n(.*\n)*top-1 correct +[\d.]+% +[\d.]+% \([\d.]+% to [\d.]+%\)", shown
        )

    def test_a_table_gives_the_classes_too(self, invoke, tiny_onnx, by_class, tmp_path):
        table = tmp_path / "classes.csv"
        table.write_text("file,class\nant/0.png,bee\nbee/1.png,bee\n")
        answers = invoke("verify", tiny_onnx, "--images", by_class, "--classes", table, "--json")
        (*_, result) = json.loads(answers.stdout)
        assert (result["images"], _measure(result, "top-1 correct")["reference"]["total"]) == (2, 2)


class TestWithoutWeights:
    def test_the_library_is_compared_with_the_bodies(self, invoke, exported):
        result = invoke("verify", exported, "--json")
        (parity,) = json.loads(result.stdout)
        assert parity["reference"]["description"] == "ONNX Runtime (function body, cpu)"
        assert parity["stages"]
        assert "the library is compared with the function bodies, not with PyTorch" in result.stderr

    def test_nor_library_there_is_nothing_to_compare(self, invoke, exported, monkeypatch):
        monkeypatch.setattr("vimdeploy.libraries.library_path", lambda: None)
        result = invoke("verify", exported)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith("Error: Nothing to compare with. Give --checkpoint FILE")


class TestAnotherFile:
    def test_is_the_reference(self, invoke, tiny_onnx, exported):
        results = json.loads(invoke("verify", exported, "--against", tiny_onnx, "--json").stdout)
        assert {result["reference"]["source"] for result in results} == {str(tiny_onnx)}
        assert all(result["passed"] for result in results)

    def test_of_other_weights_fails(self, invoke, tiny, tiny_onnx, tmp_path):
        other = onnx.load(tiny_onnx)
        weight = next(t for t in other.graph.initializer if t.name == "head.weight")
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(2), weight.name))
        onnx.save(other, tmp_path / "other.onnx")
        result = invoke("verify", tmp_path / "other.onnx", "--against", tiny_onnx)
        assert (result.exit_code, result.stdout.partition(":")[0]) == (1, "head")

    def test_of_other_labels_is_refused(self, invoke, tiny_onnx, tmp_path):
        opened = open_artifact(tiny_onnx)
        model = onnx.ModelProto.FromString(opened.data)
        onnx.helper.set_model_props(model, dataclasses.replace(opened.info, labels=()).to_metadata())
        onnx.save(model, tmp_path / "other.onnx")
        result = invoke("verify", tiny_onnx, "--against", tmp_path / "other.onnx")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "cannot be compared, because their labels differ" in result.stderr


class TestSeededFaults:
    """The first sentence names the block and the stage."""

    @pytest.mark.parametrize(
        ("fault", "sentence"),
        [
            (lambda model: changed_weight(model, 1), "Block 1, in_proj: the file's layers.1.mixer.in_proj"),
            (lambda model: flipped_reverse(model, 1), "Block 1, scan: fed with the same values as the reference, a "),
            (lambda model: dropped_d(model, 1), "Block 1, scan: the file's layers.1.mixer.BidirectionalSelectiveScan"),
            (float16_softplus, "Block 0, scan: fed with the same values as the reference, a relative "),
        ],
        ids=["a weight by 1 %", "reverse", "D", "a float16 softplus"],
    )
    def test_is_named(self, invoke, tiny_proto, tmp_path, fault, sentence):
        onnx.save(fault(tiny_proto), tmp_path / "fault.onnx")
        result = invoke("verify", tmp_path / "fault.onnx", "--count", 2)
        assert (result.exit_code, result.stdout[: len(sentence)]) == (1, sentence)

    def test_every_stage_is_listed_when_asked_for(self, invoke, tiny_proto, tmp_path):
        onnx.save(flipped_reverse(tiny_proto, 1), tmp_path / "fault.onnx")
        shown = invoke("verify", tmp_path / "fault.onnx", "--count", 2, "--stages").stdout
        assert re.search(r"\nBlock 0, scan .*pass\n", shown)
        assert re.search(r"\nBlock 1, scan .*FAIL\n", shown)


def test_a_page_is_written(invoke, tiny_onnx, tmp_path):
    assert invoke("verify", tiny_onnx, "--count", 1, "--report", tmp_path / "page.html").exit_code == 0
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


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
        deeper = network_of_variant(dataclasses.replace(tiny, config=tiny.config.replace(depth=3)), 0).module
        torch.save(released_names(deeper), tmp_path / "deeper.pth")
        assert "depth 3" in self.refused(invoke, tiny_onnx, "-c", tmp_path / "deeper.pth")

    def test_a_missing_folder(self, invoke, tiny_onnx):
        assert "found no folder none" in self.refused(invoke, tiny_onnx, "--images", "none")

    def test_a_folder_that_is_no_class(self, invoke, tiny_onnx, by_class):
        (by_class / "bee").rename(by_class / "wasp")
        assert "'wasp', which is none of them" in self.refused(invoke, tiny_onnx, "--images", by_class)

    def test_two_things_to_compare_with(self, invoke, tiny_onnx, tiny_pth):
        assert "not several" in self.refused(invoke, tiny_onnx, "-c", tiny_pth, "--against", tiny_onnx)

    def test_classes_without_pictures(self, invoke, tiny_onnx):
        assert "give their folder too, with --images" in self.refused(invoke, tiny_onnx, "--classes", "classes.csv")

    def test_a_page_that_cannot_be_written(self, invoke, tiny_onnx):
        assert "does not exist" in self.refused(invoke, tiny_onnx, "--report", "none/page.html")


class TestOtherRuntimes:
    """A runtime that vimdeploy drives, and one that it does not: somebody runs the inputs and brings the outputs."""

    @pytest.fixture
    def outputs(self, invoke, exported, tmp_path):
        """Inputs that were saved, and what ONNX Runtime makes of them, each in its file."""
        inputs = tmp_path / "inputs.npz"
        result = invoke("verify", exported, "--save-inputs", inputs, "--count", 3, "--seed", 5)
        assert (result.exit_code, result.stdout) == (0, "")
        assert "3 random inputs (seed 5); nothing was compared" in result.stderr
        assert f"vimdeploy verify {exported} --inputs {inputs} --against outputs.npz" in result.stderr
        images = np.load(inputs)["images"]
        np.savez(tmp_path / "outputs.npz", **vimdeploy.load(exported, operators="function-body").run(images))
        return inputs, tmp_path / "outputs.npz"

    def test_outputs_of_another_program_pass(self, invoke, exported, tiny_pth, outputs, tmp_path):
        inputs, found = outputs
        result = invoke("verify", exported, "-c", tiny_pth, "--inputs", inputs, "--against", found)
        assert result.exit_code == 0
        assert result.stdout.startswith(f"Passed: {found} agrees with PyTorch (eager, cpu)")
        assert f"3 inputs of {inputs}." in result.stdout
        assert "Determinism" not in result.stdout

    def test_seeds_say_which_inputs(self, invoke, exported, outputs):
        result = invoke("verify", exported, "--against", outputs[1], "--count", 3, "--seed", 5)
        assert (result.exit_code, "Passed: " in result.stdout) == (0, True)
        assert "is compared with ONNX Runtime (" in result.stderr

    def test_outputs_for_other_inputs_fail(self, invoke, exported, tiny_pth, outputs):
        result = invoke("verify", exported, "-c", tiny_pth, "--against", outputs[1], "--count", 3, "--seed", 6)
        assert (result.exit_code, result.stdout.startswith("Output logits: an error of ")) == (1, True)

    def test_a_wrong_row_is_named(self, invoke, exported, tiny_pth, outputs):
        logits = np.load(outputs[1])["logits"]
        logits[1, 3] += 1
        np.savez(outputs[1], logits=logits)
        result = invoke("verify", exported, "-c", tiny_pth, "--inputs", outputs[0], "--against", outputs[1])
        assert result.exit_code == 1
        assert "(input 1, element (3,):" in result.stdout

    def test_outputs_of_too_few_inputs(self, invoke, exported, outputs):
        result = invoke("verify", exported, "--against", outputs[1])
        assert (result.exit_code, "has the outputs of 3 inputs, compared are 8" in result.stderr) == (2, True)

    def test_inputs_of_ones_own(self, invoke, exported, tiny_pth, outputs):
        result = invoke("verify", exported, "-c", tiny_pth, "--inputs", outputs[0])
        assert (result.exit_code, f"3 inputs of {outputs[0]}" in result.stdout) == (0, True)

    def test_a_page_over_what_is_read(self, invoke, exported, outputs):
        result = invoke("verify", exported, "--inputs", outputs[0], "--report", outputs[0])
        assert result.exit_code == 2

    def test_saving_compares_nothing(self, invoke, exported, outputs):
        result = invoke("verify", exported, "--save-inputs", "x.npz", "--against", outputs[1])
        assert (result.exit_code, "--save-inputs compares nothing" in result.stderr) == (2, True)

    def test_pictures_and_stored_inputs(self, invoke, exported, by_class, outputs):
        result = invoke("verify", exported, "--inputs", outputs[0], "--images", by_class)
        assert (result.exit_code, "either --inputs or --images" in result.stderr) == (2, True)

    @pytest.mark.slow
    def test_a_provider_is_compared_with_what_runs_otherwise(self, invoke, exported):
        result = invoke("verify", exported, "--provider", "CPUExecutionProvider", "--count", 1)
        told = "is compared with ONNX Runtime (library, cpu), not with PyTorch" in result.stderr
        assert (result.exit_code, told) == (0, True)

    @pytest.mark.slow
    def test_openvino(self, invoke, exported, tiny_pth):
        pytest.importorskip("openvino", reason="openvino is not installed")
        result = invoke("verify", exported, "-c", tiny_pth, "--runtime", "openvino")
        assert result.exit_code == 0
        assert result.stdout.startswith("Passed: OpenVINO (function body, cpu) agrees with PyTorch (eager, cpu)")
        assert "gives its outputs alone, no stages" in result.stdout

    def test_a_precision_without_openvino(self, invoke, exported, tiny_pth):
        result = invoke("verify", exported, "-c", tiny_pth, "--precision", "bf16")
        assert (result.exit_code, "precision is for OpenVINO" in result.stderr) == (2, True)


@pytest.mark.slow
class TestOtherFiles:
    def test_features_of_any_size_at_another_size(self, invoke, tiny_json, tmp_path):
        path = tmp_path / "features.onnx"
        options = ("--random-weights", 0, "--task", "features", "--image-size", "dynamic")
        assert invoke("export", tiny_json, *options, "-o", path).exit_code == 0
        result = invoke("verify", path, "--image-size", "40x48", "--count", 2)
        assert (result.exit_code, "FAIL" in result.stdout) == (0, False)
        assert "pooled" in result.stdout

    def test_a_size_that_the_file_does_not_take(self, invoke, tiny_onnx):
        result = invoke("verify", tiny_onnx, "--image-size", "40")
        assert (result.exit_code, "the file takes 32 alone" in result.stderr) == (2, True)
