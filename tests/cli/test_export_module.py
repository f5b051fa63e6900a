"""``vimdeploy export FILE.py:FUNCTION``, and every command for its file."""

import json

import pytest
from helpers.modules import write_model_file


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return f"{write_model_file(tmp_path_factory.mktemp('theirs'))}:make"


@pytest.fixture(scope="module")
def exported(place, tmp_path_factory):
    """The file, and what its export printed."""
    from click.testing import CliRunner

    from vimdeploy.cli import main

    path = tmp_path_factory.mktemp("exported") / "theirs.onnx"
    result = CliRunner().invoke(main, ["export", place, "-o", str(path), "--json"])
    assert result.exit_code == 0, result.stderr
    return path, result


class TestExport:
    def test_as_json(self, exported):
        path, result = exported
        document = json.loads(result.stdout)
        assert document["output"] == str(path)
        assert document["notes"] == ["The model was in training mode; the file answers as it does in eval mode."]
        assert document["model"]["inputs"] == {"tokens": {"dims": ["batch", 7, 3], "type": "float32"}}
        assert list(document["model"]["outputs"]) == ["logits", "features"]
        assert all(result["passed"] and result["largest_error"] < 1e-4 for result in document["parity"])

    def test_what_the_file_prints_and_how_long_it_took_go_to_standard_error(self, exported):
        assert "somebody's print" in exported[1].stderr
        assert "Tracing the model: " in exported[1].stderr

    @pytest.mark.slow
    def test_names_and_free_axes(self, invoke, place, tmp_path):
        options = ("--input-names", "x", "--output-names", "a,b", "--dynamic", "x:1=length", "--precision", "fp16")
        result = invoke("export", place, "-o", tmp_path / "named.onnx", *options)
        assert result.exit_code == 0, result.stderr
        assert "named.onnx: Net, x (batch, length, 3) of float32, fp16, " in result.stdout
        assert "Outputs: a (batch, 5) of float32, b (batch, length, 8) of float32" in result.stdout
        assert "The model was in training mode" in result.stdout


class TestWrongUse:
    def refused(self, invoke, *arguments):
        result = invoke(*arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        (error,) = (line for line in result.stderr.splitlines() if line.startswith("Error: "))
        return error

    @pytest.mark.parametrize(
        ("function", "message"),
        [
            ("none", "There is no function none in "),
            ("five", "Wanted a function, five in "),
            ("number", "Wanted a model and its example inputs from number() in "),
            ("broken", 'in broken: "return nn.Linear(3, "four"), torch.randn(1, 3)"'),
            ("forked", "bimamba_type"),
            ("complex_a", "Wanted real weights, mamba.A_log is complex64"),
            ("complex_scan", "The model's A is complex, and vimdeploy's selective scan is real"),
            (
                "second",
                "The model uses Mamba2: vimdeploy runs the selective scan of Mamba-1 and no operator of Mamba-2",
            ),
            ("random", "The model draws random numbers, in eval mode too: output of the same inputs changed"),
        ],
    )
    def test_one_sentence_and_nothing_written(self, invoke, place, tmp_path, function, message):
        output = tmp_path / "none.onnx"
        assert message in self.refused(invoke, "export", place.replace("make", function), "-o", output)
        assert list(tmp_path.iterdir()) == []

    def test_no_file(self, invoke, tmp_path):
        error = self.refused(invoke, "export", tmp_path / "none.py:make", "-o", tmp_path / "none.onnx")
        assert "wanted one whose function make() makes the model" in error

    def test_options_for_the_other_kind_of_model(self, invoke, place, tmp_path):
        for arguments, message in (
            ((place, "--task", "detect"), "--task is for models of vimdeploy's own."),
            ((place, "--uint8-input"), "--uint8-input is for models of vimdeploy's own."),
            (("vim_tiny_patch16_224", "--dynamic", "x:1=y"), "--dynamic is for FILE.py:FUNCTION."),
        ):
            assert message in self.refused(invoke, "export", *arguments, "-o", tmp_path / "none.onnx")

    @pytest.mark.parametrize("axes", ["tokens", "tokens:1", "tokens:1=2", "tokens:one=length", "x:1=a,x:1=b"])
    def test_free_axes_that_are_none(self, invoke, place, tmp_path, axes):
        error = self.refused(invoke, "export", place, "-o", tmp_path / "none.onnx", "--dynamic", axes)
        assert "wanted axes and their words, such as images:2=height,images:3=width" in error

    def test_names_that_are_none(self, invoke, place, tmp_path):
        error = self.refused(invoke, "export", place, "-o", tmp_path / "none.onnx", "--input-names", "a,a")
        assert "wanted different names such as images,mask" in error

    def test_another_model(self, invoke, place, exported):
        error = self.refused(invoke, "verify", exported[0], "--model", place.replace("make", "random"))
        assert "The model is not the one of the file: wanted the inputs tokens" in error


class TestItsFile:
    def test_is_verified_by_outputs_and_operators(self, invoke, place, exported):
        result = invoke("verify", exported[0], "--model", place, "--count", 2, "--json")
        assert result.exit_code == 0, result.stderr
        for document in json.loads(result.stdout):
            assert document["passed"]
            assert [output["name"] for output in document["outputs"]] == ["logits", "features"]
            assert document["stages"]
            assert all(stage["own"] and stage["carried"] for stage in document["stages"])

    def test_is_converted_and_quantized(self, invoke, place, exported, tmp_path):
        half, small = tmp_path / "half.onnx", tmp_path / "small.onnx"
        result = invoke("convert", exported[0], "-o", half, "--precision", "bf16", "--model", place)
        assert (result.exit_code, "Looked at 1 example input and 15 random inputs" in result.stdout) == (0, True)
        result = invoke("quantize", exported[0], "-o", small)
        assert result.exit_code == 0, result.stderr
        assert "On 16 inputs: the outputs change by " in result.stdout
        assert invoke("verify", small, "--model", place, "--count", 1).exit_code == 0

    def test_is_inspected(self, invoke, exported):
        lines = invoke("inspect", exported[0]).stdout
        assert "model.inputs.tokens.dims" in lines
        assert "operators.nodes." in lines

    def test_is_measured_beside_its_model(self, invoke, place, exported):
        result = invoke(
            "bench", exported[0], "--against", place, "--rounds", 1, "--seconds", 0, "--warm-up", 1, "--json"
        )
        assert result.exit_code == 0, result.stderr
        theirs, eager = json.loads(result.stdout)["results"]
        assert (theirs["error"], eager["error"], eager["operators"]) == ("", "", "eager")
        assert eager["artifact"] == f"{place}, eager PyTorch"

    def test_has_no_eager_model_of_ours(self, invoke, exported):
        result = invoke("bench", exported[0], "--against", "eager", "--rounds", 1, "--seconds", 0, "--json")
        assert "give its module: --against FILE.py:FUNCTION" in json.loads(result.stdout)["results"][1]["error"]

    def test_says_how_it_is_run(self, invoke, exported, picture):
        assert "vimdeploy.load(FILE).run(arrays) gives them raw" in invoke("run", exported[0], picture).stderr
