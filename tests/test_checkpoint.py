import argparse
import collections
import contextlib
import datetime
import decimal
import fractions
import json
import os
import pathlib
import pickle
import random
import sys
import types
import uuid
import zipfile
from hashlib import sha256
from typing import ClassVar

import numpy as np
import pytest
import torch
from helpers.released import released_names, training_state
from safetensors.torch import save_file

from vimdeploy.checkpoint import load_checkpoint
from vimdeploy.errors import CheckpointError, MissingPackageError, VimdeployWarning
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


def prefixed(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


class TestWrappers:
    """What trainers wrap weights in, in a file and in the names of tensors."""

    @pytest.mark.parametrize(
        "part",
        ["state_dict", "model_state_dict", "net", "network", "module", "weights", "encoder", "checkpoint.net.module"],
    )
    def test_names_in_the_file(self, path, tiny_model, part):
        content = {"epoch": 3, **released_names(tiny_model)} if part == "net" else released_names(tiny_model)
        for name in reversed(part.split(".")):
            content = {"epoch": 3, "best": None, name: content}
        torch.save(content, path)
        loaded = load_checkpoint(path)
        assert loaded.part == part
        assert_same(loaded.tensors, tiny_model)

    @pytest.mark.parametrize("inner", ["", "backbone.", "backbone.net."])
    @pytest.mark.parametrize(
        "prefix",
        ["module.", "_orig_mod.", "model.", "net.", "backbone.", "encoder.", "vim.", "model._orig_mod.", "model.net."],
    )
    @pytest.mark.parametrize("save", [torch.save, save_file], ids=["pth", "safetensors"])
    def test_beginnings_of_names(self, path, tiny_model, prefix, inner, save):
        save(prefixed(prefix + inner, released_names(tiny_model)), path)
        loaded = load_checkpoint(path)
        assert loaded.tensors.keys() == released_names(tiny_model).keys()
        assert loaded.passed_over == ()

    @pytest.mark.parametrize(
        ("saved", "wanted"),
        [
            ("backbone.layers.0._orig_mod.norm.weight", "backbone.layers.0.norm.weight"),
            ("module.backbone.module.norm_f.weight", "backbone.norm_f.weight"),
            ("_fsdp_wrapped_module.backbone._checkpoint_wrapped_module.norm.weight", "backbone.norm.weight"),
        ],
    )
    def test_what_torch_puts_into_the_middle_of_names(self, path, saved, wanted):
        torch.save({"backbone.patch_embed.proj.weight": torch.zeros(1), saved: torch.ones(1)}, path)
        assert torch.equal(load_checkpoint(path).tensors[wanted], torch.ones(1))

    @pytest.mark.parametrize("prefix", ["backbone.", "backbone.net."])
    def test_a_toolboxs_names_of_a_backbone_are_kept(self, path, prefix):
        names = (prefix + "patch_embed.proj.weight", prefix + "norm_f.weight", "decode_head.conv_seg.weight")
        torch.save({"state_dict": dict.fromkeys((f"module.{name}" for name in names), torch.zeros(1))}, path)
        assert tuple(load_checkpoint(path).tensors) == names

    def test_what_stands_beside_a_wrapped_model_is_named(self, path, tiny_model):
        state = prefixed("model.", released_names(tiny_model)) | {"criterion.weight": torch.ones(5)}
        torch.save({"state_dict": state}, path)
        loaded = load_checkpoint(path)
        assert_same(loaded.tensors, tiny_model)
        assert loaded.passed_over == ("criterion.weight",)

    def test_numbers_beside_the_tensors(self, path, tiny_model):
        beside = {"epoch": 3, "lr": 1e-3, "name": "mine", "n_averaged": torch.tensor(7), "config": {"dim": 16}}
        torch.save(released_names(tiny_model) | beside, path)
        assert_same(load_checkpoint(path).tensors, tiny_model)

    def test_of_several_the_usual_one_is_taken_and_said(self, path, tiny_model):
        state = released_names(tiny_model)
        torch.save({"state_dict": prefixed("net.", state), "model": {**state}, "epoch": 1}, path)
        with pytest.warns(VimdeployWarning, match=r"holds weights at model, state_dict: net\.\*; model is taken\."):
            assert load_checkpoint(path).part == "model"

    @pytest.mark.parametrize("within", [True, False])
    def test_of_several_none_is_guessed(self, path, tiny_model, within):
        state = released_names(tiny_model)
        content = {"student": state, "teacher": {**state}}
        if within:
            content = {"model": prefixed("student.", state) | prefixed("teacher.", state)}
        torch.save(content, path)
        with pytest.raises(
            CheckpointError, match=r"holds several models \(.*student.*teacher.*\); save the state dict of"
        ):
            load_checkpoint(path)

    def test_parts_that_hold_each_other_are_seen_once(self, path, tiny_model):
        content = {"model": released_names(tiny_model)}
        content["module"] = content
        for _ in range(2):
            content = {f"part {i}": content for i in range(1000)}
        torch.save(content, path)
        loaded = load_checkpoint(path)
        assert loaded.part == "part 0.part 0.model"
        assert_same(loaded.tensors, tiny_model)


class TestData:
    """Numbers of numpy, paths, dates: data, and no code."""

    CONTENT: ClassVar = {
        "args": argparse.Namespace(
            model="vim_t",
            input_size=32,
            output_dir=pathlib.PurePosixPath("out"),
            data=pathlib.PureWindowsPath("c:/data"),
            here=pathlib.Path("here"),
            kind=float,
        ),
        "best": np.float64(76.1),
        "step": np.int64(3),
        "dtype": np.dtype("float32"),
        "rng": np.random.default_rng(0).integers(0, 9, 5),
        "random": [random.Random(0).getstate()],
        "when": datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc),
        "took": datetime.timedelta(hours=3),
        "version": torch.torch_version.TorchVersion("2.13"),
        "log": collections.defaultdict(list, loss=[1.0]),
        "last": collections.deque([1, 2], maxlen=3),
        "counts": collections.Counter("aab"),
        "ordered": collections.OrderedDict(a=1),
        "names": {"a"},
        "frozen": frozenset("a"),
        "range": range(3),
        "exact": (decimal.Decimal("0.1"), fractions.Fraction(1, 3)),
        "id": uuid.UUID(int=5),
        "space": types.SimpleNamespace(a=1),
        "bytes": b"abc",
    }

    @pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
    def test_lets_the_weights_through(self, path, tiny_model, zipped):
        content = self.CONTENT | {"model": released_names(tiny_model)}
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        loaded = load_checkpoint(path)
        assert_same(loaded.tensors, tiny_model)
        assert (loaded.model_name, loaded.image_size) == ("vim_t", (32, 32))

    @pytest.mark.parametrize(
        ("meta", "names"),
        [
            ({"CLASSES": ("wall", "sky"), "PALETTE": [[1, 2, 3]] * 2}, ("wall", "sky")),
            ({"dataset_meta": {"classes": ["wall", "sky"]}}, ("wall", "sky")),
            ({"CLASSES": None}, ()),
            ({"CLASSES": "sky"}, ()),
            ({"CLASSES": [1, 2]}, ()),
            ({"dataset_meta": ["sky"]}, ()),
            (["sky"], ()),
        ],
        ids=str,
    )
    def test_tells_the_names_of_mmsegmentations_classes(self, path, tiny_model, meta, names):
        torch.save({"meta": meta, "state_dict": released_names(tiny_model)}, path)
        assert load_checkpoint(path).class_names == names

    @pytest.mark.parametrize("module", ["pathlib", "pathlib._local"])
    def test_a_path_of_every_python(self, path, tiny_model, module, monkeypatch):
        monkeypatch.setattr(pathlib.PurePosixPath, "__module__", module)
        monkeypatch.setitem(sys.modules, "pathlib._local", pathlib)
        torch.save({"model": released_names(tiny_model), "to": pathlib.PurePosixPath("out")}, path)
        assert_same(load_checkpoint(path).tensors, tiny_model)

    @pytest.mark.parametrize("protocol", [2, 4, 5])
    def test_a_pickle_of_numpy_arrays(self, path, tiny_model, protocol):
        arrays = {name: tensor.numpy() for name, tensor in released_names(tiny_model).items()}
        content = {"model": arrays, "__author__": "somebody", "matching_heuristics": True}
        path.write_bytes(pickle.dumps(content, protocol))
        loaded = load_checkpoint(path)
        assert loaded.part == "model"
        assert_same(loaded.tensors, tiny_model)

    @pytest.mark.parametrize(
        "array", [np.arange(6.0).reshape(2, 3).T, np.arange(3, dtype=">f4"), np.zeros((2, 2), np.float16)], ids=str
    )
    def test_an_array_in_a_state_dict(self, path, array):
        torch.save({"head.weight": array}, path)
        assert np.array_equal(load_checkpoint(path).tensors["head.weight"].numpy(), array)

    def test_an_array_of_objects_is_no_weight(self, path):
        torch.save({"head.weight": np.array([None, "a"])}, path)
        with pytest.raises(CheckpointError, match="holds no state dict; it holds: head"):
            load_checkpoint(path)

    @pytest.mark.parametrize(
        ("said", "size"),
        [
            ({"input_size": (3, 64, 32)}, (64, 32)),
            ({"img_size": 64}, (64, 64)),
            ({"input_size": None}, None),
            ({"input_size": True}, None),
            ({"input_size": "224"}, None),
            ({"input_size": ["a", "b"]}, None),
        ],
        ids=str,
    )
    def test_what_args_say_of_the_size(self, path, tiny_model, said, size):
        torch.save({"state_dict": released_names(tiny_model), "arch": "vim_t", "args": said}, path)
        loaded = load_checkpoint(path)
        assert (loaded.model_name, loaded.image_size) == ("vim_t", size)


