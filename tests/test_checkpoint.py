import contextlib
import itertools
import os
import pickle
import sys
import types
from hashlib import sha256

import pytest
import torch
from helpers.released import training_state
from safetensors.torch import save_file

from vimdeploy.checkpoint import Checkpoint, config_from_checkpoint, load_checkpoint
from vimdeploy.errors import CheckpointError, MissingPackageError
from vimdeploy.models.config import VARIANTS, Variant
from vimdeploy.models.vim import Vim, vim_with_random_weights


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.pth"


def assert_same(tensors, model):
    state = model.state_dict()
    assert list(tensors) == list(state)
    assert all(torch.equal(tensors[name], state[name]) for name in state)


class TestForms:
    @pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
    def test_a_released_training_state(self, path, tiny_model, zipped):
        torch.save(training_state(tiny_model), path, _use_new_zipfile_serialization=zipped)
        loaded = load_checkpoint(path)
        assert loaded.weights == "model"
        assert_same(loaded.tensors, tiny_model)

    @pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
    def test_a_bare_state_dict(self, path, tiny_model, zipped):
        torch.save(tiny_model.state_dict(), path, _use_new_zipfile_serialization=zipped)
        loaded = load_checkpoint(path)
        assert loaded.weights == "state dict"
        assert_same(loaded.tensors, tiny_model)

    def test_the_prefix_of_a_parallel_run_is_taken_off(self, path, tiny_model):
        torch.save({f"module.{name}": value for name, value in tiny_model.state_dict().items()}, path)
        assert_same(load_checkpoint(path).tensors, tiny_model)

    def test_safetensors(self, tmp_path, tiny_model):
        save_file(tiny_model.state_dict(), tmp_path / "weights.safetensors")
        loaded = load_checkpoint(tmp_path / "weights.safetensors")
        assert loaded.weights == "state dict"
        assert loaded.tensors.keys() == tiny_model.state_dict().keys()

    def test_the_contents_count_and_not_the_name(self, path, tiny_model):
        save_file(tiny_model.state_dict(), path)
        assert load_checkpoint(path).tensors.keys() == tiny_model.state_dict().keys()

    def test_half_precision_weights_are_kept_as_they_are(self, path, tiny_model):
        torch.save({name: value.half() for name, value in tiny_model.state_dict().items()}, path)
        assert load_checkpoint(path).tensors["head.weight"].dtype == torch.float16

    def test_the_file_is_named_by_its_hash(self, tiny_pth):
        assert load_checkpoint(tiny_pth).sha256 == sha256(tiny_pth.read_bytes()).hexdigest()


class TestEma:
    def test_picks_the_averaged_weights(self, tiny, tiny_pth):
        loaded = load_checkpoint(tiny_pth, ema=True)
        assert loaded.weights == "model_ema"
        assert_same(loaded.tensors, vim_with_random_weights(tiny.config, seed=1))

    def test_of_a_state_dict_lists_what_there_is(self, path, tiny_model):
        torch.save(tiny_model.state_dict(), path)
        with pytest.raises(CheckpointError, match="has no model_ema; it holds: cls_token, pos_embed"):
            load_checkpoint(path, ema=True)

    def test_of_safetensors_says_why_not(self, path, tiny_model):
        save_file(tiny_model.state_dict(), path)
        with pytest.raises(CheckpointError, match="safetensors file: it holds one set of weights"):
            load_checkpoint(path, ema=True)


class Hostile:
    """Unpickled, it makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def save_zip(content, path):
    torch.save(content, path)


def save_legacy(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def save_raw(content, path):
    path.write_bytes(pickle.dumps(content, protocol=2))


class TestHostilePickles:
    @pytest.fixture(params=[save_zip, save_legacy, save_raw], ids=["zip", "legacy", "raw"])
    def marker(self, request, path, tmp_path, tiny_model):
        """The folder that would be there had the checkpoint's code run."""
        marker = tmp_path / "the code ran"
        request.param({"args": Hostile(marker), "model": tiny_model.state_dict()}, path)
        return marker

    def test_the_code_would_run_in_an_unsafe_loader(self, marker, path):
        with contextlib.suppress(RuntimeError):  # torch finds no weights behind a raw pickle
            torch.load(path, weights_only=False)
        assert marker.is_dir()

    def test_the_code_does_not_run(self, marker, path):
        with pytest.raises(CheckpointError):
            load_checkpoint(path)
        assert not marker.exists()

    def test_the_message_names_the_code_and_the_way_out(self, marker, path):
        with pytest.raises(
            CheckpointError, match=r"asks for (posix|nt)\.mkdir, which is code and no weights\. Save the"
        ):
            load_checkpoint(path)


