import json
import shutil

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from vimdeploy.artifact import open_artifact
from vimdeploy.exporters.tensorrt_engine import BuildOptions, engine_from_onnx
from vimdeploy.flavors import tensorrt_module
from vimdeploy.runtimes.onnxruntime import OnnxRuntimeSession

SCAN = "layers.1.mixer.BidirectionalSelectiveScan"
OUT_PROJ = "layers.1.mixer.out_proj.MatMul"


@pytest.fixture
def output(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder / "half.onnx"


@pytest.fixture(scope="module")
def loud_onnx(tmp_path_factory, tiny_proto):
    """The tiny model with outputs of block 1's scan that float16 cannot hold."""
    mixer = "layers.1.mixer"
    factors = {f"{mixer}.in_proj.MatMul.weight": 1e3, f"{mixer}.MatMul.weight": 1e-3, f"{OUT_PROJ}.weight": 1e-6}
    model = onnx.ModelProto()
    model.CopyFrom(tiny_proto)
    for tensor in model.graph.initializer:
        if tensor.name in factors:
            scaled = numpy_helper.to_array(tensor) * np.float32(factors[tensor.name])
            tensor.CopyFrom(numpy_helper.from_array(scaled, tensor.name))
    path = tmp_path_factory.mktemp("loud") / "loud.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for i in range(5):
        Image.fromarray(generator.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


class TestUsualModel:
    @pytest.mark.parametrize("precision", ["fp16", "bf16"])
    def test_is_written_and_told(self, invoke, tiny_onnx, output, precision):
        result = invoke("convert", tiny_onnx, "-o", output, "--precision", precision)
        assert result.exit_code == 0, result.output
        first, second, third = result.stdout.splitlines()
        assert first.startswith(f"{output}: tiny, 32x32, {precision}, 0.1 MB (before: 0.1 MB)")
        assert second.startswith("Looked at 16 random inputs (seed 0): the largest value is ")
        assert second.endswith("0 nodes are kept in float32")
        assert third.startswith(f"Largest error against {tiny_onnx}: ONNX Runtime (")
        assert result.stderr.splitlines()[-1] == f"Next: vimdeploy verify {output} --against {tiny_onnx}"
        assert open_artifact(output).info.precision == precision

    def test_random_inputs_are_not_passed_off_as_pictures(self, invoke, tiny_onnx, output, pictures):
        note = "Warning: Random inputs are looked at"
        assert note in invoke("convert", tiny_onnx, "-o", output, "--precision", "fp16").stderr
        result = invoke("convert", tiny_onnx, "-o", output, "--precision", "fp16", "--images", pictures)
        assert note not in result.stderr
        assert "Looked at 5 pictures of " in result.stdout

    @pytest.mark.parametrize(("count", "wanted"), [(1, 1), (2, 2), (3, 3), (5, 5), (9, 5)])
    def test_count_spreads_over_the_pictures(self, invoke, tiny_onnx, output, pictures, count, wanted):
        arguments = ("--precision", "fp16", "--images", pictures, "--count", count, "--json")
        document = json.loads(invoke("convert", tiny_onnx, "-o", output, *arguments).stdout)
        assert (
            document["inputs"] == f"{wanted} of 5 pictures of {pictures}" if wanted < 5 else f"5 pictures of {pictures}"
        )

    def test_keep(self, invoke, tiny_onnx, output):
        result = invoke(
            *("convert", tiny_onnx, "-o", output, "--precision", "fp16", "--keep", SCAN, "--keep", "layers.0.*in_proj*")
        )
        kept = open_artifact(output).info.kept_in_float32
        assert kept == {"layers.0.mixer.in_proj.MatMul": "asked for", SCAN: "asked for"}
        assert [line.split()[0] for line in result.stdout.splitlines()[2:5]] == ["kept", *kept]


class TestModelBeyondFloat16:
    @pytest.fixture
    def result(self, invoke, loud_onnx, output):
        return invoke("convert", loud_onnx, "-o", output, "--precision", "fp16")

    def test_keeps_the_nodes_of_what_is_too_large_and_lists_them(self, result):
        assert result.exit_code == 0, result.output
        lines = result.stdout.splitlines()
        assert lines[1].endswith(f", in {SCAN}; 2 nodes are kept in float32")
        assert lines[2].split() == ["kept", "in", "float32", "because"]
        assert [line.split()[:3] for line in lines[3:5]] == [[name, SCAN, "reaches"] for name in (SCAN, OUT_PROJ)]
        assert all(line.endswith("; float16 ends at 65504") for line in lines[3:5])

    def test_the_reasons_are_in_the_file_and_in_inspect(self, invoke, result, output):
        kept = open_artifact(output).info.kept_in_float32
        assert list(kept) == [SCAN, OUT_PROJ]
        assert json.loads(invoke("inspect", output, "--json").stdout)["model"]["kept_in_float32"] == kept
        rows = invoke("inspect", output).stdout
        assert all(f"model.kept_in_float32.{name}  " in rows and reason in rows for name, reason in kept.items())

    def test_the_file_runs(self, invoke, result, output, picture):
        assert invoke("run", output, picture, "--json").exit_code == 0

    def test_bfloat16_keeps_none(self, invoke, loud_onnx, output):
        assert invoke("convert", loud_onnx, "-o", output, "--precision", "bf16").exit_code == 0
        assert open_artifact(output).info.kept_in_float32 == {}

    def test_json(self, invoke, loud_onnx, output):
        result = invoke("convert", loud_onnx, "-o", output, "--precision", "fp16", "--json")
        document = json.loads(result.stdout)
        assert list(document["kept_in_float32"]) == [SCAN, OUT_PROJ]
        found = document["ranges"][SCAN]
        assert found["largest"] > 65504
        assert found["fault"] in document["kept_in_float32"][SCAN]
        assert document["ranges"]["layers.0.mixer.in_proj.MatMul"]["fault"] is None
        assert (document["bytes_before"], document["bytes"]) == (loud_onnx.stat().st_size, output.stat().st_size)
        assert all(result["passed"] for result in document["parity"])

    def test_builds(self, result, output):
        try:
            tensorrt_module("rtx")
        except Exception as error:
            pytest.skip(f"needs TensorRT-RTX, which builds without a GPU: {error}")
        built = engine_from_onnx(open_artifact(output), BuildOptions(flavor="rtx", shapes={"batch": (1, 1, 2)}))
        assert list(built.info.model.kept_in_float32) == [SCAN, OUT_PROJ]


class TestWrongInput:
    """One sentence, exit code 2, and nothing left behind."""

    def refused(self, invoke, model, output, *arguments):
        result = invoke("convert", model, "-o", output, "--precision", "fp16", *arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert not output.parent.is_dir() or list(output.parent.iterdir()) == []
        (error,) = (line for line in result.stderr.splitlines() if line.startswith("Error: "))
        return error

    def test_a_file_that_is_converted_already(self, invoke, tiny_onnx, output, tmp_path):
        half = tmp_path / "half.onnx"
        assert invoke("convert", tiny_onnx, "-o", half, "--precision", "bf16").exit_code == 0
        assert "Wanted a file in fp32, found one in bf16" in self.refused(invoke, half, output)

    def test_a_foreign_file(self, invoke, foreign_onnx, output):
        assert "vimdeploy did not make it" in self.refused(invoke, foreign_onnx, output)

    def test_a_missing_file(self, invoke, output, tmp_path):
        assert "none.onnx cannot be read" in self.refused(invoke, tmp_path / "none.onnx", output)

    def test_an_engine(self, invoke, engine_file, output):
        assert "is an engine; wanted the ONNX file" in self.refused(invoke, engine_file(), output)

    def test_a_folder_without_pictures(self, invoke, tiny_onnx, output, tmp_path):
        (tmp_path / "empty").mkdir()
        assert "holds no pictures" in self.refused(invoke, tiny_onnx, output, "--images", tmp_path / "empty")

    def test_no_folder(self, invoke, tiny_onnx, output, tmp_path):
        assert "found no folder" in self.refused(invoke, tiny_onnx, output, "--images", tmp_path / "none")

    def test_a_damaged_picture(self, invoke, tiny_onnx, output, pictures):
        (pictures / "0.png").write_bytes(b"no picture")
        assert "0.png is not a picture" in self.refused(invoke, tiny_onnx, output, "--images", pictures)

    def test_a_node_that_is_not_there(self, invoke, tiny_onnx, output):
        error = self.refused(invoke, tiny_onnx, output, "--keep", "layers.7.*")
        assert "No node matches 'layers.7.*'. Nodes that you can keep in float32 include: " in error

    def test_the_file_itself_as_output(self, invoke, tiny_onnx, tmp_path):
        path = tmp_path / "model.onnx"
        shutil.copy(tiny_onnx, path)
        result = invoke("convert", path, "-o", path, "--precision", "fp16")
        assert (result.exit_code, path.read_bytes()) == (2, tiny_onnx.read_bytes())

    def test_an_output_folder_that_does_not_exist(self, invoke, tiny_onnx, tmp_path):
        error = self.refused(invoke, tiny_onnx, tmp_path / "none" / "half.onnx")
        assert "none for half.onnx does not exist; create it first" in error

    def test_nothing_to_do(self, invoke, tiny_onnx, output):
        result = invoke("convert", tiny_onnx, "-o", output)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "something to convert to: --precision fp16 or bf16, --uint8-input, or --portable." in result.stderr

    @pytest.mark.parametrize("option", [("--batch", 2), ("--no-loops",)], ids=str)
    def test_what_only_a_portable_file_has(self, invoke, tiny_onnx, output, option):
        assert "for portable files: add --portable" in self.refused(invoke, tiny_onnx, output, *option)

    def test_a_batch_of_none(self, invoke, tiny_onnx, output):
        self.refused(invoke, tiny_onnx, output, "--portable", "--batch", 0)

    def test_nodes_kept_in_float32_of_float32(self, invoke, tiny_onnx, output):
        result = invoke("convert", tiny_onnx, "-o", output, "--portable", "--keep", SCAN)
        assert result.exit_code == 2
        assert "add --precision fp16 or bf16" in result.stderr


class TestPortable:
    @pytest.mark.parametrize(("options", "form"), [((), "portable"), (("--no-loops",), "unrolled")], ids=str)
    def test_is_written_and_told(self, invoke, tiny_onnx, output, options, form):
        result = invoke("convert", tiny_onnx, "-o", output, "--portable", "--batch", 2, *options)
        assert result.exit_code == 0, result.output
        first, second = result.stdout.splitlines()
        assert first.startswith(f"{output}: tiny, 32x32, fp32, {form}, ")
        assert second.startswith(f"Largest error against {tiny_onnx}: ONNX Runtime (cpu) ")
        info = open_artifact(output).info
        assert (info.form, info.fixed_batch) == (form, 2)

    def test_in_half_precision(self, invoke, tiny_onnx, pictures, output):
        options = ("--precision", "fp16", "--portable", "--images", pictures, "--json")
        result = invoke("convert", tiny_onnx, "-o", output, *options)
        assert result.exit_code == 0, result.output
        document = json.loads(result.stdout)
        assert (document["precision"], document["form"]) == ("fp16", "portable")
        assert document["ranges"]
        stored = {tensor.data_type for tensor in open_artifact(output).model.graph.initializer}
        assert onnx.TensorProto.FLOAT16 in stored

    @pytest.mark.slow
    def test_is_taken_by_the_other_commands(self, invoke, tiny_onnx, picture, output):
        assert invoke("convert", tiny_onnx, "-o", output, "--portable").exit_code == 0
        assert invoke("inspect", output).exit_code == 0
        assert invoke("run", output, picture, picture).exit_code == 0
        assert invoke("verify", output, "--count", 2).exit_code == 0
        assert invoke("verify", output, "--against", tiny_onnx, "--count", 2).exit_code == 0
        result = invoke("bench", output, "--against", tiny_onnx, "--seconds", "0", "--rounds", "1")
        assert result.exit_code == 0, result.output

    @pytest.mark.slow
    @pytest.mark.parametrize("against", [False, True])
    def test_of_several_pictures_is_verified_stage_by_stage(self, invoke, tiny_onnx, output, against):
        assert invoke("convert", tiny_onnx, "-o", output, "--portable", "--batch", 3).exit_code == 0
        result = invoke("verify", output, "--count", 2, "--json", *(["--against", tiny_onnx] if against else []))
        assert result.exit_code == 0, result.output
        (candidate,) = json.loads(result.stdout)
        assert candidate["stages"]

    def test_again(self, invoke, tiny_onnx, output):
        assert invoke("convert", tiny_onnx, "-o", output, "--portable").exit_code == 0
        again = output.with_name("again.onnx")
        for options in (("--portable",), ("--precision", "fp16")):
            result = invoke("convert", output, "-o", again, *options)
            assert result.exit_code == 2
            assert f"{output} is portable already; wanted the file that it was made from." in result.stderr
        assert not again.exists()


def test_a_file_that_answers_otherwise_is_not_written(invoke, tiny_onnx, output, monkeypatch):
    right = OnnxRuntimeSession._run

    def wrong(self, inputs):
        return {name: v + (self.info.precision == "fp16") for name, v in right(self, inputs).items()}

    monkeypatch.setattr(OnnxRuntimeSession, "_run", wrong)
    result = invoke("convert", tiny_onnx, "-o", output, "--precision", "fp16")
    assert (result.exit_code, result.stdout, list(output.parent.iterdir())) == (1, "", [])
    assert f"Error: The file does not answer as {tiny_onnx} does" in result.stderr
    assert f"{output} was not written. Further nodes can be kept in float32: vimdeploy convert --keep" in result.stderr


def test_pictures_of_bytes(invoke, tiny_onnx, output):
    result = invoke("convert", tiny_onnx, "-o", output, "--uint8-input")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{output}: tiny, 32x32, fp32, ")
    assert "Looked at" not in result.stdout
    again = invoke("convert", output, "-o", output.with_name("again.onnx"), "--uint8-input")
    assert (again.exit_code, again.stdout, list(output.parent.iterdir())) == (2, "", [output])
    assert "Error: tiny takes pictures of uint8 already." in again.stderr