class TestEma:
    @pytest.mark.parametrize("name", ["model_ema", "ema", "ema_state_dict", "state_dict_ema", "ema_model", "EMA"])
    @pytest.mark.parametrize("inner", ["", "module"])
    def test_by_its_usual_names(self, path, tiny_model, name, inner):
        averaged = {inner: released_names(tiny_model)} if inner else released_names(tiny_model)
        torch.save({"model": {"patch_embed.proj.weight": torch.zeros(1)}, name: averaged}, path)
        assert_same(load_checkpoint(path, ema=True).tensors, tiny_model)
        assert len(load_checkpoint(path).tensors) == 1

    def test_by_the_names_of_tensors(self, path, tiny_model):
        state = {"model.patch_embed.proj.weight": torch.zeros(1)}
        torch.save({"state_dict": state | prefixed("ema_model.module.", released_names(tiny_model))}, path)
        assert_same(load_checkpoint(path, ema=True).tensors, tiny_model)
        assert list(load_checkpoint(path).tensors) == ["patch_embed.proj.weight"]

    def test_alone_wants_the_option(self, path, tiny_model):
        torch.save({"model_ema": released_names(tiny_model)}, path)
        with pytest.raises(CheckpointError, match=r"holds averaged weights alone \(model_ema\); take them with --ema"):
            load_checkpoint(path)

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
        with pytest.raises(CheckpointError, match="has no model_ema; it holds: cls_token, head"):
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