class TestUnreadable:
    def test_a_missing_file(self, path):
        with pytest.raises(CheckpointError, match=r"weights\.pth cannot be read: No such file"):
            load_checkpoint(path)

    def test_a_folder(self, tmp_path):
        with pytest.raises(CheckpointError, match="cannot be read: Is a directory"):
            load_checkpoint(tmp_path)

    def test_an_empty_file(self, path):
        path.touch()
        with pytest.raises(CheckpointError, match=r"is empty \(0 bytes\)"):
            load_checkpoint(path)

    @pytest.mark.parametrize("text", ["hello", "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n"])
    def test_a_text_file(self, path, text):
        path.write_text(text)
        with pytest.raises(CheckpointError, match=r"is not a checkpoint: wanted a PyTorch \.pth or a \.safetensors"):
            load_checkpoint(path)

    @pytest.mark.parametrize("part", [0.01, 0.5, 0.99])
    @pytest.mark.parametrize("save", [save_zip, save_legacy, save_file], ids=["zip", "legacy", "safetensors"])
    def test_a_truncated_file(self, path, tiny_model, save, part):
        save(tiny_model.state_dict(), path)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
        with pytest.raises(CheckpointError, match=r"damaged .*; download it again"):
            load_checkpoint(path)

    @pytest.mark.parametrize("data", [b"\x80", b"\x80\x02a.", b"\x80\x02}}s.", b"\x80\x05\x00"], ids=repr)
    def test_a_pickle_that_makes_no_sense(self, path, data):
        path.write_bytes(data)
        with pytest.raises(CheckpointError):
            load_checkpoint(path)

    def test_a_zip_of_something_else(self, path):
        import zipfile

        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("word/document.xml", "<w:document/>")
        with pytest.raises(CheckpointError, match="damaged PyTorch file"):
            load_checkpoint(path)

    @pytest.mark.parametrize("content", [[1, 2], torch.zeros(2), "text"], ids=["list", "tensor", "text"])
    def test_no_mapping(self, path, content):
        torch.save(content, path)
        with pytest.raises(CheckpointError, match=f"holds a {type(content).__name__}; wanted a state dict"):
            load_checkpoint(path)

    @pytest.mark.parametrize("content", [{}, {"epoch": 3}, {"model": {}}, {"model": "vim"}], ids=str)
    def test_a_mapping_without_weights(self, path, content):
        torch.save(content, path)
        with pytest.raises(CheckpointError, match="holds no state dict; it holds: "):
            load_checkpoint(path)

    def test_without_torch_names_the_extra(self, tiny_pth, monkeypatch):
        monkeypatch.setitem(sys.modules, "torch", None)
        with pytest.raises(MissingPackageError, match=r"pip install 'vimdeploy\[export\]'"):
            load_checkpoint(tiny_pth)


class TestHub:
    """huggingface_hub, in the form of a stand-in that downloads nothing."""

    @pytest.fixture
    def hub(self, monkeypatch, tiny_pth):
        hub = types.ModuleType("huggingface_hub")
        hub.files = ["README.md", "vim_t.pth"]
        hub.asked = []
        hub.list_repo_files = lambda repo: hub.files
        hub.hf_hub_download = lambda repo, name: hub.asked.append((repo, name)) or str(tiny_pth)
        monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
        return hub

    def test_a_file_by_its_name(self, hub, tiny_pth):
        assert load_checkpoint("hf://hustvl/Vim-tiny-midclstok/sub/vim_t.pth").path == tiny_pth
        assert hub.asked == [("hustvl/Vim-tiny-midclstok", "sub/vim_t.pth")]

    def test_the_only_checkpoint_of_a_repository(self, hub):
        load_checkpoint("hf://hustvl/Vim-tiny-midclstok")
        assert hub.asked == [("hustvl/Vim-tiny-midclstok", "vim_t.pth")]

    def test_of_two_checkpoints_none_is_guessed(self, hub):
        hub.files = ["a.pth", "b.safetensors"]
        with pytest.raises(CheckpointError, match=r"found 2: hf://o/r/a\.pth, hf://o/r/b\.safetensors\."):
            load_checkpoint("hf://o/r")

    def test_a_repository_without_checkpoint(self, hub):
        hub.files = ["README.md"]
        with pytest.raises(CheckpointError, match="found 0: none"):
            load_checkpoint("hf://o/r")

    def test_no_repository(self, hub):
        with pytest.raises(CheckpointError, match="Wanted hf://owner/repo or hf://owner/repo/file, found hf://hustvl"):
            load_checkpoint("hf://hustvl")

    def test_a_download_that_fails(self, hub):
        def fail(repo, name):
            raise OSError("404 Client Error\nand much more")

        hub.hf_hub_download = fail
        with pytest.raises(CheckpointError, match=r"hf://o/r/a\.pth could not be downloaded: 404 Client Error$"):
            load_checkpoint("hf://o/r/a.pth")

    def test_without_the_package(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "huggingface_hub", None)
        with pytest.raises(MissingPackageError, match=r"pip install 'vimdeploy\[hub\]'"):
            load_checkpoint("hf://o/r")


