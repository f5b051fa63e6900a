import collections
import contextlib
import os
import pickle
import sys
import types
from hashlib import sha256

import pytest
import torch
from helpers.released import released_names, training_state
from safetensors.torch import save_file

from vimdeploy.checkpoint import load_checkpoint
from vimdeploy.errors import CheckpointError, MissingPackageError
from vimdeploy.networks import network_of_variant


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.pth"


def assert_same(tensors, model):
    state = released_names(model)
    assert list(tensors) == list(state)
    assert all(torch.equal(tensors[name], state[name]) for name in state)


class TestForms:
    @pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
    def test_a_released_training_state(self, path, tiny_model, zipped):
        torch.save(training_state(tiny_model), path, _use_new_zipfile_serialization=zipped)
        loaded = load_checkpoint(path)
        assert loaded.part == "model"
        assert_same(loaded.tensors, tiny_model)

    @pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
    def test_a_bare_state_dict(self, path, tiny_model, zipped):
        torch.save(released_names(tiny_model), path, _use_new_zipfile_serialization=zipped)
        loaded = load_checkpoint(path)
        assert loaded.part == "state dict"
        assert_same(loaded.tensors, tiny_model)

    def test_the_prefix_of_a_parallel_run_is_taken_off(self, path, tiny_model):
        torch.save({f"module.{name}": value for name, value in released_names(tiny_model).items()}, path)
        assert_same(load_checkpoint(path).tensors, tiny_model)

    def test_a_checkpoint_of_mmsegmentation(self, path, tiny_model):
        state = collections.OrderedDict(released_names(tiny_model))
        state._metadata = {"": {"version": 1}}
        meta = {"mmseg_version": "0.29.1", "CLASSES": ("wall", "sky"), "PALETTE": [[120, 120, 120], [6, 230, 230]]}
        torch.save({"meta": meta, "state_dict": state, "optimizer": {"param_groups": []}}, path)
        loaded = load_checkpoint(path)
        assert loaded.part == "state_dict"
        assert_same(loaded.tensors, tiny_model)

    def test_a_checkpoint_of_detectron2(self, path, tiny_model):
        torch.save({"model": released_names(tiny_model), "trainer": {"iteration": 9}, "iteration": 9}, path)
        loaded = load_checkpoint(path)
        assert loaded.part == "model"
        assert_same(loaded.tensors, tiny_model)

    def test_safetensors(self, tmp_path, tiny_model):
        save_file(released_names(tiny_model), tmp_path / "weights.safetensors")
        loaded = load_checkpoint(tmp_path / "weights.safetensors")
        assert loaded.part == "state dict"
        assert loaded.tensors.keys() == released_names(tiny_model).keys()

    def test_the_contents_count_and_not_the_name(self, path, tiny_model):
        save_file(released_names(tiny_model), path)
        assert load_checkpoint(path).tensors.keys() == released_names(tiny_model).keys()

    def test_half_precision_weights_are_kept_as_they_are(self, path, tiny_model):
        torch.save({name: value.half() for name, value in released_names(tiny_model).items()}, path)
        assert load_checkpoint(path).tensors["head.weight"].dtype == torch.float16

    def test_the_file_is_named_by_its_hash(self, tiny_pth):
        assert load_checkpoint(tiny_pth).sha256 == sha256(tiny_pth.read_bytes()).hexdigest()


class TestEma:
    def test_picks_the_averaged_weights(self, tiny, tiny_pth):
        loaded = load_checkpoint(tiny_pth, ema=True)
        assert loaded.part == "model_ema"
        assert_same(loaded.tensors, network_of_variant(tiny, 1).module)

    def test_of_a_state_dict_lists_what_there_is(self, path, tiny_model):
        torch.save(released_names(tiny_model), path)
        with pytest.raises(CheckpointError, match="has no model_ema; it holds: cls_token, pos_embed"):
            load_checkpoint(path, ema=True)

    def test_of_safetensors_lists_what_there_is(self, path, tiny_model):
        save_file(released_names(tiny_model), path)
        with pytest.raises(CheckpointError, match="has no model_ema; it holds: layers"):
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
        request.param({"args": Hostile(marker), "model": released_names(tiny_model)}, path)
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
        save(released_names(tiny_model), path)
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

    @pytest.mark.parametrize("content", [{}, {"epoch": 3}, {"model": {}}, {"model": "v"}, {"state_dict": [1]}], ids=str)
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
        with pytest.raises(
            CheckpointError, match=r"hf://o/r/a\.pth could not be downloaded: 404 Client Error and much"
        ):
            load_checkpoint("hf://o/r/a.pth")

    def test_without_the_package(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "huggingface_hub", None)
        with pytest.raises(MissingPackageError, match=r"pip install 'vimdeploy\[hub\]'"):
            load_checkpoint("hf://o/r")
