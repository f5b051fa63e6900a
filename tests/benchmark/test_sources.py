import dataclasses
from pathlib import Path

import pytest

from vimdeploy.artifact import open_artifact
from vimdeploy.benchmark.sources import BASELINES, Settings, Source, Subject, sources_of
from vimdeploy.errors import ConfigError
from vimdeploy.models import VARIANTS


class TestArtifacts:
    @pytest.mark.parametrize("given", ["vim.onnx", "folder/vim", "vim.engine", "none.onnx", "./vim_tiny_patch16_224"])
    def test_files(self, given):
        assert sources_of([given]) == [Source(given, Path(given))]

    def test_a_path_is_a_file(self):
        assert sources_of([Path("vim_tiny_patch16_224")])[0].kind == "file"

    @pytest.mark.parametrize("given", ["vim_tiny_patch16_224", "vim_of_nobody", "folder/mine.json"])
    def test_variants(self, given):
        assert sources_of([given]) == [Source(given, given, "variant")]

    def test_a_file_that_is_there_comes_before_a_variant(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("vim_tiny_patch16_224").touch()
        assert sources_of(["vim_tiny_patch16_224"])[0].kind == "file"

    def test_a_checkpoint_that_is_to_be_downloaded(self):
        assert sources_of(["hf://owner/repo"]) == [Source("hf://owner/repo", "hf://owner/repo")]

    def test_what_is_open_already(self, tiny_onnx, tiny_artifact):
        opened, in_memory = sources_of([open_artifact(tiny_onnx), tiny_artifact])
        assert (opened.name, in_memory.name) == (str(tiny_onnx), "the model in memory")
        assert in_memory.given is tiny_artifact

    def test_none_at_all(self):
        with pytest.raises(ConfigError, match="at least one artifact"):
            sources_of([], ["deit_tiny"])


class TestAgainst:
    @pytest.mark.parametrize(
        ("given", "name", "precision"),
        [("openvino", "a.onnx, OpenVINO", "fp32"), ("openvino-bf16", "a.onnx, OpenVINO in bf16", "bf16")],
    )
    def test_openvino_is_the_first_artifact_again(self, given, name, precision):
        first, _, again = sources_of(["a.onnx", "b.onnx"], [given])
        assert again == dataclasses.replace(first, name=name, openvino=precision)
        assert Subject(name, Path("a.onnx"), openvino=precision).runtime == "openvino"

    @pytest.mark.parametrize("given", ["vim.onnx", "vim_tiny_patch16_224"])
    def test_eager_is_the_first_artifact_again(self, given):
        first, _, eager = sources_of([given, "b.onnx"], ["eager"])
        assert (first.kind == "eager", eager.kind, eager.name) == (False, "eager", f"{given}, eager PyTorch")

    def test_a_baseline_is_two_rows_after_the_artifacts(self):
        first, plain, fused = sources_of(["a.onnx"], ["deit_tiny"])
        assert first.name == "a.onnx"
        assert (plain.given, fused.given) == ("deit_tiny_patch16_224",) * 2
        assert (plain.fused_attention, fused.fused_attention) == (False, True)
        assert len({source.name for source in sources_of(["a.onnx"], BASELINES)}) == 7

    def test_every_baseline_is_a_variant(self):
        assert list(BASELINES) == ["deit_tiny", "deit_small", "deit_base"]
        assert [VARIANTS[name].architecture for name in BASELINES.values()] == ["deit"] * 3

    def test_a_file(self):
        assert sources_of(["a.onnx"], ["b.onnx", Path("deit_tiny")])[1:] == [
            Source("b.onnx", Path("b.onnx")),
            Source("deit_tiny", Path("deit_tiny")),
        ]

    def test_a_variant(self):
        assert sources_of(["a.onnx"], ["vim_small_patch16_224"])[1].kind == "variant"

    def test_a_name_that_is_nothing(self):
        with pytest.raises(
            ConfigError,
            match=r"against must be eager, openvino, openvino-bf16, deit_tiny, .*found 'resnet'\. There is no variant",
        ):
            sources_of(["a.onnx"], ["resnet"])


class TestRuntime:
    @pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.safetensors"])
    def test_pytorch_runs_checkpoints(self, name):
        assert Subject("", Path(name)).runtime == "eager"

    def test_pytorch_runs_a_model_of_random_weights(self, tiny_onnx, tiny_info):
        assert Subject("", tiny_onnx, model=tiny_info).runtime == "eager"

    def test_onnx_files(self, tiny_onnx, foreign_onnx):
        assert {Subject("", path).runtime for path in (tiny_onnx, foreign_onnx)} == {"onnxruntime"}

    def test_engines(self, engine_file):
        assert Subject("", engine_file()).runtime == "tensorrt"


@pytest.mark.parametrize(("name", "value"), [("rounds", 0), ("warm_up", 0), ("seconds", -1), ("seconds", float("nan"))])
def test_numbers_that_cannot_be(name, value):
    with pytest.raises(ConfigError, match=f"{name} must be at least"):
        Settings(**{name: value})


def test_a_turn_ends():
    with pytest.raises(ConfigError, match="seconds must be at most 3600, found inf"):
        Settings(seconds=float("inf"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runtime": "tensorrt"}, "runtime must be one of auto, onnxruntime, openvino, found 'tensorrt'"),
        ({"precision": "bf16"}, "precision is for OpenVINO"),
    ],
)
def test_settings_that_no_runtime_has(options, message):
    with pytest.raises(ConfigError, match=message):
        Settings(**options)
