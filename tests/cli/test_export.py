import argparse
import dataclasses
import errno
import functools
import hashlib
import json
import os
import re
import signal

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from helpers.released import released_names

import vimdeploy
from vimdeploy.artifact import open_artifact
from vimdeploy.cli import main
from vimdeploy.cli.export import export
from vimdeploy.model_info import FromCheckpoint, FromSeed
from vimdeploy.models import VARIANTS
from vimdeploy.models.heads.classification import Classifier
from vimdeploy.models.variant import Variant
from vimdeploy.models.vim.network import Vim, resize_pos_embed
from vimdeploy.networks import network_of_variant
from vimdeploy.recipe import Recipe
from vimdeploy.runtimes.eager import EagerSession
from vimdeploy.runtimes.onnxruntime import OnnxRuntimeSession
from vimdeploy.tasks.pyramid import NECKS


@pytest.fixture
def output(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder / "model.onnx"


def weight(path, name):
    model = open_artifact(path).model
    return next(onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name == name)


@pytest.fixture(scope="module")
def export_once(tmp_path_factory, tiny_json):
    """``export_once(option, value, ...)`` -> the file, written by the command, and the command's result."""

    @functools.cache
    def export(*options):
        path = tmp_path_factory.mktemp("exported") / "model.onnx"
        arguments = ["export", tiny_json, *options, "-o", path]
        return path, CliRunner().invoke(main, [str(argument) for argument in arguments])

    return export


@pytest.mark.slow
def test_pictures_of_bytes(export_once, invoke, tiny_pth, picture):
    answers = []
    for options in (("--uint8-input",), ()):
        path, result = export_once("-c", tiny_pth, *options)
        assert result.exit_code == 0, result.output
        answers.append(json.loads(invoke("run", path, picture, "--json").stdout)["images"])
    assert answers[0] == answers[1]
    path, _ = export_once("-c", tiny_pth, "--uint8-input")
    assert json.loads(invoke("inspect", path, "--json").stdout)["model"]["inputs"] == {
        "images": {"dims": ["batch", 32, 32, 3], "type": "uint8"}
    }
    verified = invoke("verify", path, "-c", tiny_pth)
    assert verified.exit_code == 0, verified.output


class TestPortable:
    @pytest.mark.parametrize(
        ("options", "form"), [((), "portable"), (("--no-loops", "--batch", 3), "unrolled")], ids=str
    )
    def test_is_written_and_told(self, export_once, tiny_pth, tiny_network, options, form):
        path, result = export_once("-c", tiny_pth, "--portable", *options)
        assert result.exit_code == 0, result.output
        assert f"tiny, classification, 32x32, fp32, {form}, " in result.stdout
        assert "Largest error against PyTorch: ONNX Runtime (cpu) " in result.stdout
        images = np.random.default_rng(0).standard_normal((2, 3, 32, 32), dtype=np.float32)
        wanted = EagerSession(tiny_network).run(images)["logits"]
        np.testing.assert_allclose(vimdeploy.load(path).run(images)["logits"], wanted, atol=1e-3 * wanted.std())

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--portable", "--image-size", "dynamic"), "that leaves height and width free; export it at one size"),
            (("--batch", 2), "for portable files: add --portable"),
            (("--no-loops",), "for portable files: add --portable"),
            (("--portable", "--batch", 0), "--batch"),
        ],
        ids=str,
    )
    def test_wrong_options(self, invoke, tiny_json, tiny_pth, output, options, message):
        result = invoke("export", tiny_json, "-c", tiny_pth, "-o", output, *options)
        assert (result.exit_code, result.stdout, list(output.parent.iterdir())) == (2, "", [])
        assert message in result.stderr


