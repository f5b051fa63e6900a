"""The C++ program: it compiles against TensorRT's headers, and prepares pictures as vimdeploy does."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from helpers.loading import ROOT
from PIL import Image

from vimdeploy.preprocess import tensor_from_image
from vimdeploy.recipe import Recipe

SAMPLE = ROOT / "samples" / "cpp_tensorrt"
WARNINGS = ("-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror")
PRINT_TENSOR = """
#include "picture.h"
#include <cstdio>
int main(int, char** arguments) {
  try {
    const auto tensor = tensor_from(read_ppm(arguments[1]), std::stoi(arguments[2]), std::stoi(arguments[3]));
    std::fwrite(tensor.data(), sizeof(float), tensor.size(), stdout);
  } catch (const std::exception& problem) {
    std::fputs(problem.what(), stderr);
    return 1;
  }
}
"""


@pytest.fixture(scope="module")
def compiler():
    return shutil.which("c++") or pytest.skip("no C++ compiler")


@pytest.fixture(scope="module")
def print_tensor(compiler, tmp_path_factory):
    """A program that writes a picture's tensor to standard output."""
    folder = tmp_path_factory.mktemp("picture")
    (folder / "print.cpp").write_text(PRINT_TENSOR)
    command = [compiler, "-std=c++17", "-O1", *WARNINGS, f"-I{SAMPLE}", "print.cpp", "-o", "print"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "print"


@pytest.mark.parametrize(
    ("picture", "wanted"),
    [((320, 240), (224, 224)), ((150, 333), (224, 224)), ((65, 64), (64, 64)), ((500, 301), (96, 160))],
    ids=str,
)
def test_picture_becomes_the_tensor_that_vimdeploy_makes(print_tensor, picture, wanted, tmp_path):
    width, height = picture
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image.save(tmp_path / "picture.ppm")
    recipe = Recipe()
    command = [print_tensor, tmp_path / "picture.ppm", str(wanted[0]), str(wanted[1])]
    found = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.float32)
    expected = tensor_from_image(image, (wanted[1], wanted[0]), recipe)
    # Pillow's weights have a limited number of bits: a value may round to the next of 255.
    np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=1.01 / 255 / min(recipe.std))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"P5 2 2 255\n1234", "no binary PPM"),
        (b"P6 2 x 255\n1234", "no binary PPM"),
        (b"P6 2 2 65535\n1234", "no binary PPM"),
        (b"", "no binary PPM"),
        (b"P6\n# made by hand\n2 2\n255\n1234", "ends before its last pixel"),
    ],
)
def test_a_file_that_is_no_picture_is_refused(print_tensor, content, sentence, tmp_path):
    path = tmp_path / "picture.ppm"
    path.write_bytes(content)
    done = subprocess.run([print_tensor, path, "8", "8"], capture_output=True, text=True)
    assert done.returncode == 1
    assert sentence in done.stderr


def test_it_compiles_against_tensorrts_headers(tmp_path):
    roots = [Path(root) / "include" for root in (os.environ.get("TENSORRT_ROOT"), "/usr") if root]
    roots += [Path("/usr/include") / f"{machine}-linux-gnu" for machine in ("x86_64", "aarch64")]
    tensorrt = next((root for root in roots if (root / "NvInfer.h").is_file()), None)
    if tensorrt is None:
        pytest.skip("TensorRT's headers were not found; TENSORRT_ROOT names the folder above include")
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("CUDA's compiler nvcc, which knows where CUDA's headers are, is not on PATH")
    command = [nvcc, "-x", "c++", "-std=c++17", f"-Xcompiler={','.join(WARNINGS)}", "-isystem", tensorrt]
    subprocess.run([*command, "-c", SAMPLE / "main.cpp", "-o", tmp_path / "main.o"], check=True)
