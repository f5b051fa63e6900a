from pathlib import Path

import pytest

from vimdeploy.bench.sources import BASELINES, Source, sources_of


@pytest.mark.parametrize("text", ["vim.onnx", "folder/vim", "vim.engine", "none.onnx", "./vim_tiny_patch16_224"])
def test_files(text):
    assert sources_of([text], []) == [Source(text, Path(text))]


@pytest.mark.parametrize("text", ["vim_tiny_patch16_224", "vim_of_nobody", "folder/mine.json"])
def test_models(text):
    assert sources_of([text], []) == [Source(text, model=text)]


def test_a_file_that_is_there_comes_before_a_variant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("vim_tiny_patch16_224").touch()
    assert sources_of(["vim_tiny_patch16_224"], [])[0].file is not None


def test_a_checkpoint_that_is_to_be_downloaded():
    (source,) = sources_of(["hf://owner/repo"], [])
    assert (source.checkpoint, source.file, source.model) == ("hf://owner/repo", None, "")


@pytest.mark.parametrize("text", ["vim.onnx", "vim_tiny_patch16_224"])
def test_eager_is_the_first_artifact_again(text):
    first, _, eager = sources_of([text, "b.onnx"], ["eager"])
    assert (eager.file, eager.model, eager.name) == (first.file, first.model, f"{text}, eager PyTorch")
    assert (first.eager, eager.eager) == (False, True)


def test_a_baseline_is_two_sources_after_the_artifacts():
    first, plain, fused = sources_of(["a.onnx"], ["deit_tiny"])
    assert (first.name, plain.model, fused.model) == ("a.onnx", "deit_tiny", "deit_tiny")
    assert (plain.fused_attention, fused.fused_attention) == (False, True)
    assert len({source.name for source in sources_of([], BASELINES)}) == 6