class TestFromCheckpoint:
    @pytest.fixture
    def exported(self, export_once, tiny_pth):
        return export_once("-c", tiny_pth)

    def test_the_file_answers_as_pytorch(self, exported, tiny_network):
        session = vimdeploy.load(exported[0], operators="function body")
        images = np.random.default_rng(0).standard_normal((2, 3, 32, 32), dtype=np.float32)
        wanted = EagerSession(tiny_network).run(images)["logits"]
        np.testing.assert_allclose(session.run(images)["logits"], wanted, atol=1e-3 * wanted.std())

    def test_says_what_was_written_and_how_near_it_is(self, exported):
        path, result = exported
        first, second = result.stdout.splitlines()
        assert first.startswith(f"{path}: tiny, classification, 32x32, ")
        assert re.search(r"Largest error against PyTorch: ONNX .* standard deviations \(logits\)", second)
        assert "ONNX Runtime (function body, cpu) " in second

    def test_the_steps_are_told_on_standard_error(self, exported):
        assert [line.partition(":")[0] for line in exported[1].stderr.splitlines()] == [
            "Making the model",
            "Tracing the model",
            "Comparing with PyTorch",
            "Next",
        ]

    def test_the_next_command_is_named(self, exported):
        path, result = exported
        assert result.stderr.splitlines()[-1] == f"Next: vimdeploy run {path} PICTURE"

    def test_the_file_names_its_checkpoint(self, exported, tiny_pth):
        digest = hashlib.sha256(tiny_pth.read_bytes()).hexdigest()
        assert open_artifact(exported[0]).info.origin == FromCheckpoint(digest)

    def test_ema_takes_the_averaged_weights(self, export_once, tiny, tiny_pth):
        path, _ = export_once("-c", tiny_pth, "--ema")
        averaged = network_of_variant(tiny, 1).module.state_dict()
        np.testing.assert_array_equal(weight(path, "head.weight"), averaged["head.weight"])
        assert open_artifact(path).info.origin.ema


@pytest.mark.slow
class TestOptions:
    @pytest.fixture
    def exported(self, export_once, tiny_pth, tmp_path_factory):
        labels = tmp_path_factory.getbasetemp() / "labels.txt"
        labels.write_text("one\ntwo\nthree\nfour\nfive\n")
        path, _ = export_once("-c", tiny_pth, "--labels", labels, "--image-size", "48x64", "--opset", 22)
        return path

    def test_labels_are_kept(self, exported):
        assert open_artifact(exported).info.labels == ("one", "two", "three", "four", "five")

    def test_opset(self, exported):
        opsets = {entry.domain: entry.version for entry in open_artifact(exported).model.opset_import}
        assert opsets == {"": 22, "vimdeploy": 1}

    def test_another_image_size_resizes_the_position_embedding(self, exported, tiny, tiny_model):
        config = tiny.config.replace(image_size=(48, 64))
        wanted = resize_pos_embed(tiny_model.backbone.pos_embed.detach(), tiny.config, *config.grid)
        assert open_artifact(exported).info.image_size == (48, 64)
        np.testing.assert_array_equal(weight(exported, "pos_embed"), wanted)

    def test_so_does_one_of_as_many_patches(self, export_once, tiny_pth, tiny_model):
        """16 x 64 pixels are 2 x 8 patches, as many as the 4 x 4 that were trained, and lie elsewhere."""
        path, _ = export_once("-c", tiny_pth, "--image-size", "16x64")
        assert not np.array_equal(weight(path, "pos_embed"), tiny_model.backbone.pos_embed.detach())


class TestRandomWeights:
    @pytest.fixture
    def exported(self, export_once):
        return export_once("--random-weights", 3)[0]

    def test_the_file_says_so(self, exported):
        assert open_artifact(exported).info.origin == FromSeed(3)

    def test_are_those_of_the_seed(self, exported, tiny):
        wanted = network_of_variant(tiny, 3).module.head.weight.detach()
        np.testing.assert_array_equal(weight(exported, "head.weight"), wanted)