def zip_of(data_pkl, path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data_pkl)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")


class TestBounds:
    """What a small file may ask for."""

    @pytest.mark.parametrize("door", [zip_of, lambda data, path: path.write_bytes(data)], ids=["zip", "raw"])
    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"\x80\x02}" + b")" + b"\x85" * 100_000 + b"K\x01s.", "its pickle nests more than 500 deep"),
            (b"\x80\x02}" + b"]" * 1000 + b"a" * 999 + b"K\x01s.", "its pickle nests more than 500 deep"),
            (b"\x80\x02}r\xff\xff\xff\x7f.", "its pickle numbers an object 2147483647"),
            (b"\x80\x02c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R.", r"asks for builtins\.bytearray, which is"),
            (b"\x80\x02c" + b"a" * 10**6 + b"\nb\n.", r"asks for aaa.* \.\.\. .*a\.b, which is code"),
            (b"\x80\x02X\xff\xff\xff\x7fabc.", "damaged PyTorch file"),
            (b"\x80\x02}0" + b"0" * 9, "damaged PyTorch file"),
            (b"\x80\x02h\x05.", "damaged PyTorch file"),
        ],
        ids=["tuples", "lists", "memo", "bytearray", "name", "text", "stack", "no such object"],
    )
    def test_a_hostile_pickle(self, path, door, data, message):
        door(data, path)
        with pytest.raises(CheckpointError, match=message) as caught:
            load_checkpoint(path)
        assert len(str(caught.value)) < 700

    @pytest.mark.parametrize("door", [zip_of, lambda data, path: path.write_bytes(data)], ids=["zip", "raw"])
    @pytest.mark.parametrize("name", [b"cargparse\nNamespace\n", b"cnumpy\nndarray\n", b"cnumpy\ndtype\n"])
    def test_data_without_contents(self, path, door, name):
        door(b"\x80\x02}(X\x04\x00\x00\x00args" + name + b")\x81X\x01\x00\x00\x00b" + name + b"u.", path)
        with pytest.raises(CheckpointError, match="holds no state dict; it holds: args, b"):
            load_checkpoint(path)

    def test_too_many_operations(self, path, monkeypatch):
        monkeypatch.setattr("vimdeploy.torch_file._OPERATIONS", 100)
        zip_of(b"\x80\x02" + b"}" * 200 + b".", path)
        with pytest.raises(CheckpointError, match="its pickle has more than 100 operations"):
            load_checkpoint(path)

    def test_a_zip_that_unpacks_to_much_more(self, path, tiny_pth):
        with zipfile.ZipFile(tiny_pth) as archive, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
            for name in archive.namelist():
                bomb.writestr(name, archive.read(name) + bytes(10**7 if name.endswith("data.pkl") else 0))
        with pytest.raises(CheckpointError, match=r"its \d+ bytes would unpack to 10\d{6}; weights alone are not like"):
            load_checkpoint(path)

    def test_a_zip_that_was_packed_again(self, path, tiny_pth, tiny_model):
        with zipfile.ZipFile(tiny_pth) as archive, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for name in archive.namelist():
                packed.writestr(name, archive.read(name))
        assert_same(load_checkpoint(path).tensors, tiny_model)

    def test_a_program_of_torchscript(self, path):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/data.pkl", b"\x80\x02}.")
            archive.writestr("a/constants.pkl", b"\x80\x02).")
        with pytest.raises(CheckpointError, match=r"asks for torch\.jit\.ScriptModule, which is code"):
            load_checkpoint(path)

    @pytest.mark.parametrize(
        "tensor", [torch.ones(1).expand(10**9), torch.ones(1).expand(10**9, 10**9), torch.ones(1000).unfold(0, 900, 1)]
    )
    def test_values_that_stand_for_many(self, path, tensor):
        torch.save({"head.weight": tensor}, path)
        with pytest.raises(
            CheckpointError, match=r"its \d+ bytes hold tensors of \d+ bytes: values that stand for many"
        ):
            load_checkpoint(path)

    @pytest.mark.parametrize(
        "content", [{"a" * 10**6: 1}, {str(i) * 500: i for i in range(5000)}], ids=["long", "many"]
    )
    def test_long_names_are_shortened(self, path, content):
        torch.save(content, path)
        with pytest.raises(CheckpointError, match="holds no state dict") as caught:
            load_checkpoint(path)
        assert len(str(caught.value)) < 1000

    def test_attributes_that_a_file_gives_a_tensor_are_dropped(self, path):
        tensor = torch.ones(2, 2)
        tensor.to = "nowhere"
        torch.save({"head.weight": tensor}, path)
        assert not vars(load_checkpoint(path).tensors["head.weight"])

    @pytest.mark.parametrize(
        ("header", "reason"),
        [
            ({"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}, "incomplete metadata"),
            ({"dtype": "F32", "shape": [10**18, 10**18], "data_offsets": [0, 8]}, "overflow"),
            ({"dtype": "Q7", "shape": [2], "data_offsets": [0, 8]}, "unknown variant `Q7`"),
        ],
        ids=str,
    )
    def test_a_safetensors_file_that_lies(self, path, header, reason):
        text = json.dumps({"head.weight": header}).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
        with pytest.raises(CheckpointError, match=f"damaged safetensors file .*{reason}"):
            load_checkpoint(path)

    def test_a_safetensors_header_of_any_length(self, path):
        path.write_bytes((1 << 62).to_bytes(8, "little") + b"{}")
        with pytest.raises(CheckpointError, match=r"damaged safetensors file \(.*header too large"):
            load_checkpoint(path)


class TestUnreadable:
    @pytest.mark.parametrize("name", ["\0", "x" * 5000], ids=["null", "long"])
    def test_a_name_that_no_file_has(self, name):
        with pytest.raises(CheckpointError, match="cannot be read") as caught:
            load_checkpoint(name)
        assert len(str(caught.value)) < 500

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
    def test_a_pipe_is_not_waited_for(self, path):
        os.mkfifo(path)
        with pytest.raises(CheckpointError, match="cannot be read: it is a device, a pipe or a socket"):
            load_checkpoint(path)

    @pytest.mark.skipif(not pathlib.Path("/dev/zero").exists(), reason="this system has no /dev/zero")
    def test_a_device_is_not_read(self):
        with pytest.raises(CheckpointError, match="cannot be read: it is a device, a pipe or a socket"):
            load_checkpoint("/dev/zero")

    def test_more_bytes_than_any_checkpoint_has(self, path):
        path.write_bytes(b"PK\3\4")
        os.truncate(path, 17 << 30)
        with pytest.raises(CheckpointError, match="has more than 16 GiB; save the state dict alone"):
            load_checkpoint(path)

    def test_a_folder_that_is_closed(self, path, tiny_pth, monkeypatch):
        def refuse(self, *args):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(pathlib.Path, "open", refuse)
        with pytest.raises(CheckpointError, match=r"tiny\.pth cannot be read: Permission denied\.$"):
            load_checkpoint(tiny_pth)

    def test_a_pickle_protocol_that_torch_does_not_read(self, path, tiny_model):
        torch.save(released_names(tiny_model), path, pickle_protocol=4)
        with pytest.raises(CheckpointError, match="its pickle_protocol is not 2"):
            load_checkpoint(path)

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
        with pytest.raises(MissingPackageError, match=r"pip install '.*\[export\]'"):
            load_checkpoint(tiny_pth)


class TestHub:
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
            CheckpointError, match=r"hf://o/r/a\.pth could not be downloaded \(404 Client Error and much more\); fetch"
        ):
            load_checkpoint("hf://o/r/a.pth")

    def test_without_the_package(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "huggingface_hub", None)
        with pytest.raises(MissingPackageError, match=r"pip install '.*\[hub\]'"):
            load_checkpoint("hf://o/r")