class TestConfig:
    """What a checkpoint holds, by the shapes of its tensors; they need no values."""

    def checkpoint(self, config):
        with torch.device("meta"):
            return Checkpoint("weights.pth", "", "model", Vim(config).state_dict())

    @pytest.mark.parametrize("variant", VARIANTS.values(), ids=lambda variant: variant.name)
    def test_of_its_own_variant(self, variant):
        assert config_from_checkpoint(self.checkpoint(variant.config), variant) == variant.config

    @pytest.mark.parametrize(
        ("variant", "other"), list(itertools.permutations(VARIANTS.values(), 2)), ids=lambda variant: variant.name
    )
    def test_of_another_variant_names_the_fitting_one(self, variant, other):
        with pytest.raises(
            CheckpointError, match=rf"not a checkpoint of {other.name}: .*this file fits {variant.name}\."
        ):
            config_from_checkpoint(self.checkpoint(variant.config), other)

    def test_the_message_tells_tokens(self):
        plus, plain = VARIANTS["vim_tiny_patch16_stride8_224"], VARIANTS["vim_tiny_patch16_224"]
        with pytest.raises(CheckpointError, match="depth 24 and 197 tokens, found dim 192, depth 24 and 730 tokens"):
            config_from_checkpoint(self.checkpoint(plus.config), plain)

    def test_of_no_released_variant(self, tiny):
        with pytest.raises(CheckpointError, match="it fits none of the released variants"):
            config_from_checkpoint(self.checkpoint(tiny.config), VARIANTS["vim_tiny_patch16_224"])

    @pytest.mark.parametrize("size", [64, 160, 384, 512])
    def test_another_image_size_is_the_files(self, size):
        variant = VARIANTS["vim_tiny_patch16_224"]
        config = variant.config.replace(image_size=(size, size))
        assert config_from_checkpoint(self.checkpoint(config), variant) == config

    @pytest.mark.parametrize("classes", [1, 10, 21841])
    def test_other_classes_are_the_files(self, classes):
        variant = VARIANTS["vim_tiny_patch16_224"]
        config = variant.config.replace(num_classes=classes)
        assert config_from_checkpoint(self.checkpoint(config), variant) == config

    @pytest.mark.parametrize("class_token", ["first", "none"])
    def test_what_shapes_do_not_tell_is_the_variants(self, tiny, class_token):
        config = tiny.config.replace(class_token=class_token, direction_scale=1.0)
        assert config_from_checkpoint(self.checkpoint(config), Variant("mine", config)) == config

    def test_an_image_that_is_not_square_is_the_variants(self, tiny):
        config = tiny.config.replace(image_size=(16, 48))
        assert config_from_checkpoint(self.checkpoint(config), Variant("mine", config)) == config

    def test_a_number_of_patches_that_is_no_square(self, tiny):
        with pytest.raises(CheckpointError, match=r"wanted .* 17 tokens, found .* 11 tokens"):
            config_from_checkpoint(self.checkpoint(tiny.config.replace(image_size=(16, 40))), tiny)

    def test_no_vim(self):
        checkpoint = Checkpoint("weights.pth", "", "model", {"conv1.weight": torch.zeros(1), "fc.bias": torch.zeros(1)})
        with pytest.raises(
            CheckpointError, match=r"holds no Vim of two directions.*begin with: conv1\.weight, fc\.bias"
        ):
            config_from_checkpoint(checkpoint, VARIANTS["vim_tiny_patch16_224"])