@pytest.mark.slow
class TestPrecision:
    @pytest.mark.parametrize("precision", ["fp16", "bf16"])
    def test_is_the_files(self, export_once, tiny_pth, precision):
        path, result = export_once("-c", tiny_pth, "--precision", precision)
        assert open_artifact(path).info.precision == precision
        assert result.stdout.startswith(f"{path}: tiny, classification, 32x32, {precision}, ")

    def test_is_float32_by_default(self, export_once):
        assert open_artifact(export_once("--random-weights", 3)[0]).info.precision == "fp32"

    @pytest.fixture
    def checkpoint(self, tiny, tmp_path):
        """``checkpoint(D=..., out_proj=...)`` -> a file of the tiny model with these factors on weights of block 1."""

        def save(**factors):
            model = network_of_variant(tiny, 0).module
            with torch.no_grad():
                for name, parameter in model.backbone.layers[1].mixer.named_parameters():
                    parameter *= factors.get(name.partition(".")[0], 1)
            torch.save(released_names(model), tmp_path / "factors.pth")
            return tmp_path / "factors.pth"

        return save

    @pytest.mark.parametrize(
        ("factors", "kept", "fault"),
        [
            ({"out_proj": 1e7}, ["out_proj.MatMul"], "out_proj.MatMul.weight reaches "),
            (
                {"in_proj": 1e3, "x_proj": 1e-3, "x_proj_b": 1e-3, "out_proj": 1e-6},
                ["BidirectionalSelectiveScan", "out_proj.MatMul"],
                "BidirectionalSelectiveScan reaches ",
            ),
        ],
        ids=["weight", "value"],
    )
    @pytest.mark.parametrize("precision", ["fp16", "bf16"])
    def test_what_is_too_large_for_float16_stays_in_float32(
        self, invoke, output, tiny_json, checkpoint, precision, factors, kept, fault
    ):
        path = checkpoint(**factors)
        result = invoke("export", tiny_json, "-c", path, "--precision", precision, "-o", output)
        assert result.exit_code == 0, result.output
        found = open_artifact(output).info.kept_in_float32
        assert list(found) == [f"layers.1.mixer.{name}" for name in kept if precision == "fp16"]
        assert all(f"layers.1.mixer.{fault}" in reason for reason in found.values())
        assert all(name in result.stdout and reason in result.stdout for name, reason in found.items())


def test_an_upstream_name_is_a_variant(invoke, tiny_pth, output):
    name = "vim_tiny_patch16_224_bimambav2_final_pool_mean_abs_pos_embed_with_midclstok_div2"
    result = invoke("export", name, "-c", tiny_pth, "-o", output)
    assert "is not a checkpoint of vim_tiny_patch16_224" in result.stderr


