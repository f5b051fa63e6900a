import json

import pytest
import torch

from vimdeploy.bench.eager import description_of, eager_session
from vimdeploy.bench.sources import Source
from vimdeploy.errors import CheckpointError, ConfigError, ModelFileError
from vimdeploy.models.config import VARIANTS, VimConfig


def config_of(source):
    return VimConfig(**json.loads(description_of(source))["config"])


class TestDescription:
    def test_of_what_vimdeploy_made(self, tiny_onnx, tiny_json, engine_file, tiny):
        sources = [Source("", file=tiny_onnx), Source("", model=str(tiny_json)), Source("", file=engine_file())]
        assert [config_of(source) for source in sources] == [tiny.config] * 3

    def test_of_a_variant(self):
        name = "vim_small_patch16_224"
        assert config_of(Source("", model=name)) == VARIANTS[name].config

    def test_of_a_foreign_file(self, foreign_onnx):
        with pytest.raises(ModelFileError, match="vimdeploy did not make it"):
            description_of(Source("", file=foreign_onnx))

    @pytest.mark.parametrize("hub", ["", "hf://owner/repo"])
    def test_of_a_checkpoint(self, tiny_pth, hub):
        with pytest.raises(ConfigError, match="measured in PyTorch already"):
            description_of(Source("", None if hub else tiny_pth, checkpoint=hub))


class TestSession:
    def test_of_a_description_has_random_weights(self, tiny_json, tiny_model):
        session = eager_session(tiny_json, None, "", None)
        assert torch.equal(session.model.head.weight, tiny_model.head.weight)
        assert eager_session(tiny_json, (24, 40), "", None).info.config.image_size == (24, 40)

    def test_finds_the_released_variant(self, tmp_path, monkeypatch, tiny, tiny_pth):
        stride = tiny.config.replace(stride=4)
        monkeypatch.setattr("vimdeploy.checkpoint.VARIANTS", {"a": type(tiny)("a", stride), "tiny": tiny})
        assert eager_session(tiny_pth, None, "", None).info.config == tiny.config

    def test_of_another_variant(self, tiny_pth):
        with pytest.raises(CheckpointError, match="is not a checkpoint of vim_tiny_patch16_224"):
            eager_session(tiny_pth, None, "vim_tiny_patch16_224", None)

    def test_of_what_is_no_vim(self, tmp_path):
        torch.save({"a": torch.zeros(2)}, tmp_path / "a.pth")
        with pytest.raises(CheckpointError, match="holds no Vim of two directions"):
            eager_session(tmp_path / "a.pth", None, "", None)
