import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from vimdeploy.cli import main
from vimdeploy.engine_file import read_engine
from vimdeploy.errors import ConfigError
from vimdeploy.exporters import tensorrt_engine
from vimdeploy.exporters.tensorrt_engine import BuildOptions, BuiltEngine
from vimdeploy.installation import install_command


@pytest.fixture
def output(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder / "model.engine"


@pytest.fixture(scope="module")
def built(tmp_path_factory, tiny_onnx):
    """An engine of TensorRT-RTX, and the command's result."""
    pytest.importorskip("tensorrt_rtx")
    pytest.importorskip("polygraphy")
    path = tmp_path_factory.mktemp("built") / "tiny.engine"
    arguments = ["build", tiny_onnx, "-o", path, "--flavor", "rtx", "--batch", "1,2,4"]
    return path, CliRunner().invoke(main, [str(argument) for argument in arguments])


class TestRtx:
    def test_writes_the_engine_and_the_file_beside_it(self, built):
        path, result = built
        assert result.exit_code == 0
        assert {file.name for file in path.parent.iterdir()} == {"tiny.engine", "tiny.engine.json"}
        plan, info = read_engine(path)
        assert (plan, info.flavor, info.operators) == (path.read_bytes(), "rtx", "function body")

    def test_says_what_was_built(self, built):
        path, result = built
        first, second = result.stdout.splitlines()
        assert first.startswith(f"{path}: tiny, 32x32, fp32, ")
        assert second.startswith("Built by rtx 1.")
        assert "without a GPU; operators computed by function body" in second
        assert second.endswith("shapes (min, opt, max): images 1x3x32x32, 2x3x32x32, 4x3x32x32")

    def test_tells_its_time_and_the_next_command_on_standard_error(self, built):
        path, result = built
        line, following = result.stderr.splitlines()
        assert line.startswith("Building the engine: ")
        assert following == f"Next: vimdeploy run {path} PICTURE"

    def test_shows_what_tensorrt_says(self, invoke, output, tiny_onnx, built):
        result = invoke("build", tiny_onnx, "-o", output, "--flavor", "rtx", "--optimization-level", 0, "-v")
        assert "TensorRT, info: Producer name: vimdeploy" in result.stderr.splitlines()
        assert "TensorRT, debug: " not in result.stderr

    def test_can_be_inspected(self, built, invoke):
        document = json.loads(invoke("inspect", built[0], "--json").stdout)
        assert document["profiles"][0]["images"]["max"] == [4, 3, 32, 32]


@pytest.mark.slow
def test_vim_tiny_becomes_an_engine_without_a_gpu(invoke, output, tmp_path):
    """In float32; README builds it in float16."""
    pytest.importorskip("tensorrt_rtx")
    pytest.importorskip("polygraphy")
    model = tmp_path / "vim_tiny.onnx"
    exported = invoke("export", "vim_tiny_patch16_224", "--random-weights", 0, "-o", model)
    assert exported.exit_code == 0
    assert invoke("build", model, "-o", output, "--flavor", "rtx").exit_code == 0
    assert read_engine(output)[1].model.precision == "fp32"


class Asked:
    """A stand-in for the builder: remembers what it was asked for, and gives what it was told to."""

    def __init__(self, info):
        self.info = info
        self.timing_cache = self.layers = None

    def __call__(self, artifact, options, timing_cache, progress):
        self.path, self.options, self.given_cache = artifact.path, options, timing_cache
        progress("Building", 1, 1)
        return BuiltEngine(b"a plan", self.info, self.timing_cache, self.layers)


@pytest.fixture
def builder(monkeypatch, engine_file):
    _, info = read_engine(engine_file())
    asked = Asked(info)
    monkeypatch.setattr(tensorrt_engine, "engine_from_onnx", asked)
    return asked


class TestOptions:
    def test_defaults(self, invoke, output, tiny_onnx, builder):
        invoke("build", tiny_onnx, "-o", output)
        assert (builder.path, builder.options, builder.given_cache) == (tiny_onnx, BuildOptions(), None)

    def test_all(self, invoke, output, tiny_onnx, builder):
        arguments = "--batch 1,4,16 --shape height=16,32,64 --workspace 2G --optimization-level 5"
        arguments += " --version-compatible --plugin-in-engine --profile batch=1 --profile"
        arguments = [*arguments.split(), "batch=8,32,32 height=32", "--hardware-compatible", "ampere_plus"]
        invoke("build", tiny_onnx, "-o", output, *arguments)
        assert builder.options == BuildOptions(
            shapes={"batch": (1, 4, 16), "height": (16, 32, 64)},
            profiles=({"batch": (1, 1, 1)}, {"batch": (8, 32, 32), "height": (32, 32, 32)}),
            workspace_bytes=2 << 30,
            optimization_level=5,
            version_compatible=True,
            plugin_in_engine=True,
            hardware_compatibility="ampere_plus",
        )

    def test_refittable(self, invoke, output, tiny_onnx, builder):
        invoke("build", tiny_onnx, "-o", output, "--refittable")
        assert builder.options == BuildOptions(refittable=True)

    def test_json(self, invoke, output, tiny_onnx, builder):
        document = json.loads(invoke("build", tiny_onnx, "-o", output, "--json").stdout)
        assert (document["engine"], document["bytes"], document["device"]) == (str(output), 6, "Orin")
        assert document["model"]["name"] == "tiny"

    def test_the_gpu_is_told(self, invoke, output, tiny_onnx, builder):
        assert "Built by tensorrt 10.3.0 on Orin (8.7); " in invoke("build", tiny_onnx, "-o", output).stdout


class TestTimingCache:
    @pytest.mark.parametrize("old", [None, b"old"])
    def test_is_read_and_kept(self, invoke, output, tiny_onnx, builder, old):
        cache = output.parent / "cache"
        if old is not None:
            cache.write_bytes(old)
        builder.timing_cache = b"new"
        invoke("build", tiny_onnx, "-o", output, "--timing-cache", cache)
        assert (builder.given_cache, cache.read_bytes()) == (old or b"", b"new")
        assert len(list(output.parent.iterdir())) == 3

    def test_that_cannot_be_read(self, invoke, output, tiny_onnx, builder, monkeypatch):
        read = Path.read_bytes

        def refused(path):
            if path.name == "cache":
                raise PermissionError(13, "Permission denied")
            return read(path)

        (output.parent / "cache").touch()
        monkeypatch.setattr(Path, "read_bytes", refused)
        result = invoke("build", tiny_onnx, "-o", output, "--timing-cache", output.parent / "cache")
        assert (result.exit_code, "cache cannot be read: Permission denied." in result.stderr) == (2, True)


def test_layer_report(invoke, output, tiny_onnx, builder):
    builder.layers = '{"Layers": []}'
    report = output.parent / "layers.json"
    invoke("build", tiny_onnx, "-o", output, "--layer-report", report)
    assert builder.options.layer_report
    assert json.loads(report.read_text()) == {"Layers": []}


class TestWrongInput:
    """One sentence, exit code 2, and nothing left behind."""

    def refused(self, invoke, output, *arguments):
        result = invoke("build", *arguments, "-o", output)
        assert (result.exit_code, result.stdout) == (2, "")
        assert not output.parent.is_dir() or list(output.parent.iterdir()) == []
        (error,) = (line for line in result.stderr.splitlines() if line.startswith("Error: "))
        return error

    def test_a_missing_model(self, invoke, output):
        assert "none.onnx cannot be read: No such file" in self.refused(invoke, output, "none.onnx", "--flavor", "rtx")

    @pytest.mark.parametrize("part", [0, 0.5, 0.99])
    def test_a_damaged_model(self, invoke, output, tiny_onnx, tmp_path, part):
        data = tiny_onnx.read_bytes()
        (tmp_path / "cut.onnx").write_bytes(data[: int(len(data) * part)])
        assert "cut.onnx" in self.refused(invoke, output, tmp_path / "cut.onnx", "--flavor", "rtx")

    def test_a_model_that_is_not_ours(self, invoke, output, foreign_onnx):
        assert "vimdeploy did not make it" in self.refused(invoke, output, foreign_onnx)

    def test_an_engine(self, invoke, output, engine_file):
        error = self.refused(invoke, output, engine_file())
        assert "tiny.engine is an engine; wanted the ONNX file that it was built from" in error

    def test_an_output_folder_that_does_not_exist(self, invoke, tmp_path, tiny_onnx):
        error = self.refused(invoke, tmp_path / "none" / "model.engine", tiny_onnx)
        assert "none for model.engine does not exist; create it first" in error

    @pytest.mark.parametrize("batch", ["4,2,1", "0,1,2", "1,9,8"])
    def test_batch_sizes_out_of_order(self, invoke, output, tiny_onnx, batch):
        error = self.refused(invoke, output, tiny_onnx, "--batch", batch)
        assert error == f"Error: The sizes of batch must be MIN <= OPT <= MAX, MIN at least 1; found {batch}."

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("--batch", "1,2"),
            ("--profile", ""),
            ("--profile", "batch"),
            ("--profile", "batch=1,2"),
            ("--profile", "batch=1 batch=2"),
            ("--workspace", "lots"),
            ("--optimization-level", 6),
            ("--flavor", "lean"),
            ("--hardware-compatible", "turing"),
        ],
    )
    def test_an_option_that_is_none(self, invoke, output, tiny_onnx, option, value):
        assert option in self.refused(invoke, output, tiny_onnx, option, value)

    def test_options_that_do_not_go_together(self, invoke, output, tiny_onnx):
        error = self.refused(invoke, output, tiny_onnx, "--flavor", "rtx", "--version-compatible")
        assert "an engine of flavour rtx runs on every GPU from compute capability 8.0 on" in error

    def test_one_file_for_two_purposes(self, invoke, output, tiny_onnx):
        error = self.refused(invoke, output, tiny_onnx, "--layer-report", f"{output}.json")
        assert "would be written over" in error
        assert "would be written over" in self.refused(invoke, output, tiny_onnx, "--timing-cache", tiny_onnx)

    @pytest.mark.parametrize(("flavor", "module"), [("tensorrt", "tensorrt"), ("rtx", "tensorrt_rtx")])
    def test_a_missing_package(self, invoke, output, tiny_onnx, monkeypatch, flavor, module):
        monkeypatch.setitem(sys.modules, module, None)
        error = self.refused(invoke, output, tiny_onnx, "--flavor", flavor)
        assert error.endswith(f"install it with: {install_command(flavor)}")

    def test_a_layer_report_without_a_gpu(self, invoke, output, tiny_onnx, monkeypatch):
        def none():
            raise ConfigError("no NVIDIA driver (libcuda.so.1)")

        pytest.importorskip("tensorrt_rtx")
        pytest.importorskip("polygraphy")
        monkeypatch.setattr(tensorrt_engine, "gpus", none)
        error = self.refused(
            invoke, output, tiny_onnx, "--flavor", "rtx", "--layer-report", output.parent / "layers.json"
        )
        assert "The layer report of an engine needs an NVIDIA GPU; found no NVIDIA driver (libcuda.so.1)" in error

    def test_no_output(self, invoke, tiny_onnx):
        result = invoke("build", tiny_onnx)
        assert (result.exit_code, "Missing option '-o'" in result.stderr) == (2, True)


def test_a_full_disk_keeps_the_engine_that_was_there(invoke, engine_file, tiny_onnx, builder, monkeypatch):
    path = engine_file()
    before = read_engine(path)

    def fsync(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fsync)
    result = invoke("build", tiny_onnx, "-o", path)
    assert (result.exit_code, "No space left on device; nothing was left behind" in result.stderr) == (2, True)
    assert read_engine(path) == before