class TestWrongInput:
    """One sentence, exit code 2, and nothing left behind."""

    def refused(self, invoke, output, *arguments):
        result = invoke("export", *arguments, "-o", output)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert not output.parent.is_dir() or list(output.parent.iterdir()) == []
        (error,) = (line for line in result.stderr.splitlines() if line.startswith("Error: "))
        return error

    def test_an_unknown_variant(self, invoke, output):
        error = self.refused(invoke, output, "vim_tiny_patch16", "--random-weights", 0)
        assert "Did you mean vim_tiny_patch16_224?" in error

    def test_no_weights(self, invoke, output):
        error = self.refused(invoke, output, "vim_tiny")
        assert "--pretrained for hf://hustvl/Vim-tiny-midclstok/vim_t_midclstok_76p1acc.pth, --checkpoint FILE" in error

    def test_two_kinds_of_weights(self, invoke, output, tiny_json, tiny_pth):
        error = self.refused(invoke, output, tiny_json, "-c", tiny_pth, "--random-weights", 0)
        assert "Wanted weights from one source: --checkpoint FILE, or --random-weights SEED" in error

    def test_a_download_that_fails(self, invoke, output, hub):
        def fail(*_):
            raise OSError("Name or service not known")

        hub.hf_hub_download = fail
        error = self.refused(invoke, output, "vim_tiny", "--pretrained")
        assert "could not be downloaded (Name or service not known); fetch the file elsewhere" in error

    def test_released_weights_of_somebodys_module(self, invoke, output):
        error = self.refused(invoke, output, "theirs.py:make", "--pretrained")
        assert error == "Error: --pretrained is for models of vimdeploy's own."

    @pytest.mark.parametrize(
        ("content", "message"),
        [(None, "cannot be read: No such file"), (b"", "is empty"), (b"some text", "is not a checkpoint")],
    )
    def test_a_checkpoint_that_is_none(self, invoke, output, tiny_json, tmp_path, content, message):
        checkpoint = tmp_path / "weights.pth"
        if content is not None:
            checkpoint.write_bytes(content)
        assert message in self.refused(invoke, output, tiny_json, "-c", checkpoint)

    def test_a_pickle_that_would_run_code(self, invoke, output, tiny_json, tmp_path):
        class Hostile:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "the code ran"),)

        torch.save({"model": Hostile()}, tmp_path / "weights.pth")
        error = self.refused(invoke, output, tiny_json, "-c", tmp_path / "weights.pth")
        assert "mkdir, which is code and no weights" in error
        assert not (tmp_path / "the code ran").exists()

    def test_a_training_state_that_names_another_model(self, invoke, output, tmp_path):
        config = VARIANTS["vim_tiny_patch16_224"].config
        with torch.device("meta"):
            shapes = released_names(Classifier(Vim(config)))
        state = {name: torch.zeros(tensor.shape) for name, tensor in shapes.items()}
        name = "vim_tiny_patch16_224_bimambav2_final_pool_mean_abs_pos_embed_with_cls_token"
        torch.save({"model": state, "args": argparse.Namespace(model=name)}, tmp_path / "own.pth")
        error = self.refused(invoke, output, "vim_tiny_patch16_224", "-c", tmp_path / "own.pth")
        assert f"was trained as {name} with class_token first, direction_scale 1.0" in error
        assert 'VARIANT: {"config": {"dim": 192, "class_token": "first", "direction_scale": 1.0}}.' in error

    @pytest.mark.parametrize(
        "text", ["[" * 100000, '{"config": {"dim": 10000000}}', '{"config": {"norm_eps": "1e-5"}}']
    )
    def test_a_description_of_no_model(self, invoke, output, tmp_path, text):
        (tmp_path / "mine.json").write_text(text)
        error = self.refused(invoke, output, tmp_path / "mine.json", "--random-weights", 0)
        assert "mine.json does not describe a model: " in error

    def test_a_checkpoint_of_another_variant(self, invoke, output, tmp_path):
        plus = network_of_variant(VARIANTS["vim_tiny_patch16_stride8_224"], 0).module
        torch.save(released_names(plus), tmp_path / "plus.pth")
        error = self.refused(invoke, output, "vim_tiny_patch16_224", "-c", tmp_path / "plus.pth")
        assert error.endswith("this file fits vim_tiny_patch16_stride8_224.")

    def test_a_size_not_divisible_by_the_patch(self, invoke, output):
        error = self.refused(invoke, output, "vim_tiny_patch16_224", "--random-weights", 0, "--image-size", 250)
        assert "do not divide an image height of 250; the nearest that they divide are 240 and 256" in error

    def test_a_size_that_is_none(self, invoke, output):
        error = self.refused(invoke, output, "vim_tiny_patch16_224", "--random-weights", 0, "--image-size", "big")
        assert "wanted a size such as 224 or 384x512" in error

    def test_an_opset_that_is_none(self, invoke, output, tiny_json):
        error = self.refused(invoke, output, tiny_json, "--random-weights", 0, "--opset", 12)
        assert "opset must be 20 to 24, found 12" in error

    def test_too_few_labels(self, invoke, output, tiny_json, tmp_path):
        (tmp_path / "labels.txt").write_text("one\ntwo\n")
        error = self.refused(invoke, output, tiny_json, "--random-weights", 0, "--labels", tmp_path / "labels.txt")
        assert "Wanted 5 labels, one per class; found 2" in error

    def test_a_missing_description(self, invoke, output):
        assert "There is no model description" in self.refused(invoke, output, "none.json", "--random-weights", 0)

    def test_an_output_folder_that_does_not_exist(self, invoke, tiny_json, tmp_path):
        error = self.refused(invoke, tmp_path / "none" / "model.onnx", tiny_json, "--random-weights", 0)
        assert "none for model.onnx does not exist; create it first" in error

    def test_a_full_disk(self, invoke, output, tiny_json, monkeypatch):
        def fsync(_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", fsync)
        result = invoke("export", tiny_json, "--random-weights", 0, "-o", output)
        assert result.exit_code == 2
        assert result.stderr.splitlines()[-1].endswith("No space left on device; nothing was left behind.")
        assert list(output.parent.iterdir()) == []

    def test_no_output(self, invoke):
        result = invoke("export", "vim_tiny_patch16_224", "--random-weights", 0)
        assert (result.exit_code, "Missing option '-o'" in result.stderr) == (2, True)


def test_a_wrapped_checkpoint_of_four_channels(invoke, output, tmp_path, tiny):
    """As Lightning saves one beside its loss; hustvl/Vim's own are of three channels."""
    config = tiny.config.replace(in_channels=4)
    recipe = Recipe(mean=(0.5,) * 4, std=(0.2,) * 4)
    tensors = released_names(network_of_variant(Variant("mine", "vim", config, recipe), 0).module)
    state = {f"model._orig_mod.{name}": tensor for name, tensor in tensors.items()} | {"loss.weight": torch.ones(5)}
    torch.save({"epoch": 1, "state_dict": state}, tmp_path / "last.ckpt")
    described = {"config": dataclasses.asdict(config), "recipe": dataclasses.asdict(recipe), "labels": [0, 1, 2, 3, 4]}
    (tmp_path / "mine.json").write_text(json.dumps(described))
    result = invoke("export", tmp_path / "mine.json", "-c", tmp_path / "last.ckpt", "-o", output)
    assert result.exit_code == 0, result.output
    assert "Passed over in the checkpoint: loss.weight" in result.stdout
    info = open_artifact(output).info
    assert (info.channels, info.labels) == (4, ("0", "1", "2", "3", "4"))


def test_a_model_that_answers_otherwise_is_not_written(invoke, output, tiny_json, monkeypatch):
    right = OnnxRuntimeSession._run

    def wrong(self, inputs):
        return {name: values + 1 for name, values in right(self, inputs).items()}

    monkeypatch.setattr(OnnxRuntimeSession, "_run", wrong)
    result = invoke("export", tiny_json, "--random-weights", 0, "-o", output)
    assert result.exit_code == 1
    assert "Error: The file does not answer as PyTorch does" in result.stderr
    assert list(output.parent.iterdir()) == []


def test_an_interrupt_that_the_exporter_took_for_an_error_is_one(invoke, output, tiny_json, monkeypatch):
    def interrupted(*_):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as interrupt:
            raise RuntimeError("Failed to export the model") from interrupt

    monkeypatch.setattr("vimdeploy.exporters.onnx_graph.onnx_from_model", interrupted)
    result = invoke("export", tiny_json, "--random-weights", 0, "-o", output)
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (130, "Interrupted.")
    assert list(output.parent.iterdir()) == []


@pytest.mark.slow
class TestTasksAndSizes:
    def test_features_of_every_size(self, export_once, tiny_pth):
        path, result = export_once("-c", tiny_pth, "--task", "features", "--blocks", "0,1", "--image-size", "dynamic")
        info = open_artifact(path).info
        assert [spec.name for spec in info.outputs] == ["map", "pooled", "block_0", "block_1"]
        assert info.image_size == ("height", "width")
        assert "Passed over in the checkpoint: head.bias, head.weight" in result.stdout

    def test_bounds_of_the_size(self, export_once):
        path, _ = export_once("--random-weights", 3, "--image-size", "24,64X80")
        sizes = open_artifact(path).info.sizes
        assert [(sizes[side].least, sizes[side].most) for side in ("height", "width")] == [(24, 64), (24, 80)]

    def test_as_json(self, export_once):
        path, result = export_once("--random-weights", 3, "--json")
        document = json.loads(result.stdout)
        assert (document["output"], document["bytes"]) == (str(path), path.stat().st_size)
        assert all(side["passed"] for side in document["parity"])
        assert document["model"]["outputs"] == {"logits": {"dims": ["batch", 5], "type": "float32"}}

    def test_blocks_of_a_classifier_are_refused(self, invoke, output, tiny_json):
        result = invoke("export", tiny_json, "--random-weights", 0, "--blocks", "1", "-o", output)
        assert (result.exit_code, "blocks are for the task features" in result.stderr) == (2, True)

    def test_the_checkpoint_is_no_output(self, invoke, tiny_json, tiny_pth):
        before = tiny_pth.read_bytes()
        result = invoke("export", tiny_json, "-c", tiny_pth, "-o", tiny_pth)
        assert (result.exit_code, tiny_pth.read_bytes()) == (2, before)
        assert "would be written over" in result.stderr


def test_the_necks_to_choose_are_those_that_there_are():
    """They are written twice, because the help of a command imports nothing heavy."""
    [neck] = [option for option in export.params if option.name == "neck"]
    assert list(neck.type.choices) == list(NECKS)
