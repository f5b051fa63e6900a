"""The fashion sample: its pictures, the reader of the published files, its training scan, and what its model finds."""

import dataclasses
import gzip
import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.loading import ROOT, script
from PIL import Image

from vimdeploy.artifact import artifact_from_onnx
from vimdeploy.checkpoint import load_checkpoint
from vimdeploy.errors import ImageError
from vimdeploy.exporters.onnx_graph import onnx_from_model
from vimdeploy.inputs import folder_inputs, picture_inputs
from vimdeploy.models import variant_by_name
from vimdeploy.networks import network_of_variant
from vimdeploy.ops.torch_ops import scan_of_tokens
from vimdeploy.runtimes.onnxruntime import OnnxRuntimeSession

FASHION = ROOT / "samples" / "fashion"
RIGHT = 1794
"""The right answers to the 2000 test pictures, as the README says."""


@pytest.fixture(scope="module", autouse=True)
def _as_the_scripts_are_run():
    """Python puts a script's folder at the head of its path; they import each other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FASHION))
        yield


@pytest.fixture(scope="module")
def pictures():
    return script("samples/fashion/pictures.py")


@pytest.fixture(scope="module")
def published():
    return script("samples/fashion/published.py")


@pytest.fixture(scope="module")
def variant():
    return variant_by_name(str(FASHION / "fashion.json"))


@pytest.fixture(scope="module")
def network(variant):
    return network_of_variant(variant, load_checkpoint(FASHION / "fashion.safetensors"))


@pytest.fixture(scope="module")
def logits(network, pictures):
    """``logits(precision)`` -> (2000, 10), by ONNX Runtime and the operator library."""
    images = [Image.fromarray(picture) for picture in pictures.pictures_and_classes()[0]]

    def of(precision):
        info = dataclasses.replace(network.info, precision=precision)
        artifact = artifact_from_onnx(onnx_from_model(network.module, info))
        session = OnnxRuntimeSession(artifact, threads=1, operators="library")
        return np.concatenate([session.run(batch)["logits"] for batch in picture_inputs(images, info).batches(100)])

    return of


@pytest.fixture(scope="module")
def float32_logits(logits):
    return logits("fp32")


@pytest.mark.parametrize(
    ("part", "counts"),
    [
        ("test", [200, 203, 214, 190, 219, 195, 197, 200, 194, 188]),
        ("calibration", [52, 54, 47, 49, 53, 51, 53, 49, 50, 42]),
    ],
)
def test_pictures_that_are_kept(pictures, part, counts):
    images, classes = pictures.pictures_and_classes(part)
    assert images.shape == (sum(counts), 28, 28)
    np.testing.assert_array_equal(np.bincount(classes), counts)


def test_pictures_as_files(pictures, network, tmp_path):
    assert pictures.write_files(tmp_path, "calibration") == 500
    folder = folder_inputs(tmp_path, network.info)
    images, classes = pictures.pictures_and_classes("calibration")
    numbers = [int(Path(name).stem) for name in folder.names]
    np.testing.assert_array_equal(folder.classes, classes[numbers])
    with Image.open(folder.names[0]) as picture:
        np.testing.assert_array_equal(np.asarray(picture), images[numbers[0]])


def test_what_is_packed_is_read_again(pictures, monkeypatch, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (100, 28, 28), dtype=np.uint8)
    classes = np.arange(100) % 10
    pack = script("samples/fashion/pack.py")
    monkeypatch.setattr(pack, "HERE", tmp_path)
    monkeypatch.setattr(pictures, "HERE", tmp_path)
    pack.pack(images, classes, "test")
    for found, wanted in zip(pictures.pictures_and_classes(), (images, classes), strict=True):
        np.testing.assert_array_equal(found, wanted)


def published_files(published, folder):
    """A part of three pictures in the published format, in a folder."""
    pixels = np.arange(3 * 28 * 28, dtype=np.uint8)
    contents = {"pictures.gz": bytes(16) + pixels.tobytes(), "classes.gz": bytes(8) + bytes([9, 0, 2])}
    for name, content in contents.items():
        (folder / name).write_bytes(gzip.compress(content))
    files = [(name, hashlib.sha256(content).hexdigest()) for name, content in contents.items()]
    return published.Part(*files), pixels.reshape(3, 28, 28)


def test_published_files(published, tmp_path):
    part, wanted = published_files(published, tmp_path)
    images, classes = published.read_part(tmp_path, part)
    np.testing.assert_array_equal(images, wanted)
    assert classes.tolist() == [9, 0, 2]


def test_a_folder_without_the_files_is_told_how_to_get_them(published, tmp_path):
    sentence = r"Wanted train-images-idx3-ubyte.gz of Fashion-MNIST in .*nowhere: No such file.*apt install.*github"
    with pytest.raises(ImageError, match=sentence):
        published.read_part(tmp_path / "nowhere", published.TRAINING)


@pytest.mark.parametrize("arguments", [("training.py", "nowhere", "weights"), ("pack.py", "nowhere")])
def test_scripts_say_it_in_a_sentence(arguments, tmp_path):
    name, *rest = arguments
    done = subprocess.run([sys.executable, FASHION / name, *rest], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("Wanted ")
    assert len(done.stderr.splitlines()) == 1


def test_a_file_cut_short_is_refused(published, tmp_path):
    part, _ = published_files(published, tmp_path)
    content = (tmp_path / "pictures.gz").read_bytes()
    (tmp_path / "pictures.gz").write_bytes(content[:-10])
    with pytest.raises(ImageError, match=r"pictures.gz is damaged or was cut short \(.+\); apt install"):
        published.read_part(tmp_path, part)


def test_a_file_that_is_not_compressed_is_refused(published, tmp_path):
    part, _ = published_files(published, tmp_path)
    (tmp_path / "pictures.gz").write_bytes(b"<html>not found</html>")
    with pytest.raises(ImageError, match=r"Wanted pictures.gz of Fashion-MNIST in .*: Not a gzipped file"):
        published.read_part(tmp_path, part)


def test_another_file_of_the_name_is_refused(published, tmp_path):
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(16)))
    wanted = dict([published.TEST.pictures])["t10k-images-idx3-ubyte.gz"][:16]
    with pytest.raises(ImageError, match=rf"wanted SHA-256 {wanted}..., found 374708fff7719dd5... over its 16 bytes"):
        published.read_part(tmp_path, published.TEST)


def test_training_scan_is_the_reference_with_its_gradients():
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler")
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 3, 7, 5), (2, 3, 7, 5), (2, 5, 4), (2, 3, 7, 4), (2, 3, 7, 4))
    inputs = [torch.rand(*shape, generator=generator).requires_grad_() for shape in shapes]
    weight = torch.rand(2, 3, 7, 5, generator=generator)
    found = script("samples/fashion/training_scan.py").TrainingScan.apply(*inputs)
    wanted = scan_of_tokens(*inputs)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)  # c++ -ffast-math: sums in another order
    for gradients in zip(*(torch.autograd.grad((y * weight).sum(), inputs) for y in (found, wanted)), strict=True):
        torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_finds_as_many_as_the_readme_says(float32_logits, pictures):
    right = int((float32_logits.argmax(1) == pictures.pictures_and_classes()[1]).sum())
    assert abs(right - RIGHT) <= 2  # a borderline picture may fall the other way on another instruction set
    assert f"{RIGHT} of the 2000" in (FASHION / "README.md").read_text()


@pytest.mark.slow
def test_float16_gives_the_same_answers(logits, float32_logits):
    assert (logits("fp16").argmax(1) == float32_logits.argmax(1)).mean() >= 0.999


def test_the_weights_are_small_enough_to_ship():
    assert (FASHION / "fashion.safetensors").stat().st_size < 1_000_000


def test_each_published_file_has_its_checksum(published):
    files = (*vars(published.TRAINING).values(), *vars(published.TEST).values())
    assert all(re.fullmatch(r"[0-9a-f]{64}", sha256) for _, sha256 in files)
    assert len({sha256 for _, sha256 in files}) == 4
